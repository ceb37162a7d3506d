"""The grammar of a step's declaration: one for the magic's line, for ``#|`` lines and for ``#| step:`` cells."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.errors import BadDirective, Place
from nbpipe.language import values
from nbpipe.language.text import Span, find_top_level, line_span, nearest, split_commas, unquote
from nbpipe.model import Cell, Elsewhere, Files, FromParameter, Input, Options, Output, Source, StepOutput

MAGICS = ("%%step", "%%nbstep")
FORMATS = (
    "arrow",
    "parquet",
    "csv",
    "json",
    "npy",
    "npz",
    "safetensors",
    "png",
    "bin",
    "text",
    "cloudpickle",
    "file",
    "dir",
)
ALIASES = ("feather", "bytes", "txt", "str", "pickle", "pkl")
SHORT = {"i": "in", "o": "out", "p": "param"}
FLAGS = ("append", "finally")
WORKING = ("in", "out", "param", "after", "retries", "timeout", "reuse", "salt", "hash", "envvar", "when")
LATER = (
    "gpu", "cpu", "memory", "compute", "env", "secret", "map", "errors", "sweep", "finally", "kind", "args", "register",
    "download", "mount",
)  # fmt: skip
KEYS = (*WORKING, *LATER)
MARKERS = ("parameters", "shared", "local")

_MAGIC_LINE = re.compile(r"%%(?:nb)?step(?![\w])")
_PIPE_LINE = re.compile(r"#\s?\|(.*)$")
_STEP_PIPE = re.compile(r"#\s?\|\s*step\s*:")
_KEY_LINE = re.compile(r"\s*([A-Za-z][\w-]*)\s*:(.*)$")
_OPTION = re.compile(r"(?<!\S)(--?)([A-Za-z][\w-]*)(=?)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_FORMAT = re.compile(r"[A-Za-z][\w.+-]*\Z")


@dataclass(frozen=True, slots=True)
class Declared:
    """A step cell, read: its declaration and its body, directive lines turned into comments."""

    name: str
    append: bool
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    options: Options
    given: Mapping[str, Place] = field(default_factory=dict)
    body: str = ""
    place: Place = field(default_factory=Place)


def marker(source: str) -> str | None:
    """Get the kind that the cell's first line gives it: step, parameters, shared, local, magic or None."""
    line = _first_line(source)[1]
    if _MAGIC_LINE.match(line):
        return "step"
    if line.startswith("%%"):
        return "magic"
    pipe = _PIPE_LINE.match(line)
    if pipe is None:
        return None
    word = pipe[1].strip()
    if _STEP_PIPE.match(line):
        return "step"
    return word if word in MARKERS else None


def misplaced(cell: Cell) -> BadDirective | None:
    """Get the error for a step's first line that another magic or a comment stands above, or None."""
    lines = cell.source.splitlines()
    first = _first_line(cell.source)[0]
    stacked = marker(cell.source) == "magic"
    for number, line in enumerate(lines[first:], first + 1):
        if _MAGIC_LINE.match(line) or _STEP_PIPE.match(line):
            above = lines[first - 1].strip()
            hint = f"Leave `{above.split()[0]}` out: a step's times are recorded anyway." if stacked else ""
            message = f"`{line.strip()}` stands below `{above[:60]}`"
            return BadDirective(message, hint or "Make it the cell's first line.", Place(cell.number, number, 1))
        if stacked and line.strip() and not line.startswith("#"):
            return None
    return None


def read_step(cell: Cell) -> Declared:
    """Read a step cell's declaration; BadDirective at the first thing that is wrong."""
    first, _ = _first_line(cell.source)
    lines = cell.source.splitlines()
    header, used = _header(cell, lines, first)
    name = _name(header)
    header = header.named(name.text)
    options = _options(header, name)
    after = first - 1 + used
    while after < len(lines) and (pipe := _PIPE_LINE.match(lines[after])):
        _add_line(options, pipe, cell.number, after + 1, name.text)
        after += 1
    _stray(lines, after, cell.number, name.text)
    if "append" in options:
        _only_data(options)
    return Declared(
        name=name.text,
        append="append" in options,
        inputs=_inputs(options.get("in")),
        outputs=_outputs(options.get("out")),
        options=_to_options(options),
        given={key: span.place() for key, span in options.items()},
        body=_body(lines, first - 1, used),
        place=Place(cell.number, first, 1, name.text),
    )


