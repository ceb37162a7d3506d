"""The DAG: which step feeds which, derived from declared names; and all inconsistencies."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from nbpipe.errors import BadDirective, BadPipeline, NotSupportedYet, Refused
from nbpipe.language.declaration_items import read_source
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.source_text import line_span, nearest
from nbpipe.model import (
    FileSource,
    FileUse,
    Input,
    InputSource,
    Output,
    ParameterSource,
    Pipeline,
    RemoteSource,
    Step,
    StepCode,
    StepOutput,
)
from nbpipe.planning.file_dependencies import file_dependencies

_PLACEHOLDER = re.compile(r"\{([\w-]+)\}")
_REMOTE = ("store", "https", "http")
_FILLED_LATER = ("run-id", "date")


@dataclass(frozen=True, slots=True)
class PipelineGraph:
    """A pipeline with resolved inputs: ``feeds`` maps, per step, inputs to the outputs of other steps."""

    pipeline: Pipeline
    steps: Mapping[str, Step]
    order: tuple[str, ...]
    feeds: Mapping[str, Mapping[str, StepOutput]]
    files: Mapping[str, Mapping[str, Input]]

    def datasets(self, step: str) -> dict[str, RemoteSource]:
        """Return the inputs of a step that are versions of datasets, with their sources."""
        sources = {item.name: item.source for item in self.steps[step].inputs}
        return {name: source for name, source in sources.items() if is_dataset(source)}

    def dependants(self, names: Iterable[str]) -> set[str]:
        """Return the steps that need one of ``names``, directly or not."""
        reached = set(names)
        for name in self.order:
            if reached & set(self.pipeline.needs[name]):
                reached.add(name)
        return reached - set(names)

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """Return ``names`` and everything that they need."""
        reached = set(names)
        for name in reversed(self.order):
            if name in reached:
                reached |= set(self.pipeline.needs[name])
        return reached


def build_graph(
    reading: ParsedNotebook, values: Mapping[str, Any], kernel: str | None, *, unread: frozenset[str] = frozenset()
) -> tuple[PipelineGraph, list[Refused]]:
    """Resolve every input's source and sort the steps; return the graph and the errors.

    A missing step or output with a name in ``unread`` is not an error: it is caused by another one, reported already.
    """
    errors: list[Refused] = []
    steps = [_settled(step, values, errors) for step in reading.steps]
    makers: dict[str, list[str]] = {}
    for step in steps:
        for output in step.outputs:
            makers.setdefault(output.name, []).append(step.name)
    by_name = {step.name: step for step in steps}
    feeds: dict[str, dict[str, StepOutput]] = {}
    files: dict[str, dict[str, Input]] = {}
    needs: dict[str, tuple[str, ...]] = {}
    for step in steps:
        feeds[step.name] = _feeds(step, by_name, makers, errors, unread)
        files[step.name] = {item.name: item for item in step.inputs if _is_file(item.source)}
        after = _after(step, by_name, errors, unread)
        fed = [source.step for source in feeds[step.name].values() if source.step]
        needs[step.name] = tuple(dict.fromkeys([*fed, *after]))
        errors += [*_unsupported(step), *_clashes(step), *_unknown_modes(step), *_unknown_registered(step)]
    errors += _destinations(steps, values)
    errors += _registered_twice(steps)
    between = file_dependencies(steps, needs, {name: _uses(code, values) for name, code in reading.code.items()})
    errors += between.errors
    order, cycle = _sorted([step.name for step in steps], needs)
    if cycle:
        drawn = " → ".join(f"`{name}`" for name in cycle)
        errors.append(
            BadPipeline(f"the steps form a cycle: {drawn}", "Remove one of these inputs.", by_name[cycle[0]].place)
        )
    pipeline = Pipeline(
        tuple(steps), reading.parameters, reading.code, needs, kernel, (*reading.warnings, *between.warnings)
    )
    return PipelineGraph(pipeline, by_name, tuple(order), feeds, files), errors


def is_dataset(source: InputSource) -> TypeGuard[RemoteSource]:
    """Return whether a source is a version of a dataset."""
    return isinstance(source, RemoteSource) and source.scheme == "ds"


def _is_file(source: InputSource) -> bool:
    """Return whether a source names files: here, in a datastore, or on the web."""
    return isinstance(source, FileSource) or (isinstance(source, RemoteSource) and source.scheme in _REMOTE)


def fill_destination(step: Step, output: Output, values: Mapping[str, str]) -> str:
    """Return an output's destination with its placeholders replaced; those that ``values`` lacks stay."""
    replacements = {**values, "step": step.name, "output-name": output.name}
    return _PLACEHOLDER.sub(lambda match: replacements.get(match[1], match[0]), output.destination or "")


