"""The grammar of a step's declaration: one for the magic's line, for ``#|`` lines and for ``#| step:`` cells."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbpipe.errors import BadDirective, SourceLocation
from nbpipe.language import option_values
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.dataset_items import registrations_in
from nbpipe.language.declaration_items import identifier, inputs_in, name_hint, names_in, outputs_in, paths_in
from nbpipe.language.ipython_syntax import without_magic
from nbpipe.language.misspelled_steps import misspelled
from nbpipe.language.name_analysis import magic_texts
from nbpipe.language.source_text import LocatedText, comments_of, lines_of, nearest, split_commas
from nbpipe.model import Cell, Input, Output, StepOptions

SHORT = {"i": "in", "o": "out", "p": "param"}
FLAGS = ("append", "here", "finally")
WORKING = (
    "in", "out", "param", "after", "retries", "timeout", "memory", "reuse", "salt", "hash", "envvar", "when", "shows",
    "download", "mount", "register", "cpu", "gpu", "compute",
)  # fmt: skip
LATER = (
    "env", "secret", "map", "errors", "sweep", "finally", "kind", "args",
)  # fmt: skip
KEYS = (*WORKING, *LATER)
_DEFAULTS = ("retries", "timeout", "cpu", "gpu", "memory", "compute", "reuse", "envvar")
MARKERS = {mark.value: mark for mark in (CellMarker.PARAMETERS, CellMarker.SHARED, CellMarker.LOCAL)}

# Not `%%step?`, which asks for help.
_MAGIC_LINE = re.compile(r"%%(?:nb)?step(?![\w?])")
_CALLED_LINE = re.compile(r"\s*%%?\s*(?:nb)?step(?![\w?])")
_PIPE_LINE = re.compile(r"#\s?\|(.*)$")
_STEP_PIPE = re.compile(r"#\s?\|\s*step\s*:")
_ESCAPE = re.compile(r"\s*[!%?,;/]|.*\?\s*$")
_QUOTED = re.compile(r"(?<![^\s,=:])(\"[^\"]*\"|'[^']*')")
_KEY_LINE = re.compile(r"\s*([A-Za-z][\w-]*)\s*:(.*)$")
_OPTION = re.compile(r"(?<!\S)(--?)([A-Za-z][\w-]*)(=?)")


@dataclass(frozen=True, slots=True)
class StepDeclaration:
    """A parsed step cell: its declaration, and its body with the directive lines turned into comments."""

    name: str
    append: bool
    here: bool
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    options: StepOptions
    key_places: Mapping[str, SourceLocation] = field(default_factory=dict)
    body: str = ""
    place: SourceLocation = field(default_factory=SourceLocation)


def marker(source: str) -> CellMarker | None:
    """Return the marker in a cell's first line; None if there is none."""
    line = _first_line(lines_of(source))[1]
    if _begins_step(line):
        return CellMarker.STEP
    if line.startswith("%%"):
        return CellMarker.MAGIC
    pipe = _PIPE_LINE.match(line)
    if pipe is None:
        return None
    return MARKERS.get(pipe[1].strip())


def misplaced(cell: Cell) -> BadDirective | None:
    """Return the error for a step's first line that is misspelled, indented, or below a magic or a comment, or None."""
    lines = lines_of(cell.source)
    first, line = _first_line(lines)
    if _begins_step(line.lstrip()) and not _begins_step(line):
        hint = "Start it at the beginning of the line."
        return BadDirective(f"`{line.strip()}` is indented", hint, SourceLocation(cell.number, first, 1))
    above = line.strip()
    return misspelled(cell) or _under_comments(cell, lines, first, above) or _under_code(cell, lines, above)


def _under_comments(cell: Cell, lines: list[str], first: int, above: str) -> BadDirective | None:
    stacked = above.startswith("%%")
    for number, below in enumerate(lines[first:], first + 1):
        if not (stacked or above.startswith("#")):
            return None
        if _begins_step(below):
            return _below(below, above, SourceLocation(cell.number, number, 1))
        if below.strip() and not below.startswith("#"):
            return None
    return None


def _under_code(cell: Cell, lines: list[str], above: str) -> BadDirective | None:
    """Return the error for a comment ``#| step:`` below code; ignore text in strings and under other magics."""
    if not any(_STEP_PIPE.match(line) for line in lines[1:]) or _begins_step(lines[0]):
        return None
    source = without_magic(cell.source) if above.startswith("%%") else cell.source
    # IPython's own syntax is not Python, and would end the search for comments.
    plain = ["" if _ESCAPE.match(line) else line for line in lines_of(source or "")]
    for number in comments_of("\n".join(plain)):
        if _STEP_PIPE.match(lines[number - 1]):
            return _below(lines[number - 1], above, SourceLocation(cell.number, number, 1))
    return None


