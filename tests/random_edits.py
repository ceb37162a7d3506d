"""Random pipelines and random edits of them: each takes a pipeline and chance, and gives the pipeline as it is then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from pipeline_models import (
    Call,
    Constant,
    Expression,
    Given,
    Helper,
    Input,
    Made,
    Module,
    Name,
    Num,
    Operation,
    Output,
    Parameter,
    Pipeline,
    Step,
    Stored,
    Variable,
    chance_from,
    parts,
    replaced,
)

Edit = Callable[[Pipeline, Random], Pipeline]
FORMATS = (None, None, None, "json", "file.txt", "dir")
FOLDERS = ("data/many", "data/more")


def imagine(chance: Random) -> Pipeline:
    """Get a random pipeline of a few steps."""
    files = [(f"data/f{each}.json", str(chance.randrange(100))) for each in range(2)]
    files += [(f"{folder}/{name}", str(chance.randrange(100))) for folder in FOLDERS for name in ("a.txt", "b.txt")]
    pipeline = Pipeline(
        steps=(),
        helpers=(),
        constants=tuple(Constant(f"C{each}", chance.randrange(100), each % 2) for each in range(2)),
        modules=(),
        parameters=tuple(Parameter(f"p{each}", chance.randrange(5)) for each in range(2)),
        files=tuple(sorted(files)),
    )
    for name in ("m0", "m1", "kit.m2"):
        code = expression(chance, [Name("x"), *_modules(pipeline)])
        pipeline = dataclasses.replace(pipeline, modules=(*pipeline.modules, Module(name, code)))
    for each in range(3):
        code = expression(chance, [Name("x"), *_names(pipeline), *_calls(pipeline)])
        pipeline = dataclasses.replace(pipeline, helpers=(*pipeline.helpers, Helper(f"h{each}", code)))
    for _ in range(chance.randrange(2, 6)):
        pipeline = add_step(pipeline, chance)
    return pipeline


def expression(chance: Random, leaves: list[Expression]) -> Expression:
    """Get a small expression; a call among the leaves is given another one of them."""
    picked = [leaf if not isinstance(leaf, Call) else _call(leaf, chance, leaves) for leaf in
              chance.choices(leaves, k=chance.randrange(1, 3))]  # fmt: skip
    code: Expression = Num(chance.randrange(2, 100))
    for leaf in picked:
        code = Operation(chance.choice("+-*"), leaf, code)
    return code


def _call(leaf: Call, chance: Random, leaves: list[Expression]) -> Expression:
    plain = [other for other in leaves if not isinstance(other, Call)]
    return Call(leaf.function, chance.choice([*plain, Num(chance.randrange(100))]))


def _names(pipeline: Pipeline) -> list[Expression]:
    return [Name(item.name) for item in (*pipeline.parameters, *pipeline.constants)]


def _modules(pipeline: Pipeline) -> list[Expression]:
    return [Call(item.last, Num(0)) for item in pipeline.modules]


def _calls(pipeline: Pipeline) -> list[Expression]:
    return [*_modules(pipeline), *(Call(item.name, Num(0)) for item in pipeline.helpers)]


def _leaves(pipeline: Pipeline, step: Step) -> list[Expression]:
    given: list[Expression] = [Given(item.uid) for item in step.inputs]
    variable: list[Expression] = [Variable()] if step.variable else []
    return [*given, *given, *variable, *_names(pipeline), *_calls(pipeline)]


def _fresh(pipeline: Pipeline) -> int:
    """Get a number that nothing has yet."""
    used = [step.uid for step in pipeline.steps]
    used += [item.uid for step in pipeline.steps for item in (*step.inputs, *step.outputs)]
    return max(used, default=0) + 1


# Steps


def add_step(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Add a step that reads some of what is there."""
    uid = _fresh(pipeline)
    step = Step(uid, f"s{uid}", (), (), variable=chance.random() < 0.4, inner=chance.random() < 0.2)
    for _ in range(chance.randrange(3)):
        step = _with_input(pipeline, step, chance)
    outputs = [
        Output(each, f"o{each}", chance.choice(FORMATS), expression(chance, _leaves(pipeline, step)))
        for each in range(uid + 10, uid + 10 + chance.choice((1, 1, 2)))
    ]
    step = dataclasses.replace(step, outputs=tuple(outputs))
    return dataclasses.replace(pipeline, steps=(*pipeline.steps, step))