def fixed_beginning(output: Output, parameters: Collection[str]) -> str | None:
    """Return an output's destination up to its first parameter; None if it has none."""
    destination = output.destination or ""
    places = [match.start() for match in _PLACEHOLDER.finditer(destination) if match[1] in parameters]
    return destination[: places[0]] if places else None


def _uses(code: StepCode, values: Mapping[str, Any]) -> list[FileUse]:
    """Return the files that a step uses, with the values of the parameters in their paths."""
    return [
        dataclasses.replace(use, path=_PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), use.path))
        for use in code.uses
    ]


def _settled(step: Step, values: Mapping[str, Any], errors: list[Refused]) -> Step:
    """Replace ``param:NAME`` by the source that the parameter holds."""
    if not any(isinstance(item.source, ParameterSource) for item in step.inputs):
        return step
    inputs = []
    for item in step.inputs:
        if isinstance(item.source, ParameterSource):
            source = _parameter_source(item, item.source.parameter, values, errors)
            if source is None:
                continue
            item = dataclasses.replace(item, source=source)  # noqa: PLW2901 - the same input, settled
        inputs.append(item)
    return dataclasses.replace(step, inputs=tuple(inputs))


def _parameter_source(
    item: Input, parameter: str, values: Mapping[str, Any], errors: list[Refused]
) -> InputSource | None:
    if parameter not in values:
        hint = nearest(parameter, values) or "Declare it in the parameters cell."
        message = f"`{item.name}` comes from `{parameter}`, which is not a parameter"
        errors.append(BadPipeline(message, hint, item.place))
        return None
    value = values[parameter]
    if not isinstance(value, str):
        message = f"`{item.name}` comes from the parameter `{parameter}`, which holds {value!r} and not a source"
        errors.append(BadPipeline(message, 'A source is text, for example "./data.csv".', item.place))
        return None
    try:
        source = read_source(line_span(value.strip(), item.place.cell or 0, item.place.line or 1))
    except BadDirective as error:
        message = f"the parameter `{parameter}` holds {value!r}, and {error.message}"
        errors.append(BadPipeline(message, error.hint, item.place))
        return None
    wrong = _unfit(item, source)
    if wrong:
        errors.append(BadPipeline(f"the parameter `{parameter}` holds {value!r}, {wrong[0]}", wrong[1], item.place))
        return None
    return source


def _unfit(item: Input, source: InputSource) -> tuple[str, str] | None:
    """Return why a source cannot come from a parameter, and a hint."""
    if isinstance(source, ParameterSource):
        return "which is a parameter again", 'Give it the source itself, for example "./data.csv".'
    if isinstance(source, StepOutput) and item.format is not None:
        return f"and a step's output comes in its own format, not as {item.format}", f"Write {item.name} without it."
    return None


def _feeds(
    step: Step,
    by_name: Mapping[str, Step],
    makers: Mapping[str, list[str]],
    errors: list[Refused],
    unread: frozenset[str],
) -> dict[str, StepOutput]:
    feeds: dict[str, StepOutput] = {}
    for item in step.inputs:
        if isinstance(item.source, StepOutput):
            try:
                feeds[item.name] = _producer(step, item, item.source, by_name, makers)
            except BadPipeline as error:
                if unread.isdisjoint({item.source.step, item.source.output}):
                    errors.append(error)
    return feeds


