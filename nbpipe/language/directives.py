"""The grammar of a step's declaration: one for the magic's line, for ``#|`` lines and for ``#| step:`` cells."""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbpipe.errors import BadDirective, Place
from nbpipe.language import values
from nbpipe.language.ipython_syntax import without_magic
from nbpipe.language.names import magic_texts
from nbpipe.language.text import Span, comments_of, find_top_level, lines_of, nearest, split_commas, unquote
from nbpipe.model import Cell, Elsewhere, Files, FromParameter, Input, Options, Output, Source, StepOutput

FORMATS = (
    "arrow", "parquet", "csv", "json", "npy", "npz", "safetensors", "png", "bin", "text", "cloudpickle", "file", "dir",
)  # fmt: skip
ALIASES = ("feather", "bytes", "txt", "str", "pickle", "pkl")
SHORT = {"i": "in", "o": "out", "p": "param"}
FLAGS = ("append", "here", "finally")
WORKING = ("in", "out", "param", "after", "retries", "timeout", "memory", "reuse", "salt", "hash", "envvar", "when")
LATER = (
    "gpu", "cpu", "compute", "env", "secret", "map", "errors", "sweep", "finally", "kind", "args", "register",
    "download", "mount",
)  # fmt: skip
KEYS = (*WORKING, *LATER)
_DEFAULTS = ("retries", "timeout", "memory", "reuse", "envvar")
MARKERS = ("parameters", "shared", "local")

