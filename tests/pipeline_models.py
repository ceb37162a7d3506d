"""Pipelines imagined for tests: what they mean, what their steps are made of, and how an author would write them.

Nothing here asks nbpipe: a pipeline is a value from which its cells, modules and files are written, from which each
output is computed directly, and from which it is told what exactly a step's result is made of.
"""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

MODULUS = 1009
VARIABLE = "NBPIPE_IMAGINED"
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}

READERS = """\
import json
import os


def read_file(path):
    return len(path.name) + json.loads(path.read_text())


def read_files(paths):
    return sum(read_file(path) for path in paths)


def read_folder(folder):
    return len(folder.name) + read_files(sorted(folder.iterdir()))
"""


def chance_from(seed: int) -> Random:
    """Get chance that can be repeated."""
    return Random(seed)  # noqa: S311  # no secret is made of it


# Code


@dataclass(frozen=True, slots=True)
class Num:
    """A number; in other styles other code stands for the same value."""

    value: int
    style: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter, a constant, or what a function is given."""

    name: str


@dataclass(frozen=True, slots=True)
class Given:
    """An input of the step, by its number."""

    uid: int


@dataclass(frozen=True, slots=True)
class Variable:
    """The environment variable, as a number."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a helper (``h0``) or of a module's function (``m0``)."""

    function: str
    argument: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    """Two expressions, computed together."""

    sign: str
    left: Expression
    right: Expression


Expression = Num | Name | Given | Variable | Call | Operation


def parts(code: Expression) -> Iterator[Expression]:
    """Get an expression and all that it is made of."""
    yield code
    for below in (getattr(code, name, None) for name in ("argument", "left", "right")):
        if below is not None:
            yield from parts(below)


def replaced(code: Expression, old: Expression, new: Expression) -> Expression:
    """Get the expression with one part exchanged, wherever it stands."""
    if code == old:
        return new
    if isinstance(code, Call):
        return Call(code.function, replaced(code.argument, old, new))
    if isinstance(code, Operation):
        return Operation(code.sign, replaced(code.left, old, new), replaced(code.right, old, new))
    return code


def called(code: Expression) -> set[str]:
    """Get the helpers and modules that an expression calls."""
    return {part.function for part in parts(code) if isinstance(part, Call)}


def number(value: int, style: int) -> str:
    """Get code for a number."""
    return (str(value), f"({value - 1} + 1)", f"({value} * 1)", f"(1 + {value - 1})")[style % 4]


# What stands in a notebook


@dataclass(frozen=True, slots=True)
class Helper:
    """A function of an ordinary cell."""

    name: str
    code: Expression
    noise: int = 0


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of an ordinary cell; in another style than 0 it is computed by a cell that is shared whole."""

    name: str
    value: int | float
    style: int = 0
    noise: int = 0


@dataclass(frozen=True, slots=True)
class Module:
    """A local module with one function that is used and a constant that is not; ``kit.m2`` lies in a package."""

    name: str
    code: Expression
    unused: int = 0
    noise: int = 0

    @property
    def last(self) -> str:
        """Get the name by which code calls it."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its default and the value given from outside, if one is."""

    name: str
    default: float
    given: float | None = None
    noise: int = 0

    @property
    def value(self) -> float:
        """Get what the steps are given."""
        return self.default if self.given is None else self.given