def read_defaults(text: str, cell: int, line: int) -> dict[str, Any]:
    """Read ``%nbpipe defaults KEY=VALUE …``: values of the keys that a step may leave out, and ``run``."""
    span = line_span(text, cell, line)
    found: dict[str, Any] = {}
    for word in re.finditer(r"\S+", text):
        item = span.part(*word.span())
        key, equals, _ = item.text.partition("=")
        if not equals:
            raise item.wrong(f"`{item.text}` is not KEY=VALUE", "For example: %nbpipe defaults retries=1 timeout=10m")
        if key == "run":
            found[key] = values.one_of(item.part(len(key) + 1), ("submit", "manual"))
            continue
        if key not in ("retries", "timeout", "reuse", "envvar", *LATER):
            raise item.wrong(
                f"`{key}` cannot be a default", nearest(key, ("retries", "timeout", "reuse", "envvar", "run"))
            )
        found[key] = _value(key, item.part(len(key) + 1)) if key in WORKING else item.place()
    return found


def _first_line(source: str) -> tuple[int, str]:
    for number, line in enumerate(source.splitlines(), 1):
        if line.strip():
            return number, line
    return 1, ""


def _header(cell: Cell, lines: list[str], first: int) -> tuple[Span, int]:
    """Get the declaration after ``%%step`` or ``#| step:``, continued lines joined, and how many lines it takes."""
    line = lines[first - 1]
    magic = _MAGIC_LINE.match(line) or _STEP_PIPE.match(line)
    start = magic.end() if magic else 0
    text, segments, used = line[start:], [(0, first, start + 1)], 1
    while text.endswith("\\") and first - 1 + used < len(lines):
        text = text[:-1] + " "
        segments.append((len(text), first + used, 1))
        text += lines[first - 1 + used]
        used += 1
    return Span(text, tuple(segments), cell.number), used


def _name(header: Span) -> Span:
    word = re.match(r"\s*([^\s]+)", header.text)
    if word is None or word[1].startswith("-"):
        raise header.wrong("the step has no name", "Write a name first: %%step NAME -i … -o …")
    name = header.part(word.start(1), word.end(1))
    _identifier(name, "step name")
    return name


def _identifier(span: Span, what: str) -> str:
    text = span.text
    if not text.isidentifier() or keyword.iskeyword(text):
        suggestion = re.sub(r"\W", "_", text) or "name"
        suggestion = f"_{suggestion}" if suggestion[0].isdigit() or keyword.iskeyword(suggestion) else suggestion
        raise span.wrong(f"`{text}` is not a {what}", f"A {what} is a Python identifier, for example `{suggestion}`.")
    return text


def _options(header: Span, name: Span) -> dict[str, Span]:
    """Split the magic's line into its options: each value runs to the next option."""
    offset = header.text.index(name.text) + len(name.text)
    found = [match for match in _OPTION.finditer(_without_quoted(header.text)) if match.start() >= offset]
    between = header.part(offset, found[0].start() if found else None)
    if between.text:
        raise between.wrong(f"`{between.text}` belongs to no option", "Inputs are -i NAME, outputs -o NAME.")
    options: dict[str, Span] = {}
    for index, match in enumerate(found):
        following = found[index + 1] if index + 1 < len(found) else None
        where = header.part(match.start(), match.end())
        key = _key(where, match[2], short=match[1] == "-")
        value = header.part(match.end(), following.start() if following else None)
        _add(options, key, value if value.text else where, has_value=bool(value.text))
    return options


