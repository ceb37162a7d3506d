"""Completion in a declaration: options, keys and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nbpipe.errors import Refused, SourceLocation
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.declaration_items import format_names
from nbpipe.language.directives import SHORT, WORKING, marker
from nbpipe.language.ipython_syntax import parse_cell
from nbpipe.language.name_analysis import name_usage
from nbpipe.language.source_text import lines_of

_HEADER = re.compile(r"\s*(?:%%(?:nb)?step|#\s?\|\s*step\s*:)(?=\s|$)")
_PIPE = re.compile(r"#\s?\|\s?")
_KEY = re.compile(r"\s*([A-Za-z]\w*)\s*:")
_OPTION = re.compile(r"(?<!\S)--?([A-Za-z]\w*)(?=[\s=])=?")
_LAST = re.compile(r"[^\s,]*$")
_FLAGS = ("append", "here")
_REUSE = ("auto", "never", "keep")
# What `%nbpipe defaults` takes, with the values of those keys that have few.
DEFAULT_VALUES: Mapping[str, Sequence[str]] = {
    "compute": (), "cpu": (), "envvar": (), "gpu": (), "memory": (), "retries": (),
    "reuse": _REUSE, "run": ("submit", "manual"), "timeout": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompletionNames:
    """The names to offer: steps with their outputs, parameters, datastores, datasets; ``paths`` looks for files."""

    steps: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parameters: Sequence[str] = ()
    paths: Callable[[str], Sequence[str]] = lambda _prefix: ()
    datastores: Sequence[str] = ()
    datasets: Sequence[str] = ()

    @property
    def outputs(self) -> list[str]:
        """Return all outputs as ``STEP.OUTPUT``."""
        return [f"{step}.{output}" for step, outputs in self.steps.items() for output in outputs]


@dataclass(frozen=True, slots=True)
class Completions:
    """Words that may replace ``fragment``, the text right before the cursor."""

    fragment: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Spot:
    """The cursor's position: the text of the declaration before it, the step, and the names that its code binds."""

    before: str
    step: str
    bound: Sequence[str]
    names: CompletionNames


def complete(source: str, line: int, column: int, names: CompletionNames) -> Completions | None:
    """Return the completions at a line (from 0) and column of a cell; None outside of declarations."""
    lines = lines_of(source)
    if line >= len(lines):
        return None
    before = lines[line][:column]
    first = next((place for place, text in enumerate(lines) if text.strip()), 0)
    header = _HEADER.match(lines[first])
    if header is None or line < first or marker(source) is not CellMarker.STEP:
        return None
    head, last = _joined(lines, first, header.end())
    step = (head.split(maxsplit=1) or [""])[0]
    spot = _Spot(before, step, _bound(lines, last + 1), names)
    if line <= last:
        text = before[header.end() :] if line == first else _joined([*lines[:line], before], first, header.end())[0]
        return _in_header(text, spot)
    # Only lines right under the first one declare anything.
    pipe = _PIPE.match(before)
    if pipe is None or not all(_PIPE.match(text) for text in lines[last + 1 : line]):
        return None
    return _in_key_line(before[pipe.end() :], spot)


def _joined(lines: Sequence[str], first: int, start: int) -> tuple[str, int]:
    """Return a line from ``start`` on with those that a backslash adds, and the last one's index."""
    text, last = lines[first][start:], first
    while text.rstrip().endswith("\\") and last + 1 < len(lines):
        last += 1
        following = lines[last]
        pipe = _PIPE.match(following)
        text = f"{text.rstrip()[:-1]} {following[pipe.end() :] if pipe else following}"
    return text, last


def _bound(lines: Sequence[str], start: int) -> list[str]:
    """Return the names that the cell's code binds, as far as it can be read."""
    try:
        return sorted(name_usage(parse_cell("\n".join(lines[start:]), SourceLocation()).body).binds)
    except (Refused, RecursionError):
        return []