@dataclass(frozen=True, slots=True)
class Made:
    """A source: an output of another step."""

    step: int
    output: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A source: a file (as a path or as json), a folder, or the texts in a folder."""

    kind: str
    path: str

    @property
    def declared(self) -> str:
        """Get what is written in the declaration."""
        return f"./{self.path}" + {"folder": "/", "glob": "/*.txt"}.get(self.kind, "")


@dataclass(frozen=True, slots=True)
class Input:
    """An input; without an alias it is called as the output behind it is."""

    uid: int
    alias: str | None
    source: Made | Stored


@dataclass(frozen=True, slots=True)
class Output:
    """An output and the code that makes it; ``format`` is None, json, file.txt or dir."""

    uid: int
    name: str
    format: str | None
    code: Expression

    @property
    def basename(self) -> str:
        """Get the name that readers see."""
        return self.name + {"file.txt": ".txt", "dir": ""}.get(self.format or "", ".json")


@dataclass(frozen=True, slots=True)
class Step:
    """A step: what its result is made of, and how it is written and carried out."""

    uid: int
    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    salt: str = ""
    hashes: tuple[str, ...] = ()
    variable: bool = False
    after: tuple[int, ...] = ()
    when: tuple[str, int] | None = None
    never: bool = False
    retries: int = 0
    timeout: int = 0
    inner: bool = False
    long: bool = False
    split: bool = False
    noise: int = 0

    @property
    def written(self) -> tuple[Output, ...]:
        """Get the outputs in the order of the statements that make them."""
        return tuple(sorted(self.outputs, key=lambda item: item.uid))


@dataclass(frozen=True)
class Pipeline:
    """Everything that is there before a run."""

    steps: tuple[Step, ...]
    helpers: tuple[Helper, ...]
    constants: tuple[Constant, ...]
    modules: tuple[Module, ...]
    parameters: tuple[Parameter, ...]
    files: tuple[tuple[str, str], ...]
    variable: str | None = None
    package: int = 0
    arrangement: int = 0
    explorations: int = 0

    def with_step(self, step: Step) -> Pipeline:
        """Get the pipeline with one step written otherwise."""
        steps = tuple(step if other.uid == step.uid else other for other in self.steps)
        return dataclasses.replace(self, steps=steps)

    def in_folder(self, folder: str) -> dict[str, str]:
        """Get what lies in a folder, by name."""
        return {path.removeprefix(f"{folder}/"): text for path, text in self.files if path.startswith(f"{folder}/")}

    @cached_property
    def by_uid(self) -> dict[int, Step]:
        """Get the steps by their numbers."""
        return {step.uid: step for step in self.steps}

    @cached_property
    def functions(self) -> dict[str, Helper | Module]:
        """Get what can be called, by name."""
        return {**{item.name: item for item in self.helpers}, **{item.last: item for item in self.modules}}

    @cached_property
    def values(self) -> dict[str, float]:
        """Get the values of parameters and constants."""
        return {item.name: item.value for item in (*self.parameters, *self.constants)}

    def needs(self, step: Step) -> set[int]:
        """Get the steps that must be over before this one."""
        return {item.source.step for item in step.inputs if isinstance(item.source, Made)} | set(step.after)

    def with_ancestors(self, uids: set[int]) -> set[int]:
        """Get these steps and all that they need."""
        above = {need for uid in uids for need in self.needs(self.by_uid[uid])} - uids
        return self.with_ancestors(uids | above) if above else uids

    @cached_property
    def skipped(self) -> set[int]:
        """Get the steps whose condition is false, and those that need them."""
        found: set[int] = set()
        for step in self.steps:
            condition = step.when is not None and not self.values[step.when[0]] > step.when[1]
            if condition or self.needs(step) & found:
                found.add(step.uid)
        return found

    # What it means

    @cached_property
    def results(self) -> dict[int, dict[int, float]]:
        """Get what every step makes: values of outputs by their numbers."""
        found: dict[int, dict[int, float]] = {}
        for step in self.steps:
            given = {item.uid: self._read(item.source, found) for item in step.inputs}
            made = {item.uid: self._value(item.code, self.values, given) % MODULUS for item in step.outputs}
            found[step.uid] = made
        return found

    def _read(self, source: Made | Stored, found: Mapping[int, Mapping[int, float]]) -> float:
        if isinstance(source, Made):
            output = self.output(source)
            value = found[source.step][source.output]
            if output.format == "dir":
                return len(output.basename) + sum(len(n) + json.loads(t) for n, t in folder_texts(value).items())
            return value + len(output.basename) if output.format == "file.txt" else value
        if source.kind in ("file", "json"):
            held = json.loads(dict(self.files)[source.path])
            return held if source.kind == "json" else len(source.path.rpartition("/")[2]) + held
        total = sum(len(name) + json.loads(text) for name, text in sorted(self.in_folder(source.path).items())
                    if source.kind == "folder" or name.endswith(".txt"))  # fmt: skip
        return total if source.kind == "glob" else len(source.path.rpartition("/")[2]) + total

    def _value(self, code: Expression, names: Mapping[str, float], given: Mapping[int, float]) -> float:
        match code:
            case Num(value):
                return value
            case Name(name):
                return names[name]
            case Given(uid):
                return given[uid]
            case Variable():
                return int(self.variable or "7")
            case Operation(sign, left, right):
                return _OPERATORS[sign](self._value(left, names, given), self._value(right, names, given))
            case Call(function, argument):
                target = self.functions[function]
                known = {} if isinstance(target, Module) else self.values
                return self._value(target.code, {**known, "x": self._value(argument, names, given)}, {}) % MODULUS

    def output(self, source: Made) -> Output:
        """Get the output behind a source."""
        return next(item for item in self.by_uid[source.step].outputs if item.uid == source.output)

    # What a result is made of

    def signature(self, step: Step, *, whole: bool = True) -> tuple[Any, ...]:
        """Get everything that a step's result is made of; without what other steps make if it is not ``whole``."""
        reached = self._reached(set().union(*(called(item.code) for item in step.outputs)))
        code = [item.code for item in step.outputs]
        code += [item.code for item in reached if isinstance(item, Helper)]
        names = {part.name for each in code for part in parts(each) if isinstance(part, Name)}
        modules = {(item.name, module_text(item)) for item in reached if isinstance(item, Module)}
        if any("." in name for name, _ in modules):
            modules.add(("kit", self.package_text))
        stored = dict(self.files)
        return (
            "\n".join(self.body(step)),
            frozenset(helper_text(item) for item in reached if isinstance(item, Helper)),
            frozenset(constant_text(item) for item in self.constants if item.name in names),
            frozenset(modules),
            frozenset((p.name, type(p.value).__name__, repr(p.value)) for p in self.parameters if p.name in names),
            frozenset(self._fed(item) for item in step.inputs if whole or isinstance(item.source, Stored)),
            tuple((item.name, item.format) for item in step.outputs),
            step.salt,
            frozenset((path, stored[path]) for path in step.hashes),
            (step.variable, self.variable if step.variable else None),
        )

    def _reached(self, names: set[str]) -> list[Helper | Module]:
        more = {below for name in names for below in called(self.functions[name].code)} - names
        return self._reached(names | more) if more else [self.functions[name] for name in sorted(names)]

    def _fed(self, item: Input) -> tuple[Any, ...]:
        alias, source = self.alias(item), item.source
        if isinstance(source, Made):
            output = self.output(source)
            seen = output.basename if output.format in ("dir", "file.txt") else ""
            kind = output.format if seen else "json"
            return (alias, kind, seen, contents(output, self.results[source.step][source.output]))
        if source.kind in ("file", "json"):
            seen = source.path.rpartition("/")[2] if source.kind == "file" else ""
            return (alias, source.kind, seen, dict(self.files)[source.path])
        held = self.in_folder(source.path).items()
        listed = frozenset(pair for pair in held if source.kind == "folder" or pair[0].endswith(".txt"))
        return (alias, source.kind, source.path if source.kind == "folder" else "", listed)

    def stored(self, step: Step) -> tuple[tuple[str, Any], ...]:
        """Get what a result lies in the store as: names and contents."""
        return tuple((item.basename, contents(item, self.results[step.uid][item.uid])) for item in step.outputs)

    # How it is written

    def alias(self, item: Input) -> str:
        """Get the name that an input has in its step."""
        return item.alias or self.output(item.source).name  # type: ignore[arg-type]

    def code(self, code: Expression, step: Step | None = None) -> str:
        """Get an expression as it is written."""
        match code:
            case Num(value, style):
                return number(value, style)
            case Name(name):
                return name
            case Variable():
                return f'int(os.environ.get("{VARIABLE}") or "7")'
            case Operation(sign, left, right):
                return f"({self.code(left, step)} {sign} {self.code(right, step)})"
            case Call(function, argument):
                dot = ".f" if isinstance(self.functions[function], Module) else ""
                return f"{function}{dot}({self.code(argument, step)})"
            case Given(uid):
                assert step is not None
                item = next(item for item in step.inputs if item.uid == uid)
                reader = self._reader(item.source)
                return f"{reader}({self.alias(item)})" if reader else self.alias(item)

    def _reader(self, source: Made | Stored) -> str:
        kind = self.output(source).format or "" if isinstance(source, Made) else source.kind
        readers = {"file.txt": "read_file", "file": "read_file", "dir": "read_folder", "folder": "read_folder"}
        return {**readers, "glob": "read_files"}.get(kind, "")

    def statements(self, item: Output, step: Step) -> list[str]:
        """Get the statements that make an output."""
        code = f"{self.code(item.code, step)} % {MODULUS}"
        if item.format == "file.txt":
            return [f"{item.name}.write_text(json.dumps({code}))"]
        if item.format == "dir":
            one, two = (f'({item.name} / "{name}").write_text' for name in ("one.txt", "two.txt"))
            return [f"{one}(json.dumps({code}))", f'{two}("2")']
        return [f"{item.name} = {code}"]

    def body(self, step: Step) -> list[str]:
        """Get a step's statements."""
        used = set().union(*(called(item.code) for item in step.outputs)) if step.inner else set()
        imports = [import_text(item) for item in self.modules if item.last in used]
        return [*imports, *(line for item in step.written for line in self.statements(item, step))]

    @property
    def package_text(self) -> str:
        """Get what stands in the package's own file."""
        return f"LEVEL = {self.package}\n"

    @cached_property
    def python_files(self) -> dict[str, str]:
        """Get the local modules as files."""
        listed = {f"{item.name.replace('.', '/')}.py": noisy(module_text(item), item.noise) for item in self.modules}
        return {"kit/__init__.py": self.package_text, **listed}

    @cached_property
    def parameters_text(self) -> str:
        """Get the parameters cell."""
        return "\n".join(f"{p.name} = {p.default!r}" + f"  # {p.noise}" * bool(p.noise) for p in self.parameters)

    @cached_property
    def sources(self) -> list[str]:
        """Get the ordinary cells and the steps, arranged."""
        cells = [READERS, *(f"print('exploring', {each})" for each in range(self.explorations))]
        cells += [import_text(item) for item in self.modules]
        cells += [noisy(helper_text(item), item.noise) for item in self.helpers]
        cells += [constant_cell(item) for item in self.constants]
        cells += [cell for step in self.steps for cell in self.step_cells(step)]
        chance_from(self.arrangement).shuffle(cells)
        return cells

    def step_cells(self, step: Step) -> list[str]:
        """Get the cells of a step: one, or two where it is written over two."""
        body = self.body(step)
        if step.split and len(step.outputs) > 1 and step.outputs == step.written:
            cut = len(body) - sum(len(self.statements(item, step)) for item in step.outputs[1:])
            more = f"%%step {step.name} --append -o {','.join(map(output_text, step.outputs[1:]))}"
            return [self._cell(step, step.outputs[:1], body[:cut]), "\n".join([more, *body[cut:]])]
        return [self._cell(step, step.outputs, body)]

    def _cell(self, step: Step, outputs: tuple[Output, ...], body: list[str]) -> str:
        noise = [f"# remark {step.noise}", ""] if step.noise else []
        lines = [f"{line}  # {step.noise}" for line in body] if step.noise % 2 else body
        return "\n".join([*self._declaration(step, outputs), *noise, *lines])

    def _declaration(self, step: Step, outputs: tuple[Output, ...]) -> list[str]:
        keys = {
            "in": ", ".join(map(self._input_text, step.inputs)),
            "out": ", ".join(map(output_text, outputs)),
            "salt": step.salt,
            "hash": ",".join(f"./{path}" for path in step.hashes),
            "envvar": VARIABLE if step.variable else "",
            "after": ",".join(self.by_uid[uid].name for uid in step.after),
            "when": f"{step.when[0]} > {step.when[1]}" if step.when else "",
            "reuse": "never" if step.never else "",
            "retries": str(step.retries or ""),
            "timeout": f"{step.timeout}m" if step.timeout else "",
        }
        given = {key: text for key, text in keys.items() if text}
        if step.long:
            return [f"#| step: {step.name}", *(f"#| {key}: {text}" for key, text in given.items())]
        short = {"in": "-i", "out": "-o"}
        texts = [f'"{text}"' if key == "when" else text for key, text in given.items()]
        words = [f"{short.get(key, f'--{key}')} {text}" for key, text in zip(given, texts, strict=True)]
        return [f"%%step {step.name}{'  ' if step.noise else ' '}{' '.join(words)}".rstrip()]

    def _input_text(self, item: Input) -> str:
        alias, source = self.alias(item), item.source
        if isinstance(source, Stored):
            return f"{alias}{':json' if source.kind == 'json' else ''}={source.declared}"
        output = self.output(source)
        makers = [step for step in self.steps for other in step.outputs if other.name == output.name]
        if alias == output.name and len(makers) == 1:
            return alias
        return f"{alias}={self.by_uid[source.step].name}.{output.name}"