def _without_quoted(text: str) -> str:
    return re.sub(r"\"[^\"]*\"|'[^']*'", lambda match: "_" * len(match[0]), text)


def _key(where: Span, word: str, *, short: bool) -> str:
    if short and word in SHORT:
        return SHORT[word]
    known = (*KEYS, "append")
    if word in known and not short:
        return word
    spelled = "-" if short else "--"
    choices = [*(f"-{letter}" for letter in SHORT), *(f"--{key}" for key in known)]
    hint = f"Did you mean `--{word}`?" if word in known else nearest(word, known) if len(word) > 1 else ""
    hint = hint.replace("`", "`--", 1) if hint and word not in known else hint
    raise where.wrong(f"there is no option `{spelled}{word}`", hint or f"The options are {', '.join(choices)}.")


def _add(options: dict[str, Span], key: str, value: Span, *, has_value: bool) -> None:
    if key in options:
        line = options[key].place().line
        raise value.wrong(f"`{key}` is given twice, first on line {line}", "Keep one of them.")
    if not has_value and key not in FLAGS:
        raise value.wrong(f"`{value.text}` needs a value", _EXAMPLE.get(key, ""))
    if has_value and key == "append":
        raise value.wrong(f"`--append` takes no value, found `{value.text}`", "Write %%step NAME --append -i …")
    options[key] = value


def _add_line(options: dict[str, Span], pipe: re.Match[str], cell: int, line: int, step: str) -> None:
    span = line_span(pipe[1], cell, line, pipe.start(1) + 1).named(step)
    match = _KEY_LINE.match(span.text)
    if match is None:
        raise span.part(0).wrong(f"`{span.text.strip()}` is not `key: value`", "For example: #| in: features")
    where = span.part(match.start(1), match.end(1))
    key = match[1]
    if key not in KEYS:
        raise where.wrong(f"there is no key `{key}`", nearest(key, KEYS) or f"The keys are {', '.join(KEYS)}.")
    value = span.part(match.start(2), match.end(2))
    _add(options, key, value if value.text else where, has_value=bool(value.text))


def _stray(lines: list[str], after: int, cell: int, step: str) -> None:
    for number, line in enumerate(lines[after:], after + 1):
        pipe = _PIPE_LINE.match(line)
        key = _KEY_LINE.match(pipe[1]) if pipe else None
        if key and key[1] in KEYS:
            raise BadDirective(
                f"`{line.strip()}` stands below the step's code", "Move it right under the step's first line.",
                Place(cell, number, 1, step),
            )  # fmt: skip


def _only_data(options: Mapping[str, Span]) -> None:
    for key, span in options.items():
        if key not in ("append", "in", "out"):
            raise span.wrong(f"a continued step cannot set `{key}`", "Set it where the step begins; here go -i and -o.")


def _inputs(span: Span | None) -> tuple[Input, ...]:
    if span is None:
        return ()
    return _unique([_input(item) for item in split_commas(span)])


def _outputs(span: Span | None) -> tuple[Output, ...]:
    if span is None:
        return ()
    return _unique([_output(item) for item in split_commas(span)])


def _unique(items: list[Any]) -> tuple[Any, ...]:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise BadDirective(f"`{item.name}` is declared twice", "Keep one of them.", item.place)
        seen.add(item.name)
    return tuple(items)


def _named(item: Span, what: str) -> tuple[str, str | None, Span | None]:
    """Split ``NAME[:FORMAT][=REST]``."""
    equals = find_top_level(item, "=")
    left = item.part(0, equals if equals >= 0 else None)
    rest = item.part(equals + 1) if equals >= 0 else None
    if rest is not None and not rest.text:
        raise item.wrong(f"there is nothing after `{left.text}=`", "Name what it stands for, or leave the = out.")
    colon = left.text.find(":")
    name = left.part(0, colon) if colon >= 0 else left
    if colon < 0 and "/" in left.text and rest is None:
        raise left.wrong(f"`{left.text}` has no name", f"Give it one: data={left.text}")
    _identifier(name, what)
    return name.text, _format(left.part(colon + 1)) if colon >= 0 else None, rest