def misplaced_call(cell: Cell, tree: ast.Module) -> BadDirective | None:
    """Return the error for ``%%step`` or ``%step`` below code, where IPython takes it for a line magic, or None."""
    for node in ast.walk(tree):
        if magic_texts(node)[:1] in (["%step"], ["%nbstep"], ["step"], ["nbstep"]):
            lines = lines_of(cell.source)
            near = [number for number, line in enumerate(lines, 1) if _CALLED_LINE.match(line)]
            number = min(near, key=lambda line: abs(line - node.lineno), default=0)  # type: ignore[attr-defined]
            if number:
                return _below(lines[number - 1], _first_line(lines)[1].strip(), SourceLocation(cell.number, number, 1))
    return None


def _begins_step(line: str) -> bool:
    return bool(_MAGIC_LINE.match(line) or _STEP_PIPE.match(line))


def _below(line: str, above: str, place: SourceLocation) -> BadDirective:
    magic = above.split(maxsplit=1)[0]
    out = f"Leave `{magic}` out: a step's times are recorded anyway." if above.startswith("%%") else ""
    first = "Make it the cell's first line" + ("." if _begins_step(line) else ", with two percent signs: %%step NAME.")
    return BadDirective(f"`{line.strip()}` stands below `{above[:60]}`", out or first, place)


@dataclass(frozen=True, slots=True)
class DeclarationText:
    """A declaration as written: ``head`` precedes the name, ``options`` are the texts of its keys.

    It occupies the lines from ``first`` to ``after`` (from 0, ``after`` excluded), of which the first line and
    its continuations are ``used`` lines.
    """

    head: str
    name: str
    name_span: LocatedText
    options: Mapping[str, LocatedText]
    first: int
    used: int
    after: int


def read_declaration_text(cell: Cell) -> DeclarationText:
    """Split a step cell's declaration into its keys; raise BadDirective at the first syntax error."""
    lines = lines_of(cell.source)
    first = _first_line(lines)[0] - 1
    header, start, used = _header(cell, lines, first + 1)
    name_span, name = _name(header)
    options = _options(header.named(name), name_span)
    after = first + used
    while after < len(lines) and (pipe := _PIPE_LINE.match(lines[after])):
        span, line_count = _joined(cell.number, lines, after, pipe.start(1), _after_pipe)
        _add_line(options, span.named(name))
        after += line_count
    _stray(lines, after, SourceLocation(cell.number, step=name))
    if "append" in options:
        _only_data(options)
    return DeclarationText(lines[first][:start].rstrip(), name, name_span, options, first, used, after)


def read_step(cell: Cell) -> StepDeclaration:
    """Read a step cell's declaration; raise BadDirective at the first error."""
    written = read_declaration_text(cell)
    name, options = written.name, written.options
    return StepDeclaration(
        name=name,
        append="append" in options,
        here="here" in options,
        inputs=inputs_in(options.get("in")),
        outputs=outputs_in(options.get("out")),
        options=_to_options(options),
        key_places=_key_places(options),
        body=_body(lines_of(cell.source), written.first, written.used),
        place=SourceLocation(cell.number, written.first + 1, 1, name),
    )


def _key_places(options: Mapping[str, LocatedText]) -> dict[str, SourceLocation]:
    """Return the place of each key, and of each item of keys that list several."""
    places = {key: span.place() for key, span in options.items()}
    for key, read_item in _LISTED.items():
        if key in options:
            places |= {f"{key}:{read_item(item)}": item.place() for item in split_commas(options[key])}
    return places


def read_defaults(span: LocatedText) -> dict[str, Any]:
    """Read ``%nbpipe defaults KEY=VALUE …``: defaults for keys of steps, and ``run``."""
    defaults: dict[str, Any] = {}
    for match in re.finditer(r"\S+", span.text):
        item = span.part(*match.span())
        key, equals, _ = item.text.partition("=")
        if not equals:
            raise item.wrong(f"`{item.text}` is not KEY=VALUE", "For example: %nbpipe defaults retries=1 timeout=10m")
        if key == "run":
            defaults[key] = option_values.one_of(item.part(len(key) + 1), ("submit", "manual"))
            continue
        if key not in (*_DEFAULTS, *LATER):
            raise item.wrong(f"`{key}` cannot be a default", nearest(key, (*_DEFAULTS, "run")))
        defaults[key] = _READERS[key](item.part(len(key) + 1)) if key in WORKING else item.place()
    return defaults