def _producer(
    step: Step, item: Input, source: StepOutput, by_name: Mapping[str, Step], makers: Mapping[str, list[str]]
) -> StepOutput:
    if source.step is not None:
        return _qualified(step, item, source, by_name)
    others = [maker for maker in makers.get(source.output, []) if maker != step.name]
    if len(others) == 1:
        return StepOutput(source.output, others[0])
    if others:
        choices = " or ".join(f"-i {item.name}={maker}.{source.output}" for maker in others)
        raise BadPipeline(f"`{source.output}` is an output of {_listed(others)}", f"Say which: {choices}", item.place)
    if source.output in makers:
        raise BadPipeline(
            f"`{source.output}` is made by no other step than `{step.name}` itself",
            "A step never feeds itself: rename one of the two.", item.place,
        )  # fmt: skip
    hint = nearest(source.output, makers) or f"A file needs a path: -i {item.name}=./{item.name}.csv"
    raise BadPipeline(f"no step has an output `{source.output}`", hint, item.place)


def _qualified(step: Step, item: Input, source: StepOutput, by_name: Mapping[str, Step]) -> StepOutput:
    maker = by_name.get(source.step or "")
    if maker is None:
        hint = nearest(source.step or "", by_name) or f"A file needs a slash: ./{source.step}.{source.output}"
        raise BadPipeline(f"there is no step `{source.step}`", hint, item.place)
    if maker.name == step.name:
        raise BadPipeline("a step never feeds itself", "Name another step's output.", item.place)
    if maker.output(source.output) is None:
        names = [output.name for output in maker.outputs]
        hint = nearest(source.output, names) or (f"Its outputs: {', '.join(names)}." if names else "It has no outputs.")
        raise BadPipeline(f"step `{source.step}` has no output `{source.output}`", hint, item.place)
    return source


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _after(step: Step, by_name: Mapping[str, Step], errors: list[Refused], unread: frozenset[str]) -> list[str]:
    for name in step.options.after:
        if (name not in by_name and name not in unread) or name == step.name:
            hint = nearest(name, set(by_name) - {step.name}) or "It waits for other steps of this notebook."
            errors.append(
                BadPipeline(f"`after` names `{name}`, which is not another step", hint, step.place_of("after", name))
            )
    return [name for name in step.options.after if name in by_name and name != step.name]


_DESTINATIONS = "It may be a path (./out.csv) or a place in a datastore (store:NAME/path)."


def _unsupported(step: Step) -> list[Refused]:
    leave_out = f"Leave it out of step {step.name}."
    keys = [NotSupportedYet(f"`{key}` is not supported yet", leave_out, place) for key, place in step.options.later]
    sources = [
        NotSupportedYet(f"the source `{item.source.text}` is not supported yet", "Use a local file: ./path", item.place)
        for item in step.inputs
        if isinstance(item.source, RemoteSource) and not (_is_file(item.source) or is_dataset(item.source))
    ]  # fmt: skip
    destinations = [
        NotSupportedYet(f"the destination `{item.destination}` is not supported", _DESTINATIONS, item.place)
        for item in step.outputs if item.destination and _scheme(item) not in ("", "store")
    ]  # fmt: skip
    return [*keys, *sources, *destinations]


def _scheme(output: Output) -> str:
    """Return what stands before the colon of a destination; empty for a path."""
    return (output.destination or "").partition("/")[0].rpartition(":")[0]


def _clashes(step: Step) -> list[Refused]:
    """Return errors for path outputs that are inputs too: the cell cannot bind both to one name."""
    inputs = {item.name for item in step.inputs}
    return [
        BadPipeline(f"`{item.name}` is an input and a path to write to", "Rename one of the two.", item.place)
        for item in step.outputs if item.is_path and item.name in inputs
    ]  # fmt: skip