# Not `%%step?`, which asks for help.
_MAGIC_LINE = re.compile(r"%%(?:nb)?step(?![\w?])")
_PIPE_LINE = re.compile(r"#\s?\|(.*)$")
_STEP_PIPE = re.compile(r"#\s?\|\s*step\s*:")
_ESCAPE = re.compile(r"\s*[!%?]|.*\?\s*$")
_QUOTED = re.compile(r"(?<![^\s,=:])(\"[^\"]*\"|'[^']*')")
_RESERVED = ("_nbpipe",)
_KEY_LINE = re.compile(r"\s*([A-Za-z][\w-]*)\s*:(.*)$")
_OPTION = re.compile(r"(?<!\S)(--?)([A-Za-z][\w-]*)(=?)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_FORMAT = re.compile(r"[A-Za-z][\w.+-]*\Z")


@dataclass(frozen=True, slots=True)
class Declared:
    """A step cell, read: its declaration and its body, directive lines turned into comments."""

    name: str
    append: bool
    here: bool
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    options: Options
    given: Mapping[str, Place] = field(default_factory=dict)
    body: str = ""
    place: Place = field(default_factory=Place)


def marker(source: str) -> str | None:
    """Get the kind that the cell's first line gives it: step, parameters, shared, local, magic or None."""
    line = _first_line(lines_of(source))[1]
    if _begins_step(line):
        return "step"
    if line.startswith("%%"):
        return "magic"
    pipe = _PIPE_LINE.match(line)
    if pipe is None:
        return None
    word = pipe[1].strip()
    return word if word in MARKERS else None


def misplaced(cell: Cell) -> BadDirective | None:
    """Get the error for a step's first line that is indented, or that a magic or a comment stands above, or None."""
    lines = lines_of(cell.source)
    first, line = _first_line(lines)
    if _begins_step(line.lstrip()) and not _begins_step(line):
        hint = "Let it begin where the line begins."
        return BadDirective(f"`{line.strip()}` is indented", hint, Place(cell.number, first, 1))
    above = line.strip()
    return _under_comments(cell, lines, first, above) or _under_code(cell, lines, above)


def _under_comments(cell: Cell, lines: list[str], first: int, above: str) -> BadDirective | None:
    stacked = above.startswith("%%")
    for number, below in enumerate(lines[first:], first + 1):
        if not (stacked or above.startswith("#")):
            return None
        if _begins_step(below):
            return _below(below, above, Place(cell.number, number, 1))
        if below.strip() and not below.startswith("#"):
            return None
    return None


def _under_code(cell: Cell, lines: list[str], above: str) -> BadDirective | None:
    """Get the error for a comment ``#| step:`` below code; text in a string, or under another magic, is none."""
    if not any(_STEP_PIPE.match(line) for line in lines[1:]) or _begins_step(lines[0]):
        return None
    source = without_magic(cell.source) if above.startswith("%%") else cell.source
    # IPython's own lines are no Python, and would end the search for comments.
    plain = ["" if _ESCAPE.match(line) else line for line in lines_of(source or "")]
    for number in comments_of("\n".join(plain)):
        if _STEP_PIPE.match(lines[number - 1]):
            return _below(lines[number - 1], above, Place(cell.number, number, 1))
    return None


def misplaced_call(cell: Cell, tree: ast.Module) -> BadDirective | None:
    """Get the error for ``%%step`` below code, where IPython takes it for a line magic, or None."""
    for node in ast.walk(tree):
        if magic_texts(node)[:1] in (["%step"], ["%nbstep"]):
            lines = lines_of(cell.source)
            near = [number for number, line in enumerate(lines, 1) if _MAGIC_LINE.match(line)]
            number = min(near, key=lambda line: abs(line - node.lineno), default=0)  # type: ignore[attr-defined]
            if number:
                return _below(lines[number - 1], _first_line(lines)[1].strip(), Place(cell.number, number, 1))
    return None


def _begins_step(line: str) -> bool:
    return bool(_MAGIC_LINE.match(line) or _STEP_PIPE.match(line))


def _below(line: str, above: str, place: Place) -> BadDirective:
    magic = above.split(maxsplit=1)[0]
    out = f"Leave `{magic}` out: a step's times are recorded anyway." if above.startswith("%%") else ""
    return BadDirective(f"`{line.strip()}` stands below `{above[:60]}`", out or "Make it the cell's first line.", place)


def read_step(cell: Cell) -> Declared:
    """Read a step cell's declaration; BadDirective at the first thing that is wrong."""
    lines = lines_of(cell.source)
    first, _ = _first_line(lines)
    header, used = _header(cell, lines, first)
    word, name = _name(header)
    options = _options(header.named(name), word)
    after = first - 1 + used
    while after < len(lines) and (pipe := _PIPE_LINE.match(lines[after])):
        span, taken = _joined(cell.number, lines, after, pipe.start(1), _after_pipe)
        _add_line(options, span.named(name))
        after += taken
    _stray(lines, after, Place(cell.number, step=name))
    if "append" in options:
        _only_data(options)
    return Declared(
        name=name,
        append="append" in options,
        here="here" in options,
        inputs=_inputs(options.get("in")),
        outputs=_outputs(options.get("out")),
        options=_to_options(options),
        given=_given(options),
        body=_body(lines, first - 1, used),
        place=Place(cell.number, first, 1, name),
    )


def _given(options: Mapping[str, Span]) -> dict[str, Place]:
    """Get the place of each key that is given, and of each name of ``param``."""
    found = {key: span.place() for key, span in options.items()}
    if "param" in options:
        found |= {f"param:{_identifier(item, 'name')}": item.place() for item in split_commas(options["param"])}
    return found


def read_defaults(span: Span) -> dict[str, Any]:
    """Read ``%nbpipe defaults KEY=VALUE …``: values of the keys that a step may leave out, and ``run``."""
    found: dict[str, Any] = {}
    for word in re.finditer(r"\S+", span.text):
        item = span.part(*word.span())
        key, equals, _ = item.text.partition("=")
        if not equals:
            raise item.wrong(f"`{item.text}` is not KEY=VALUE", "For example: %nbpipe defaults retries=1 timeout=10m")
        if key == "run":
            found[key] = values.one_of(item.part(len(key) + 1), ("submit", "manual"))
            continue
        if key not in (*_DEFAULTS, *LATER):
            raise item.wrong(f"`{key}` cannot be a default", nearest(key, (*_DEFAULTS, "run")))
        found[key] = _value(key, item.part(len(key) + 1)) if key in WORKING else item.place()
    return found


def _first_line(lines: list[str]) -> tuple[int, str]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            return number, line
    return 1, ""


def _header(cell: Cell, lines: list[str], first: int) -> tuple[Span, int]:
    """Get the declaration after ``%%step`` or ``#| step:``, continued lines joined, and how many lines it takes."""
    line = lines[first - 1]
    magic, pipe = _MAGIC_LINE.match(line), _STEP_PIPE.match(line)
    start = magic.end() if magic else pipe.end() if pipe else 0
    return _joined(cell.number, lines, first - 1, start, _after_pipe if pipe else _no_pipe)


def _after_pipe(line: str) -> int | None:
    pipe = _PIPE_LINE.match(line)
    return pipe.start(1) if pipe else None


def _no_pipe(line: str) -> int | None:
    return None if _PIPE_LINE.match(line) else 0


def _joined(
    cell: int, lines: list[str], index: int, start: int, goes_on: Callable[[str], int | None]
) -> tuple[Span, int]:
    """Get the text of a line from ``start`` on, lines that a backslash adds joined, and how many lines it takes."""
    text, segments, used = lines[index][start:], [(0, index + 1, start + 1)], 1
    while text.rstrip().endswith("\\"):
        text = text.rstrip()[:-1] + " "
        following = lines[index + used] if index + used < len(lines) else None
        begin = None if following is None else goes_on(following)
        if following is None or begin is None:
            break
        segments.append((len(text), index + used + 1, begin + 1))
        text += following[begin:]
        used += 1
    return Span(text, tuple(segments), cell), used


def _name(header: Span) -> tuple[Span, str]:
    word = re.match(r"\s*([^\s]+)", header.text)
    if word is None or word[1].startswith("-"):
        raise header.wrong("the step has no name", "Write a name first: %%step NAME -i … -o …")
    span = header.part(word.start(1), word.end(1))
    return span, _identifier(span, "step name")


def _identifier(span: Span, what: str) -> str:
    """Get the name as Python knows it: identifiers are compared in Unicode's form NFKC."""
    text = span.text
    if not text.isidentifier() or keyword.iskeyword(text):
        raise span.wrong(f"`{text}` is not {_a(what)}", _name_hint(text, what))
    if text in _RESERVED:
        raise span.wrong(f"`{text}` is a name of nbpipe's own", f"Choose another {what}.")
    return unicodedata.normalize("NFKC", text)


def _name_hint(text: str, what: str) -> str:
    if re.search(r"(?:^|\s)#", text):
        return "A declaration holds no comment: write it on a line of its own, below."
    step, _, output = text.partition(".")
    if what == "input name" and step.isidentifier() and output.isidentifier():
        return f"Say under which name you want it: {output}={text}"
    words = text.split()
    if len(words) > 1 and all(word.isidentifier() for word in words):
        return f"Commas stand between names: {', '.join(words)}"
    suggestion = re.sub(r"\W+", "_", text).strip("_") or "name"
    suggestion = f"_{suggestion}" if suggestion[0].isdigit() else suggestion
    suggestion = f"{suggestion}_" if keyword.iskeyword(suggestion) else suggestion
    return f"{_a(what).capitalize()} is a Python identifier, for example `{suggestion}`."


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _options(header: Span, name: Span) -> dict[str, Span]:
    """Split the magic's line into its options: each value runs to the next option."""
    offset = header.text.index(name.text) + len(name.text)
    found = [match for match in _OPTION.finditer(_without_quoted(header.text)) if match.start() >= offset]
    between = header.part(offset, found[0].start() if found else None)
    if between.text:
        comment = _name_hint(between.text, "") if between.text.startswith("#") else ""
        hint = comment or "Inputs are -i NAME, outputs -o NAME."
        raise between.wrong(f"`{between.text}` belongs to no option", hint)
    options: dict[str, Span] = {}
    for index, match in enumerate(found):
        following = found[index + 1] if index + 1 < len(found) else None
        where = header.part(match.start(), match.end())
        key = _key(where, match[2], short=match[1] == "-")
        value = header.part(match.end(), following.start() if following else None)
        _add(options, key, value if value.text else where, has_value=bool(value.text))
    return options


def _without_quoted(text: str) -> str:
    return _QUOTED.sub(lambda match: "_" * len(match[0]), text)


def _key(where: Span, word: str, *, short: bool) -> str:
    if short and word in SHORT:
        return SHORT[word]
    known = (*KEYS, "append", "here")
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
    if has_value and key in ("append", "here"):
        raise value.wrong(f"`--{key}` takes no value, found `{value.text}`", f"Write %%step NAME --{key} -i …")
    options[key] = value


def _add_line(options: dict[str, Span], span: Span) -> None:
    match = _KEY_LINE.match(span.text)
    if match is None:
        raise span.part(0).wrong(f"`{span.text.strip()}` is not `key: value`", "For example: #| in: features")
    where = span.part(match.start(1), match.end(1))
    key = match[1]
    if key not in KEYS:
        raise where.wrong(f"there is no key `{key}`", nearest(key, KEYS) or f"The keys are {', '.join(KEYS)}.")
    value = span.part(match.start(2), match.end(2))
    _add(options, key, value if value.text else where, has_value=bool(value.text))


def _stray(lines: list[str], after: int, step: Place) -> None:
    """Refuse directives that stand too low, and another magic under the declaration."""
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


def _only_data(options: Mapping[str, Span]) -> None:
    for key, span in options.items():
        if key not in ("append", "here", "in", "out"):
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
    left = item.part(0, equals) if equals >= 0 else item
    rest = item.part(equals + 1) if equals >= 0 else None
    if rest is not None and not rest.text:
        raise item.wrong(f"there is nothing after `{left.text}=`", "Name what it stands for, or leave the = out.")
    colon = left.text.find(":")
    name = left.part(0, colon) if colon >= 0 else left
    if "/" in left.text:
        raise left.wrong(f"`{item.text}` has no name", _path_hint(item.text))
    return _identifier(name, what), _format(left.part(colon + 1)) if colon >= 0 else None, rest


def _path_hint(text: str) -> str:
    """Get the cure for a path without a name, or for a whole item in the quotes that belong around its path."""
    quote, inner = text[0], text[1:-1]
    named, equals, path = inner.partition("=")
    if quote in "\"'" and equals and "/" not in named:
        return f"Only the path stands in quotes: {named}={quote}{path}{quote}"
    return f"Give it one: data={text}"


def _format(span: Span) -> str:
    text = span.text
    base = text.partition(".")[0]
    if not _FORMAT.match(text) or (text not in (*FORMATS, *ALIASES) and not (base == "file" and len(text) > 5)):
        hint = nearest(text, (*FORMATS, "file.csv")) or f"The formats are {', '.join(FORMATS)} and file.SUFFIX."
        raise span.wrong(f"there is no format `{text}`", hint)
    return text


def _input(item: Span) -> Input:
    name, format_, rest = _named(item, "input name")
    if format_ is not None and rest is None:
        hint = f"The format is recorded with the data: write {name} alone."
        raise item.wrong(f"`{item.text}` restates a format", hint)
    if format_ is not None and rest is not None and (format_ == "dir" or format_.startswith("file")):
        hint = f"A file or folder is bound as its path: write {name}={rest.text}"
        raise item.wrong(f"`{format_}` is no format to read", hint)
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
        return StepOutput(unicodedata.normalize("NFKC", output), unicodedata.normalize("NFKC", step))
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
    "memory": "For example: --memory 2GiB",
}

_READERS: Mapping[str, Callable[[Span], Any]] = {
    "param": _names,
    "after": _names,
    "retries": values.count,
    "timeout": values.duration,
    "memory": values.size,
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