def _first_line(lines: list[str]) -> tuple[int, str]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            return number, line
    return 1, ""


def _header(cell: Cell, lines: list[str], first: int) -> tuple[LocatedText, int, int]:
    """Return the declaration after ``%%step`` or ``#| step:``, its start column and its number of lines, joined."""
    line = lines[first - 1]
    magic, pipe = _MAGIC_LINE.match(line), _STEP_PIPE.match(line)
    start = magic.end() if magic else pipe.end() if pipe else 0
    span, used = _joined(cell.number, lines, first - 1, start, _after_pipe if pipe else _no_pipe)
    return span, start, used


def _after_pipe(line: str) -> int | None:
    pipe = _PIPE_LINE.match(line)
    return pipe.start(1) if pipe else None


def _no_pipe(line: str) -> int | None:
    return None if _PIPE_LINE.match(line) else 0


def _joined(
    cell: int, lines: list[str], index: int, start: int, continuation_start: Callable[[str], int | None]
) -> tuple[LocatedText, int]:
    """Return the text of a line from ``start``, joined with its continuation lines, and the number of lines."""
    text, segments, used = lines[index][start:], [(0, index + 1, start + 1)], 1
    while text.rstrip().endswith("\\"):
        text = text.rstrip()[:-1] + " "
        following = lines[index + used] if index + used < len(lines) else None
        begin = None if following is None else continuation_start(following)
        if following is None or begin is None:
            break
        segments.append((len(text), index + used + 1, begin + 1))
        text += following[begin:]
        used += 1
    return LocatedText(text, tuple(segments), cell), used


def _name(header: LocatedText) -> tuple[LocatedText, str]:
    match = re.match(r"\s*([^\s]+)", header.text)
    if match is None or match[1].startswith("-"):
        raise header.wrong("the step has no name", "Write a name first: %%step NAME -i … -o …")
    span = header.part(match.start(1), match.end(1))
    return span, identifier(span, "step name")


def _options(header: LocatedText, name: LocatedText) -> dict[str, LocatedText]:
    """Split the magic's line into its options: each value runs to the next option."""
    offset = header.text.index(name.text) + len(name.text)
    matches = [match for match in _OPTION.finditer(_without_quoted(header.text)) if match.start() >= offset]
    between = header.part(offset, matches[0].start() if matches else None)
    if between.text:
        comment = name_hint(between.text, "") if between.text.startswith("#") else ""
        hint = comment or "Inputs are -i NAME, outputs -o NAME."
        raise between.wrong(f"`{between.text}` belongs to no option", hint)
    options: dict[str, LocatedText] = {}
    for index, match in enumerate(matches):
        following = matches[index + 1] if index + 1 < len(matches) else None
        where = header.part(match.start(), match.end())
        key = _key(where, match[2], short=match[1] == "-")
        value = header.part(match.end(), following.start() if following else None)
        _add(options, key, value if value.text else where, has_value=bool(value.text))
    return options


def _without_quoted(text: str) -> str:
    return _QUOTED.sub(lambda match: "_" * len(match[0]), text)


def _key(where: LocatedText, name: str, *, short: bool) -> str:
    if short and name in SHORT:
        return SHORT[name]
    allowed = (*KEYS, "append", "here")
    if name in allowed and not short:
        return name
    spelled = "-" if short else "--"
    choices = [*(f"-{letter}" for letter in SHORT), *(f"--{key}" for key in allowed)]
    hint = f"Did you mean `--{name}`?" if name in allowed else nearest(name, allowed) if len(name) > 1 else ""
    hint = hint.replace("`", "`--", 1) if hint and name not in allowed else hint
    raise where.wrong(f"there is no option `{spelled}{name}`", hint or f"The options are {', '.join(choices)}.")


def _add(options: dict[str, LocatedText], key: str, value: LocatedText, *, has_value: bool) -> None:
    if key in options:
        line = options[key].place().line
        raise value.wrong(f"`{key}` is given twice, first on line {line}", "Keep one of them.")
    if not has_value and key not in FLAGS:
        raise value.wrong(f"`{value.text}` needs a value", _EXAMPLE.get(key, ""))
    if has_value and key in ("append", "here"):
        raise value.wrong(f"`--{key}` takes no value, found `{value.text}`", f"Write %%step NAME --{key} -i …")
    options[key] = value