def _unknown_modes(step: Step) -> list[Refused]:
    """Return errors for names in ``download`` and ``mount`` that are no inputs, or that are in both."""
    inputs = {item.name for item in step.inputs}
    named = [(key, name) for key in ("download", "mount") for name in getattr(step.options, key)]
    errors: list[Refused] = [
        BadPipeline(
            f"`{key}` names `{name}`, which is not an input of `{step.name}`",
            nearest(name, inputs) or (f"Its inputs: {', '.join(sorted(inputs))}." if inputs else "It has no inputs."),
            step.place_of(key, name),
        )
        for key, name in named if name not in inputs
    ]  # fmt: skip
    both = [name for name in step.options.mount if name in step.options.download]
    return errors + [
        BadPipeline(f"`{name}` is to be copied and to be read in place", "Leave it out of one.",
                    step.place_of("mount", name))
        for name in both
    ]  # fmt: skip


def _unknown_registered(step: Step) -> list[Refused]:
    names = [output.name for output in step.outputs]
    return [
        BadPipeline(
            f"step `{step.name}` registers `{output}`, which is not one of its outputs",
            nearest(output, names) or (f"Its outputs: {', '.join(names)}." if names else f"Declare it: -o {output}"),
            step.place_of("register", output),
        )
        for output, _ in step.options.register if output not in names
    ]  # fmt: skip


def _registered_twice(steps: Iterable[Step]) -> list[Refused]:
    """Return errors for steps that register one dataset: which is its newest version would depend on their timing."""
    errors: list[Refused] = []
    first: dict[str, Step] = {}
    for step, output, dataset in [(each, *pair) for each in steps for pair in each.options.register]:
        if first.setdefault(dataset, step) is not step:
            message = f"the dataset `{dataset}` is registered by `{first[dataset].name}` and `{step.name}`"
            errors.append(BadPipeline(message, "Give each its own dataset.", step.place_of("register", output)))
    return errors


def _destinations(steps: Iterable[Step], values: Mapping[str, Any]) -> list[Refused]:
    errors: list[Refused] = []
    texts = {name: str(value) for name, value in values.items()}
    by_path: dict[str, Step] = {}
    for step, output in [(owner, output) for owner in steps for output in owner.outputs if output.destination]:
        errors += _unknown_placeholders(output, (*_FILLED_LATER, "step", "output-name", *texts))
        where = _normal(fill_destination(step, output, texts))
        if where in by_path:
            listed = _listed(dict.fromkeys([by_path[where].name, step.name]))
            message = f"`{output.destination}` is a destination twice, in {listed}"
            hint = "Give each output its own path, with {step} or {output-name} for example."
            errors.append(BadPipeline(message, hint, output.place))
        by_path.setdefault(where, step)
    return errors


def _unknown_placeholders(output: Output, allowed: Collection[str]) -> list[Refused]:
    placeholders = dict.fromkeys(_PLACEHOLDER.findall(output.destination or ""))
    return [
        BadPipeline(
            f"`{{{name}}}` in the destination `{output.destination}` is not a parameter",
            nearest(name, allowed) or f"It may hold {', '.join(f'{{{name}}}' for name in allowed)}.", output.place,
        )
        for name in placeholders if name not in allowed
    ]  # fmt: skip


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _sorted(names: list[str], needs: Mapping[str, tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """Return the names with needs first, else in notebook order, and a cycle if there is one.

    Steps outside of a cycle are sorted correctly even so: in a kernel they can be run on their own.
    """
    done: dict[str, None] = {}
    cycle: list[str] = []
    for start in names:
        stack = [(start, iter(needs[start]))] if start not in done else []
        path = dict.fromkeys([start])
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done[name] = None
                path.pop(name, None)
                stack.pop()
            elif following in path:
                listed = list(path)
                cycle = cycle or [*listed[listed.index(following) :], following]
            elif following not in done:
                path[following] = None
                stack.append((following, iter(needs[following])))
    return list(done), cycle
