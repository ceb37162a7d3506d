"""The items of a declaration: ``NAME[:FORMAT][=SOURCE]`` of inputs, ``…[=DESTINATION]`` of outputs, names, paths."""

from __future__ import annotations

import keyword
import re
import unicodedata
from typing import Any
from urllib.parse import unquote as percent_decoded

from nbpipe.entry_points import FORMATS as ADDED
from nbpipe.entry_points import offered
from nbpipe.errors import BadDirective
from nbpipe.language.source_text import LocatedText, find_top_level, nearest, split_commas, unquote
from nbpipe.model import FileSource, Input, InputSource, Output, ParameterSource, RemoteSource, StepOutput

FORMATS = (
    "arrow", "parquet", "csv", "json", "npy", "npz", "safetensors", "figure", "png", "bin", "text",
    "cloudpickle", "file", "dir",
)  # fmt: skip
ALIASES = ("feather", "bytes", "txt", "str", "pickle", "pkl")

_RESERVED = ("_nbpipe",)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SCHEMES = ("store", "ds", "https", "file", "param")
_FORMAT = re.compile(r"[A-Za-z][\w.+-]*\Z")


def format_names() -> tuple[str, ...]:
    """Return the formats that a declaration may name, without ``file.SUFFIX``."""
    return (*FORMATS, *added_formats())


def added_formats() -> tuple[str, ...]:
    """Return the formats that other packages add; one with the name of ours is passed over."""
    names = dict.fromkeys(each.name for each in offered(ADDED) if _FORMAT.match(each.name))
    return tuple(name for name in names if name not in (*FORMATS, *ALIASES) and not name.startswith("file."))


def identifier(span: LocatedText, what: str) -> str:
    """Return the name as Python sees it: identifiers are compared in Unicode's form NFKC."""
    text = span.text
    if not text.isidentifier() or keyword.iskeyword(text):
        raise span.wrong(f"`{text}` is not {_a(what)}", name_hint(text, what))
    if text in _RESERVED:
        raise span.wrong(f"`{text}` is reserved by nbpipe", f"Choose another {what}.")
    return unicodedata.normalize("NFKC", text)


def name_hint(text: str, what: str) -> str:
    """Return a hint for a text that is not a name."""
    if re.search(r"(?:^|\s)#", text):
        return "A declaration cannot contain a comment: put it on its own line below."
    step, _, output = text.partition(".")
    if what == "input name" and step.isidentifier() and output.isidentifier():
        return f"Choose a name for it: {output}={text}"
    words = text.split()
    if len(words) > 1 and all(word.isidentifier() for word in words):
        return f"Commas stand between names: {', '.join(words)}"
    suggestion = re.sub(r"\W+", "_", text).strip("_") or "name"
    suggestion = f"_{suggestion}" if suggestion[0].isdigit() else suggestion
    suggestion = f"{suggestion}_" if keyword.iskeyword(suggestion) else suggestion
    return f"{_a(what).capitalize()} is a Python identifier, for example `{suggestion}`."


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def inputs_in(span: LocatedText | None) -> tuple[Input, ...]:
    """Read the value of ``in``; empty if there is none."""
    if span is None:
        return ()
    return _unique([_input(item) for item in split_commas(span)])


def outputs_in(span: LocatedText | None) -> tuple[Output, ...]:
    """Read the value of ``out``; empty if there is none."""
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


def _named(item: LocatedText, what: str) -> tuple[str, str | None, LocatedText | None]:
    """Split ``NAME[:FORMAT][=REST]``."""
    equals = find_top_level(item, "=")
    left = item.part(0, equals) if equals >= 0 else item
    rest = item.part(equals + 1) if equals >= 0 else None
    if rest is not None and not rest.text:
        raise item.wrong(f"there is nothing after `{left.text}=`", "Write a value after it, or leave out the =.")
    colon = left.text.find(":")
    name = left.part(0, colon) if colon >= 0 else left
    if "/" in left.text:
        raise left.wrong(f"`{item.text}` has no name", _path_hint(item.text))
    return identifier(name, what), _format(left.part(colon + 1)) if colon >= 0 else None, rest


def _path_hint(text: str) -> str:
    """Return a hint for a path without a name, or for an item quoted as a whole instead of only its path."""
    quote, inner = text[0], text[1:-1]
    named, equals, path = inner.partition("=")
    if quote in "\"'" and equals and "/" not in named:
        return f"Only the path stands in quotes: {named}={quote}{path}{quote}"
    return f"Give it one: data={text}"