def _format(span: Span) -> str:
    text = span.text
    base = text.partition(".")[0]
    if not _FORMAT.match(text) or (text not in (*FORMATS, *ALIASES) and not (base == "file" and len(text) > 5)):
        hint = nearest(text, (*FORMATS, "file.csv")) or f"The formats are {', '.join(FORMATS)} and file.SUFFIX."
        raise span.wrong(f"there is no format `{text}`", hint)
    return text


def _input(item: Span) -> Input:
    name, format_, rest = _named(item, "input name")
    if format_ is not None and (rest is None or format_ == "dir" or format_.startswith("file")):
        raise item.wrong(
            f"`{item.text}` restates a format", f"The format is recorded with the data: write {name} alone."
        )  # fmt: skip
    source = StepOutput(name) if rest is None else read_source(rest)
    if format_ is not None and isinstance(source, StepOutput):
        raise item.wrong(f"`{item.text}` restates a format", "The format is recorded with the data: leave it out.")
    return Input(name, source, format_, item.place())


def read_source(span: Span) -> Source:
    """Read what stands after ``=`` of an input; also the value of a ``param:`` input's parameter."""
    inner = unquote(span)
    text = inner.text
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] == "param":
        return FromParameter(_identifier(inner.part(scheme.end()), "parameter name"))
    if scheme and not text.startswith(("/", ".")):
        if scheme[1] not in ("store", "ds", "http", "https") and not text[scheme.end() :].startswith("//"):
            raise inner.wrong(
                f"`{scheme[1]}:` is no kind of source", nearest(scheme[1], ("store", "ds", "https", "param"))
            )
        return Elsewhere(scheme[1], text)
    if "/" in text:
        return Files(text)
    step, dot, output = text.partition(".")
    if dot and step.isidentifier() and output.isidentifier():
        return StepOutput(output, step)
    raise inner.wrong(f"`{text}` is neither STEP.OUTPUT nor a path", f"A file needs a slash: ./{text}")


def _output(item: Span) -> Output:
    name, format_, rest = _named(item, "output name")
    destination = unquote(rest).text if rest is not None else None
    if destination is not None and "/" not in destination:
        raise item.wrong(f"`{destination}` is no destination", f"A path needs a slash: ./{destination}")
    return Output(name, format_, destination, item.place())


def _names(span: Span) -> tuple[str, ...]:
    return tuple(_identifier(item, "name") for item in split_commas(span))


def _paths(span: Span) -> tuple[str, ...]:
    return tuple(unquote(item).text for item in split_commas(span))


_EXAMPLE = {
    "in": "For example: -i features, raw=./data/raw.csv",
    "out": "For example: -o model, report:json",
    "param": "For example: -p learning_rate",
    "retries": "For example: --retries 2",
    "timeout": "For example: --timeout 10m",
}

_READERS: Mapping[str, Callable[[Span], Any]] = {
    "param": _names,
    "after": _names,
    "retries": values.count,
    "timeout": values.duration,
    "reuse": values.reuse,
    "salt": values.text,
    "hash": _paths,
    "envvar": _names,
    "when": values.text,
}


def _value(key: str, span: Span) -> Any:
    return _READERS[key](span)


def _to_options(options: Mapping[str, Span]) -> Options:
    read = {{"param": "params"}.get(key, key): _value(key, span) for key, span in options.items() if key in _READERS}
    later = tuple((key, span.place()) for key, span in options.items() if key in LATER and not _plain(key, span))
    return Options(**read, later=later)


def _plain(key: str, span: Span) -> bool:
    return key == "kind" and span.text == "python"


def _body(lines: list[str], first: int, used: int) -> str:
    """Get the cell with its declaration turned into comments, so that every line keeps its number."""
    commented = [line if line.lstrip().startswith("#") else f"# {line}" for line in lines[first : first + used]]
    return "\n".join([*lines[:first], *commented, *lines[first + used :]])
