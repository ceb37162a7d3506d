"""What is said about changes that a pipeline's steps do not see, and how their author can make them seen."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nbpipe.errors import SourceLocation
from nbpipe.language.definitions import SharedDefinitions
from nbpipe.language.process_state import FOLDER
from nbpipe.language.random_generators import SEEDS
from nbpipe.model import PipelineWarning, Step

CODE = "hidden-change"


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A change of an object or of what a name means; ``step`` is empty for an ordinary cell."""

    step: str
    cell: int
    node: ast.AST
    text: str = ""
    verb: str = "changes"
    defines: bool = False
    number: int = 0
    certain: bool = True

    @property
    def who(self) -> str:
        """Return who makes the change."""
        return f"step `{self.step}` (cell {self.cell})" if self.step else f"cell {self.cell}"

    @property
    def place(self) -> SourceLocation:
        """Return where the change is made."""
        return SourceLocation(self.cell, getattr(self.node, "lineno", None), step=self.step or None)


@dataclass(frozen=True, slots=True)
class PipelineText:
    """The steps by their names, and what ordinary cells share."""

    steps: Mapping[str, Step]
    shared: SharedDefinitions


@dataclass(frozen=True, slots=True)
class _Readers:
    """The steps that do not see a change, listed."""

    listed: str
    several: bool

    def do(self, verb: str) -> str:
        """Return a verb for one or several of them: ``get`` or ``gets``."""
        return verb if self.several else f"{verb}s"


def change_warning(pipeline: PipelineText, what: str, readers: Sequence[str], event: ChangeEvent) -> PipelineWarning:
    """Return the warning about one change; ``what`` is its kind and the name of what changes, after a colon."""
    kind, _, name = what.partition(":")
    them = _Readers(" and ".join(f"`{reader}`" for reader in readers), len(readers) > 1)
    message, hint = _TEXTS.get(kind, _definition_text)(pipeline, name, them, event)
    return PipelineWarning(CODE, message, hint, event.place)


def _random_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    message = f"{event.who} seeds the random numbers of {name}, which {them.listed} {them.do('draw')} unseeded"
    return message, f"Call `{SEEDS[name]}(…)` in {them.listed}, too: each step has a kernel of its own."


def _output_text(pipeline: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    maker, _, output = name.partition(".")
    message = (
        f"{event.who} {event.verb} `{output}`, an output of `{maker}`, which {them.listed} {them.do('get')} unchanged"
    )
    return message, _output_hint(pipeline, output, maker, them.listed, event)


def _process_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    start = f"{them.listed} {them.do('start')}"
    if ("process", name) == FOLDER:
        message = f"{event.who} changes the {name}, and {start} in the notebook's"
        return message, f"Change it in {them.listed}, too, or write paths that do not depend on it."
    message = f"{event.who} replaces `{name}`, and {start} with that of a new kernel"
    return message, f"Put it back in {event.who}, as `with` statements do, or replace it in {them.listed}, too."


def _own_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    message = f"{event.who} {event.verb} `{name}` between the cells of {them.listed}, which does not see that"
    return message, f"Make the change in a cell of {them.listed} (`--append`), or use another name."


def _builtin_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    message = f"{event.who} {event.verb} `{name}`, which {them.listed} {them.do('get')} as Python defines it"
    return message, "Use another name there: in steps, built-in names are those of Python."


def _parameter_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    message = f"{event.who} {event.verb} the parameter `{name}`, which {them.listed} {them.do('get')} as it is defined"
    return message, _handing_over(name, them, event)


def _definition_text(pipeline: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    message = f"{event.who} {event.verb} `{name}`, which {them.listed} {them.do('get')} as it is defined"
    if any(not item.constant for item in pipeline.shared.by_name.get(name, ())):
        hint = "Each step has a kernel of its own: hand over what {0} needs as an output, or change it there, too."
        return message, hint.format(them.listed)
    return message, _handing_over(name, them, event)


def _module_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    message = f"{event.who} {event.verb} `{name}`, which {them.listed} {them.do('get')} as it is defined"
    return message, f"Each step has a kernel of its own: make the change in {them.listed}, too."


def _shared_text(pipeline: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    one, other, maker, output, other_maker, other_output = name.split(":")
    message = (
        f"`{one}` of step `{maker}` and `{other}` of step `{other_maker}` share an object in one kernel, but not in "
        f"{them.listed}, which {event.verb}"
    )
    order = list(pipeline.steps)
    early, late = (maker, output), (other_maker, other_output)
    if order.index(maker) > order.index(other_maker):
        early, late, one = late, early, other
    hint = (
        f"Hand both over from one step, which keeps them together: `-o {late[1]}:cloudpickle,{early[1]}:cloudpickle` "
        f"in `{late[0]}`, and `-i {one}={late[0]}.{early[1]}` in {them.listed}."
    )
    return message, hint


def _carried_text(_: PipelineText, name: str, them: _Readers, event: ChangeEvent) -> tuple[str, str]:
    maker, output, variable = name.split(":")
    message = (
        f"{event.who} {event.verb} `{variable}`, which a function in `{output}` of step `{maker}` reads; "
        f"{them.listed} {them.do('get')} it with the value of `{maker}`"
    )
    hint = f"Hand `{variable}` to the function as an argument, or define the function in an ordinary cell."
    return message, hint


def _handing_over(name: str, them: _Readers, event: ChangeEvent) -> str:
    if event.step:
        return f"Declare `-o {name}` in `{event.step}` and `-i {name}` in {them.listed} to hand it over."
    return f"Make the change in a step with `-o {name}`, and declare `-i {name}` in {them.listed}."


def _output_hint(pipeline: PipelineText, output: str, maker: str, listed: str, event: ChangeEvent) -> str:
    if not event.step:
        return (
            f"Make the change in a step: `%%step NAME -i {output}={maker}.{output} -o {output}`, and "
            f"`-i {output}=NAME.{output}` in {listed}; or mark the cell with `#| local` if {listed} should not see it."
        )
    if pipeline.steps[event.step].output(output) is not None:
        return f"Declare `-i {output}={event.step}.{output}` in {listed}, or change a copy in `{event.step}`."
    return (
        f"Declare `-o {output}` in `{event.step}` and `-i {output}={event.step}.{output}` in {listed}, or use a copy "
        f"with another name in `{event.step}`."
    )


_TEXTS: Mapping[str, Callable[[PipelineText, str, _Readers, ChangeEvent], tuple[str, str]]] = {
    "random": _random_text, "output": _output_text, "process": _process_text, "own": _own_text,
    "builtin": _builtin_text, "module": _module_text,
    "shared": _shared_text, "carried": _carried_text, "parameter": _parameter_text,
}  # fmt: skip