def _with_input(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    source = _source(pipeline, step, chance)
    uid = max([step.uid, *(item.uid for item in step.inputs)]) + 1
    alias = None if isinstance(source, Made) and chance.random() < 0.6 else f"i{uid}"
    item = Input(uid, alias, source)
    if alias is None and pipeline.alias(item) in {pipeline.alias(other) for other in step.inputs}:
        item = dataclasses.replace(item, alias=f"i{uid}")
    return dataclasses.replace(step, inputs=(*step.inputs, item))


def _source(pipeline: Pipeline, step: Step, chance: Random) -> Made | Stored:
    made = [Made(other.uid, item.uid) for other in pipeline.steps if other.uid < step.uid for item in other.outputs]
    if made and chance.random() < 0.7:
        return chance.choice(made)
    kind = chance.choice(("file", "json", "folder", "glob"))
    if kind in ("folder", "glob"):
        return Stored(kind, chance.choice(FOLDERS))
    return Stored(kind, chance.choice(_single(pipeline)))


def _single(pipeline: Pipeline) -> list[str]:
    return [path for path, _ in pipeline.files if path.count("/") == 1]


def add_twin(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Add a copy of a step: another name, the same result."""
    uid, step = _fresh(pipeline), chance.choice(pipeline.steps)
    outputs = tuple(dataclasses.replace(item, uid=uid + 10 + each) for each, item in enumerate(step.written))
    order = [step.written.index(item) for item in step.outputs]
    twin = dataclasses.replace(step, uid=uid, name=f"s{uid}", outputs=tuple(outputs[place] for place in order))
    return dataclasses.replace(pipeline, steps=(*pipeline.steps, twin))


def delete_step(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Take a step away; where it was read stands a number."""
    if len(pipeline.steps) < 2:
        return pipeline
    gone = chance.choice(pipeline.steps)
    kept = dataclasses.replace(pipeline, steps=tuple(step for step in pipeline.steps if step is not gone))
    for step in kept.steps:
        lost = [item for item in step.inputs if isinstance(item.source, Made) and item.source.step == gone.uid]
        left = tuple(item for item in step.inputs if item not in lost)
        without = dataclasses.replace(step, inputs=left, after=tuple(uid for uid in step.after if uid != gone.uid))
        for item in lost:
            without = _rewritten(without, Given(item.uid), Num(1))
        kept = kept.with_step(without)
    return kept


def _rewritten(step: Step, old: Expression, new: Expression) -> Step:
    outputs = tuple(dataclasses.replace(item, code=replaced(item.code, old, new)) for item in step.outputs)
    return dataclasses.replace(step, outputs=outputs)


def of_step(change: Callable[[Pipeline, Step, Random], Step]) -> Edit:
    """Get the edit that changes one step."""

    def edit(pipeline: Pipeline, chance: Random) -> Pipeline:
        return pipeline.with_step(change(pipeline, chance.choice(pipeline.steps), chance))

    return edit


def _numbers(*code: Expression) -> list[Num]:
    return [part for each in code for part in parts(each) if isinstance(part, Num)]


def change_number(_: Pipeline, step: Step, chance: Random) -> Step:
    """Change a number in the code."""
    numbers = _numbers(*(item.code for item in step.outputs))
    if not numbers:
        return step
    old = chance.choice(numbers)
    return _rewritten(step, old, Num(old.value + chance.randrange(1, 5), old.style))


def rewrite_number(_: Pipeline, step: Step, chance: Random) -> Step:
    """Write a number otherwise: other code, the same value."""
    numbers = _numbers(*(item.code for item in step.outputs))
    if not numbers:
        return step
    old = chance.choice(numbers)
    return _rewritten(step, old, Num(old.value, (old.style + chance.randrange(1, 4)) % 4))


def grow(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    """Make an output of something else."""
    item = chance.choice(step.outputs)
    new = dataclasses.replace(item, code=expression(chance, _leaves(pipeline, step)))
    return dataclasses.replace(step, outputs=tuple(new if other is item else other for other in step.outputs))


def read_more(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    """Declare one input more, used or not."""
    if len(step.inputs) > 3:
        return step
    wider = _with_input(pipeline, step, chance)
    if chance.random() < 0.3:
        return wider
    item = chance.choice(step.outputs)
    code = Operation("+", item.code, Given(wider.inputs[-1].uid))
    new = dataclasses.replace(item, code=code)
    return dataclasses.replace(wider, outputs=tuple(new if other is item else other for other in wider.outputs))


def read_other(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    """Let an input come from somewhere else, under its old name or another one."""
    if not step.inputs:
        return step
    item = chance.choice(step.inputs)
    alias = pipeline.alias(item) if chance.random() < 0.7 else f"i{item.uid}"
    taken = {pipeline.alias(other) for other in step.inputs if other is not item} | {o.name for o in step.outputs}
    new = Input(item.uid, f"i{item.uid}" if alias in taken else alias, _source(pipeline, step, chance))
    return dataclasses.replace(step, inputs=tuple(new if other is item else other for other in step.inputs))


def rename_step(_: Pipeline, step: Step, chance: Random) -> Step:
    """Give a step another name."""
    return dataclasses.replace(step, name=f"s{step.uid}_{chance.randrange(4)}")


def rename_output(_: Pipeline, step: Step, chance: Random) -> Step:
    """Give an output another name; who reads it without an alias follows."""
    item = chance.choice(step.outputs)
    new = dataclasses.replace(item, name=f"o{item.uid}_{chance.randrange(4)}")
    return dataclasses.replace(step, outputs=tuple(new if other is item else other for other in step.outputs))


def reformat(_: Pipeline, step: Step, chance: Random) -> Step:
    """Store an output in another format."""
    item = chance.choice(step.outputs)
    new = dataclasses.replace(item, format=chance.choice(FORMATS))
    return dataclasses.replace(step, outputs=tuple(new if other is item else other for other in step.outputs))


def swap_declared(_: Pipeline, step: Step, __: Random) -> Step:
    """Declare the outputs in another order."""
    return dataclasses.replace(step, outputs=step.outputs[::-1])


def swap_made(_: Pipeline, step: Step, __: Random) -> Step:
    """Exchange what the outputs are made of."""
    codes = [item.code for item in step.outputs][::-1]
    new = tuple(dataclasses.replace(item, code=code) for item, code in zip(step.outputs, codes, strict=True))
    return dataclasses.replace(step, outputs=new)


def resalt(_: Pipeline, step: Step, chance: Random) -> Step:
    """Change the salt."""
    return dataclasses.replace(step, salt=chance.choice(("", "a", "b")))


def rehash(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    """Name other files that count."""
    return dataclasses.replace(step, hashes=tuple(chance.sample(_single(pipeline), chance.randrange(2))))


def carry_out_otherwise(_: Pipeline, step: Step, chance: Random) -> Step:
    """Change what has no part in the result."""
    changed: dict[str, object] = {"retries": chance.randrange(3), "timeout": chance.randrange(9)}
    return dataclasses.replace(step, **changed)  # type: ignore[arg-type]


def write_otherwise(_: Pipeline, step: Step, chance: Random) -> Step:
    """Change remarks, blank lines, the form of the declaration, the number of cells."""
    noise, long, split = chance.randrange(4), chance.random() < 0.5, chance.random() < 0.5
    return dataclasses.replace(step, noise=noise, long=long, split=split)


def import_otherwise(_: Pipeline, step: Step, __: Random) -> Step:
    """Import within the step, or with an ordinary cell."""
    return dataclasses.replace(step, inner=not step.inner)


def wait(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    """Wait for other steps."""
    earlier = [other.uid for other in pipeline.steps if other.uid < step.uid]
    return dataclasses.replace(step, after=tuple(chance.sample(earlier, min(len(earlier), chance.randrange(2)))))


def condition(pipeline: Pipeline, step: Step, chance: Random) -> Step:
    """Change the condition."""
    name = chance.choice(pipeline.parameters).name
    return dataclasses.replace(step, when=chance.choice((None, None, (name, chance.randrange(-1, 3)))))


def always(_: Pipeline, step: Step, chance: Random) -> Step:
    """Let a step run always, or not."""
    return dataclasses.replace(step, never=chance.random() < 0.3)


# What is around them


def of_one(field: str, change: Callable[[Pipeline, Any, Random], Any]) -> Edit:
    """Get the edit that changes one helper, constant, module or parameter."""

    def edit(pipeline: Pipeline, chance: Random) -> Pipeline:
        items = getattr(pipeline, field)
        item = chance.choice(items)
        new = change(pipeline, item, chance)
        return dataclasses.replace(pipeline, **{field: tuple(new if other is item else other for other in items)})

    return edit


def change_function(_: Pipeline, item: Any, chance: Random) -> Any:
    """Change a number in a helper or module, or write it otherwise."""
    old = chance.choice(_numbers(item.code))
    new = chance.choice((Num(old.value + 1, old.style), Num(old.value, (old.style + 1) % 4)))
    return dataclasses.replace(item, code=replaced(item.code, old, new))


def rewrite_helper(pipeline: Pipeline, item: Helper, chance: Random) -> Helper:
    """Make a helper of something else: earlier helpers, modules, constants, parameters."""
    earlier: list[Expression] = [Call(other.name, Num(0)) for other in pipeline.helpers if other.name < item.name]
    leaves: list[Expression] = [Name("x"), *_names(pipeline), *_modules(pipeline), *earlier]
    return dataclasses.replace(item, code=expression(chance, leaves))


def rewrite_module(pipeline: Pipeline, item: Module, chance: Random) -> Module:
    """Let a module import other modules, or none."""
    earlier = [Call(other.last, Num(0)) for other in pipeline.modules if other.last < item.last]
    return dataclasses.replace(item, code=expression(chance, [Name("x"), *earlier]))


def change_unused(_: Pipeline, item: Module, __: Random) -> Module:
    """Change what nobody uses in a module."""
    return dataclasses.replace(item, unused=item.unused + 1)


def change_package(pipeline: Pipeline, _: Random) -> Pipeline:
    """Change the package's own file."""
    return dataclasses.replace(pipeline, package=pipeline.package + 1)


def change_constant(_: Pipeline, item: Constant, chance: Random) -> Constant:
    """Change a constant's value, its type, or how it is written."""
    value = int(item.value)
    return dataclasses.replace(
        item, **chance.choice(({"value": value + 1}, {"value": float(value)}, {"style": (item.style + 1) % 4}))
    )


def change_parameter(_: Pipeline, item: Parameter, chance: Random) -> Parameter:
    """Change a parameter's default, among values that Python calls equal too, or give another value from outside."""
    default = chance.choice((0, 1, 2, 1.0, 2.0, True, False, 0.0, -0.0))
    given = chance.choice((None, None, type(default)(chance.randrange(3))))
    return dataclasses.replace(item, default=default, given=given)


def change_noise(_: Pipeline, item: Any, chance: Random) -> Any:
    """Add or take away remarks."""
    return dataclasses.replace(item, noise=chance.randrange(4))


def shuffle(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Put the cells in another order, with other explorations among them."""
    return dataclasses.replace(pipeline, arrangement=chance.randrange(1000), explorations=chance.randrange(3))


def change_variable(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Set or unset the environment variable."""
    return dataclasses.replace(pipeline, variable=chance.choice((None, "", "7", "8")))


# Files


def _with_files(pipeline: Pipeline, files: Mapping[str, str]) -> Pipeline:
    return dataclasses.replace(pipeline, files=tuple(sorted(files.items())))


def change_file(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Change a file's bytes, mostly without changing its size."""
    path, text = chance.choice(pipeline.files)
    return _with_files(pipeline, {**dict(pipeline.files), path: str((int(text) + chance.randrange(1, 5)) % 100)})


def add_file(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Put a file into a folder."""
    path = f"{chance.choice(FOLDERS)}/{chance.choice('cde')}.{chance.choice(('txt', 'dat'))}"
    return _with_files(pipeline, {path: str(chance.randrange(100)), **dict(pipeline.files)})


def remove_file(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Take a file out of a folder."""
    files = dict(pipeline.files)
    files.pop(_in_folders(pipeline, chance), None)
    return _with_files(pipeline, files)


def rename_file(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Give a file in a folder another name."""
    files, path = dict(pipeline.files), _in_folders(pipeline, chance)
    fresh = f"{path.rpartition('/')[0]}/{chance.choice('cde')}.txt"
    if path in files and fresh not in files:
        files[fresh] = files.pop(path)
    return _with_files(pipeline, files)


def _in_folders(pipeline: Pipeline, chance: Random) -> str:
    # One text stays in each folder: a pattern that matches nothing is refused.
    return chance.choice(
        [path for path, _ in pipeline.files if path.count("/") > 1 and not path.endswith("a.txt")] or [""]
    )


def move_file(pipeline: Pipeline, chance: Random) -> Pipeline:
    """Give a file another name, in the declarations too."""
    files, old = dict(pipeline.files), chance.choice(_single(pipeline))
    new = f"data/g{chance.randrange(4)}.json"
    if new in files:
        return pipeline
    files[new] = files.pop(old)
    pipeline = _with_files(pipeline, files)
    for step in pipeline.steps:
        inputs = tuple(
            dataclasses.replace(item, source=Stored(item.source.kind, new))
            if isinstance(item.source, Stored) and item.source.path == old
            else item
            for item in step.inputs
        )
        hashes = tuple(new if path == old else path for path in step.hashes)
        pipeline = pipeline.with_step(dataclasses.replace(step, inputs=inputs, hashes=hashes))
    return pipeline


EDITS: Mapping[str, Edit] = {
    "shuffle": shuffle,
    "noise in a step": of_step(write_otherwise),
    "noise in a helper": of_one("helpers", change_noise),
    "noise in a constant": of_one("constants", change_noise),
    "noise in a module": of_one("modules", change_noise),
    "noise in a parameter": of_one("parameters", change_noise),
    "retries and timeout": of_step(carry_out_otherwise),
    "rename step": of_step(rename_step),
    "after": of_step(wait),
    "number": of_step(change_number),
    "number written otherwise": of_step(rewrite_number),
    "code": of_step(grow),
    "helper": of_one("helpers", change_function),
    "helper's code": of_one("helpers", rewrite_helper),
    "constant": of_one("constants", change_constant),
    "module": of_one("modules", change_function),
    "module's imports": of_one("modules", rewrite_module),
    "unused in a module": of_one("modules", change_unused),
    "package": change_package,
    "import": of_step(import_otherwise),
    "parameter": of_one("parameters", change_parameter),
    "variable": change_variable,
    "file": change_file,
    "file added": add_file,
    "file removed": remove_file,
    "file renamed": rename_file,
    "file moved": move_file,
    "input": of_step(read_more),
    "other input": of_step(read_other),
    "rename output": of_step(rename_output),
    "format": of_step(reformat),
    "outputs declared otherwise": of_step(swap_declared),
    "outputs exchanged": of_step(swap_made),
    "salt": of_step(resalt),
    "hash": of_step(rehash),
    "condition": of_step(condition),
    "always": of_step(always),
    "step added": add_step,
    "twin": add_twin,
    "step deleted": delete_step,
}


def edited(pipeline: Pipeline, edit: str, seed: int) -> Pipeline:
    """Get the pipeline after one edit; no step has two inputs, or an input and an output, of one name."""
    changed = EDITS[edit](pipeline, chance_from(seed))
    for step in changed.steps:
        taken = {item.name for item in step.outputs}
        inputs = []
        for item in step.inputs:
            own = dataclasses.replace(item, alias=f"i{item.uid}") if changed.alias(item) in taken else item
            taken.add(changed.alias(own))
            inputs.append(own)
        changed = changed.with_step(dataclasses.replace(step, inputs=tuple(inputs)))
    return changed