def _add_line(options: dict[str, LocatedText], span: LocatedText) -> None:
    match = _KEY_LINE.match(span.text)
    flag = span.text.strip()
    if flag in FLAGS and flag in KEYS:
        _add(options, flag, span.part(0), has_value=False)
        return
    if match is None:
        raise span.part(0).wrong(f"`{span.text.strip()}` is not `key: value`", "For example: #| in: features")
    where = span.part(match.start(1), match.end(1))
    key = match[1]
    if key not in KEYS:
        raise where.wrong(f"there is no key `{key}`", nearest(key, KEYS) or f"The keys are {', '.join(KEYS)}.")
    value = span.part(match.start(2), match.end(2))
    _add(options, key, value if value.text else where, has_value=bool(value.text))


def _stray(lines: list[str], after: int, step: SourceLocation) -> None:
    """Raise BadDirective for directives below the code, and for another magic under the declaration."""
    code = next((n for n, line in enumerate(lines[after:], after + 1) if line.strip() and line[0] != "#"), 0)
    if code and lines[code - 1].startswith("%%"):
        text = lines[code - 1].strip()
        hint = f"Leave `{text.split()[0]}` out: a step is Python, and its times are recorded anyway."
        raise BadDirective(f"a step cannot hold the cell magic `{text}`", hint, replace(step, line=code, column=1))
    if not any(_PIPE_LINE.match(line) for line in lines[after:]):
        return
    for number in comments_of("\n".join(lines[after:])):
        line = lines[after + number - 1]
        pipe = _PIPE_LINE.match(line)
        key = _KEY_LINE.match(pipe[1]) if pipe else None
        if key and key[1] in KEYS:
            raise BadDirective(
                f"`{line.strip()}` stands below the step's code", "Move it right under the step's first line.",
                replace(step, line=after + number, column=1),
            )  # fmt: skip


def _only_data(options: Mapping[str, LocatedText]) -> None:
    for key, span in options.items():
        if key not in ("append", "here", "in", "out"):
            raise span.wrong(
                f"a continued step cannot set `{key}`",
                "Set it in the step's first cell; only -i and -o are allowed here.",
            )


def _item_name(span: LocatedText) -> str:
    return identifier(span, "name")


_LISTED: Mapping[str, Callable[[LocatedText], str]] = {
    "param": _item_name,
    "after": _item_name,
    "hash": option_values.text,
    "download": _item_name,
    "mount": _item_name,
    "register": lambda item: item.text.partition("=")[0].strip(),
}


_EXAMPLE = {
    "in": "For example: -i features, raw=./data/raw.csv",
    "out": "For example: -o model, report:json",
    "param": "For example: -p learning_rate",
    "retries": "For example: --retries 2",
    "timeout": "For example: --timeout 10m",
    "cpu": "For example: --cpu 2",
    "gpu": "For example: --gpu 1",
    "compute": "For example: --compute gpu",
    "memory": "For example: --memory 2GiB",
    "shows": "For example: --shows true",
    "download": "For example: --download images",
    "mount": "For example: --mount images",
    "register": "For example: --register features=prepared_features",
}

_READERS: Mapping[str, Callable[[LocatedText], Any]] = {
    "param": names_in,
    "after": names_in,
    "retries": option_values.count,
    "timeout": option_values.duration,
    "cpu": option_values.cores,
    "gpu": option_values.count,
    "compute": option_values.target,
    "memory": option_values.size,
    "reuse": option_values.reuse,
    "salt": option_values.text,
    "hash": paths_in,
    "envvar": names_in,
    "when": option_values.text,
    "shows": option_values.truth,
    "download": names_in,
    "mount": names_in,
    "register": registrations_in,
}


def _to_options(options: Mapping[str, LocatedText]) -> StepOptions:
    read = {{"param": "params"}.get(key, key): _READERS[key](span) for key, span in options.items() if key in _READERS}
    later = tuple(
        (key, span.place()) for key, span in options.items() if key in LATER and (key, span.text) != ("kind", "python")
    )
    return StepOptions(**read, later=later)


def _body(lines: list[str], first: int, used: int) -> str:
    """Return the cell with its declaration turned into comments, so that every line keeps its number."""
    commented = [line if line.lstrip().startswith("#") else f"# {line}" for line in lines[first : first + used]]
    return "\n".join([*lines[:first], *commented, *lines[first + used :]])