def _in_header(text: str, spot: _Spot) -> Completions | None:
    fragment = _LAST.search(text)
    word = fragment[0] if fragment else ""
    if not text[: len(text) - len(word)].strip():
        # The author chooses the name of a new step; only steps to continue can be offered.
        return _fitting(word, spot.names.steps)
    if word.startswith("-"):
        used = {SHORT.get(name, name) for name in _OPTION.findall(text)}
        short = [f"-{letter}" for letter, key in SHORT.items() if key not in used]
        return _fitting(word, [*short, *(f"--{key}" for key in (*WORKING, *_FLAGS) if key not in used)])
    options = list(_OPTION.finditer(text))
    if not options:
        return _fitting(word, [f"-{letter}" for letter in SHORT])
    key = options[-1][1]
    return _in_value(SHORT.get(key, key), text[options[-1].end() :], spot)


def _in_key_line(text: str, spot: _Spot) -> Completions | None:
    key = _KEY.match(text)
    if key is None:
        return _fitting(text.lstrip(), [f"{name}: " for name in WORKING])
    return _in_value(key[1], text[key.end() :], spot)


def _in_value(key: str, value: str, spot: _Spot) -> Completions | None:
    offers = _VALUES.get(key)
    if offers is None:
        return None
    item = value.rpartition(",")[2].lstrip()
    used = {part.partition("=")[0].partition(":")[0].strip() for part in value.split(",")[:-1]}
    # Replace what follows the last separator: NAME, FORMAT or SOURCE.
    fragment = re.split(r"[=\s]" if "=" in item else r"[:\s]", item)[-1]
    return _fitting(fragment, [word for word in offers(item, spot) if word not in used])


def _of_in(item: str, spot: _Spot) -> Iterable[str]:
    others = {step: outputs for step, outputs in spot.names.steps.items() if step != spot.step}
    source = item.rpartition("=")[2].lstrip()
    if "=" in item and source.startswith((".", "/")):
        return ["./", *spot.names.paths(source)]
    if "=" in item:
        named = [f"{step}.{output}" for step, outputs in others.items() for output in outputs]
        datasets = [f"ds:{name}" for name in spot.names.datasets]
        return [*named, *datasets, *(f"param:{name}" for name in spot.names.parameters), "./"]
    if ":" in item:
        return [f"{name}=" for name in format_names() if name not in ("file", "dir")]
    outputs = [output for step_outputs in others.values() for output in step_outputs]
    unambiguous = [output for output in dict.fromkeys(outputs) if outputs.count(output) == 1]
    qualified = [
        f"{output}={step}.{output}"
        for step, step_outputs in others.items()
        for output in step_outputs
        if output not in unambiguous
    ]
    return [*unambiguous, *qualified]


def _of_out(item: str, spot: _Spot) -> Iterable[str]:
    if "=" in item:
        return ["./"]
    return (*format_names(), "file.") if ":" in item else spot.bound


def _of_register(item: str, spot: _Spot) -> Iterable[str]:
    if "=" in item:
        return spot.names.datasets
    return [f"{output}=" for output in spot.names.steps.get(spot.step, spot.bound)]


# The values of each key; environments (env) and targets (compute) belong here once they exist.
_VALUES: Mapping[str, Callable[[str, _Spot], Iterable[str]]] = {
    "in": _of_in,
    "out": _of_out,
    "param": lambda _item, spot: spot.names.parameters,
    "when": lambda _item, spot: spot.names.parameters,
    "after": lambda _item, spot: [step for step in spot.names.steps if step != spot.step],
    "hash": lambda item, spot: ["./", *spot.names.paths(item)] if item else ["./"],
    "reuse": lambda _item, _spot: _REUSE,
    "shows": lambda _item, _spot: ("true", "false"),
    "register": _of_register,
}


def _fitting(fragment: str, words: Iterable[str]) -> Completions | None:
    matches = tuple(dict.fromkeys(word for word in words if word.startswith(fragment)))
    return Completions(fragment, matches) if matches else None