def folder_texts(value: float) -> dict[str, str]:
    """Get what an output that is a folder holds."""
    return {"one.txt": json.dumps(value), "two.txt": "2"}


def contents(output: Output, value: float) -> Any:
    """Get an output's content: text, or a folder's texts."""
    return frozenset(folder_texts(value).items()) if output.format == "dir" else json.dumps(value)


def output_text(item: Output) -> str:
    """Get an output as it is declared."""
    return f"{item.name}:{item.format}" if item.format else item.name


def import_text(item: Module) -> str:
    """Get the statement that imports a module."""
    return f"import {item.name} as {item.last}" if "." in item.name else f"import {item.name}"


def helper_text(item: Helper) -> str:
    """Get a helper as it is written."""
    return f"def {item.name}(x):\n    return {_plain(item.code)} % {MODULUS}"


def module_text(item: Module) -> str:
    """Get a module as it is written."""
    imports = [f"import {'kit.' if name in PACKED else ''}{name} as {name}" for name in sorted(called(item.code))]
    function = f"def f(x):\n    return {_plain(item.code)} % {MODULUS}"
    return "\n".join([*imports, f"UNUSED = {item.unused}", function]) + "\n"


PACKED = frozenset({"m2"})


def _plain(code: Expression) -> str:
    """Get code of a helper or module; what it calls is told by the name."""
    match code:
        case Num(value, style):
            return number(value, style)
        case Name(name):
            return name
        case Operation(sign, left, right):
            return f"({_plain(left)} {sign} {_plain(right)})"
        case Call(function, argument):
            return f"{function}{'.f' if function.startswith('m') else ''}({_plain(argument)})"
        case _:
            raise ValueError(f"a function cannot hold {code}")


def constant_text(item: Constant) -> str:
    """Get a constant as it is written."""
    if item.style and isinstance(item.value, int):
        return f"{item.name} = {number(item.value, item.style)}"
    return f"{item.name} = {item.value!r}"


def constant_cell(item: Constant) -> str:
    """Get the cell of a constant; a value that is no literal is shared with its whole cell."""
    text = constant_text(item)
    if item.style and isinstance(item.value, int):
        return f"#| shared\n{noisy(text, item.noise)}"
    return f"{item.name} = {hex(item.value)}" if item.noise % 2 and isinstance(item.value, int) else text


def noisy(text: str, noise: int) -> str:
    """Get code with remarks and blank lines that mean nothing."""
    lines = text.splitlines()
    if not noise:
        return text
    return "\n".join([f"# remark {noise}", *lines[:-1], "", f"    # {noise}", lines[-1] + f"  # {noise}", ""])