def _format(span: LocatedText) -> str:
    text = span.text
    base = text.partition(".")[0]
    is_own = text in (*FORMATS, *ALIASES) or (base == "file" and len(text) > 5)
    if not _FORMAT.match(text) or not (is_own or text in added_formats()):
        every = format_names()
        hint = nearest(text, (*every, "file.csv")) or f"The formats are {', '.join(every)} and file.SUFFIX."
        raise span.wrong(f"there is no format `{text}`", hint)
    return text


def input_text(item: Input) -> str:
    """Return an input in the syntax of a declaration."""
    source = item.source
    if isinstance(source, StepOutput):
        return item.name if source == StepOutput(item.name) else f"{item.name}={source.step}.{source.output}"
    if isinstance(source, ParameterSource):
        text = f"param:{source.parameter}"
    else:
        text = source.pattern if isinstance(source, FileSource) else source.text
    quote = "'" if '"' in text else '"'
    quoted = f"{quote}{text}{quote}" if re.search(r"[\s,]", text) else text
    return f"{item.name}{f':{item.format}' if item.format else ''}={quoted}"


def _input(item: LocatedText) -> Input:
    name, format_, rest = _named(item, "input name")
    if format_ is not None and rest is None:
        hint = f"The format is recorded with the data: write {name} alone."
        raise item.wrong(f"`{item.text}` restates a format", hint)
    if format_ is not None and rest is not None and (format_ == "dir" or format_.startswith("file")):
        hint = f"A file or folder is bound as its path: write {name}={rest.text}"
        raise item.wrong(f"`{format_}` is not a format that can be read", hint)
    source = StepOutput(name) if rest is None else read_source(rest)
    if format_ is not None and isinstance(source, StepOutput):
        raise item.wrong(f"`{item.text}` restates a format", "The format is recorded with the data: leave it out.")
    return Input(name, source, format_, item.place())


def read_source(span: LocatedText) -> InputSource:
    """Read an input's source, the text after ``=``; also the value of a ``param:`` input's parameter."""
    inner = unquote(span)
    text = inner.text
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] == "param":
        return ParameterSource(identifier(inner.part(scheme.end()), "parameter name"))
    if scheme and not text.startswith(("/", ".")):
        if scheme[1] == "file":
            return FileSource(_file_path(inner))
        if scheme[1] not in ("store", "ds", "http", "https") and not text[scheme.end() :].startswith("//"):
            raise inner.wrong(f"`{scheme[1]}:` is not a known kind of source", nearest(scheme[1], _SCHEMES))
        return RemoteSource(scheme[1], text)
    if "/" in text:
        return FileSource(text)
    step, dot, output = text.partition(".")
    if dot and step.isidentifier() and output.isidentifier():
        return StepOutput(unicodedata.normalize("NFKC", output), unicodedata.normalize("NFKC", step))
    raise inner.wrong(f"`{text}` is neither STEP.OUTPUT nor a path", f"A file needs a slash: ./{text}")


def _file_path(span: LocatedText) -> str:
    """Return the path, or the pattern, that a ``file:`` address names on this machine."""
    text = span.text
    host, slash, path = text.removeprefix("file://").partition("/")
    if not text.startswith("file://") or not slash:
        raise span.wrong(f"`{text}` is not the address of a file", "Write file:///abs/path, or the path alone.")
    if host not in ("", "localhost"):
        hint = f"Write file:///{path}, or name a datastore: store:NAME/path"
        raise span.wrong(f"`{text}` is a file of another host, `{host}`", hint)
    try:
        decoded = percent_decoded(f"/{path}", errors="strict")
    except UnicodeDecodeError:
        raise span.wrong(f"`{text}` is not UTF-8 when decoded", "Write the path alone, not as an address.") from None
    if "\0" in decoded:
        raise span.wrong(f"`{text}` has a character that no path may have", "Leave out the %00.")
    return decoded


def _output(item: LocatedText) -> Output:
    name, format_, rest = _named(item, "output name")
    destination = unquote(rest).text if rest is not None else None
    if destination is not None and "/" not in destination:
        raise item.wrong(f"`{destination}` is not a destination", f"A path needs a slash: ./{destination}")
    return Output(name, format_, destination, item.place())


def names_in(span: LocatedText) -> tuple[str, ...]:
    """Read names between commas."""
    return tuple(identifier(item, "name") for item in split_commas(span))


def paths_in(span: LocatedText) -> tuple[str, ...]:
    """Read paths between commas, without their quotes."""
    return tuple(unquote(item).text for item in split_commas(span))
