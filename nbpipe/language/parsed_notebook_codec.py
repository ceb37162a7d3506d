"""Parsed notebooks as JSON text and back, so that an unchanged notebook need not be parsed again.

Only what can be restored exactly is encoded: not a notebook with errors, or with values that JSON cannot represent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbpipe.errors import NO_LOCATION, SourceLocation
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.model import (
    Definition,
    FileSource,
    FileUse,
    Input,
    InputSource,
    Output,
    Parameter,
    ParameterSource,
    PipelineWarning,
    RemoteSource,
    ReusePolicy,
    Step,
    StepCell,
    StepCode,
    StepOptions,
    StepOutput,
)

_PLAIN = StepOptions()
_SOURCES: Mapping[str, Callable[..., InputSource]] = {
    "output": StepOutput, "files": FileSource, "parameter": ParameterSource, "elsewhere": RemoteSource,
}  # fmt: skip


def encode_notebook(reading: ParsedNotebook) -> str | None:
    """Return the parsed notebook as ASCII text, or None if decoding would not restore it exactly."""
    if reading.errors or reading.unread:
        return None
    try:
        text = json.dumps(_document(reading), separators=(",", ":"))
        return text if _same(decode_notebook(text), reading) else None
    except (ValueError, TypeError, RecursionError):
        return None


def decode_notebook(text: str) -> ParsedNotebook:
    """Return the parsed notebook encoded in a text; raise ValueError if the text is invalid."""
    try:
        payload = json.loads(text)
        definitions = [_definition(*each) for each in payload["definitions"]]
        return ParsedNotebook(
            steps=tuple([_step(*each) for each in payload["steps"]]),
            parameters=tuple([_parameter(*each) for each in payload["parameters"]]),
            code={name: _code(definitions, *each) for name, *each in payload["code"]},
            injected=_decoded_value(payload["injected"]),
            defaults=_decoded_value(payload["defaults"]),
            unbound={name: tuple(outputs) for name, outputs in payload["unbound"]},
            effects=tuple([_warning(*each) for each in payload["effects"]]),
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a reading: {error}") from error


def _same(back: ParsedNotebook, reading: ParsedNotebook) -> bool:
    """Return whether both are equal, with equal types too: 1, 1.0 and True differ."""
    values = [(parameter.default, parameter.choices) for parameter in reading.parameters]
    again = [(parameter.default, parameter.choices) for parameter in back.parameters]
    orders = [list(actual.code) for actual in (back, reading)]
    expected = (values, reading.injected, reading.defaults, [(step.options, step.key_places) for step in reading.steps])
    actual = (again, back.injected, back.defaults, [(step.options, step.key_places) for step in back.steps])
    return back == reading and orders[0] == orders[1] and repr(actual) == repr(expected)


def _document(reading: ParsedNotebook) -> dict[str, Any]:
    numbers: dict[int, int] = {}
    every: list[Definition] = []
    for code in reading.code.values():
        for item in code.definitions:
            if id(item) not in numbers:
                numbers[id(item)] = len(every)
                every.append(item)
    return {
        "definitions": [
            [item.names, item.source, item.normal, item.cell, item.is_import, item.setting, item.is_value,
             item.line]
            for item in every
        ],
        "parameters": [_parameter_row(item) for item in reading.parameters],
        "steps": [_step_row(step) for step in reading.steps],
        "code": [
            [
                name, code.parameters, [numbers[id(item)] for item in code.definitions], code.normal, code.imports,
                [_warning_row(item) for item in code.warnings],
                code.files, code.raw,
                [[item.path, item.writes, _where(item.place), item.literal] for item in code.uses],
            ]
            for name, code in reading.code.items()
        ],
        "injected": _value(reading.injected),
        "defaults": _value(reading.defaults),
        "unbound": list(reading.unbound.items()),
        "effects": [_warning_row(item) for item in reading.effects],
    }  # fmt: skip


def _where(place: SourceLocation) -> list[Any]:
    return [place.cell, place.line, place.column, place.step]


def _definition(names: Iterable[str], *rest: Any) -> Definition:
    return Definition(tuple(names), *rest)


def _parameter_row(item: Parameter) -> list[Any]:
    choices = [_value(choice) for choice in item.choices]
    return [item.name, item.kind, _value(item.default), item.optional, choices, item.help, _where(item.place)]


def _parameter(name: str, kind: str, default: Any, *rest: Any) -> Parameter:
    optional, choices, help_, place = rest
    return Parameter(
        name,
        kind,
        _decoded_value(default),
        optional,
        tuple(map(_decoded_value, choices)),
        help_,
        SourceLocation(*place),
    )


def _step_row(step: Step) -> list[Any]:
    return [
        step.name,
        [[item.name, _source_row(item.source), item.format, _where(item.place)] for item in step.inputs],
        [[item.name, item.format, item.destination, _where(item.place)] for item in step.outputs],
        None if step.options == _PLAIN else _options_row(step.options),
        [[piece.cell, piece.source] for piece in step.pieces],
        _where(step.place),
        [[key, _where(place)] for key, place in step.key_places.items()],
    ]


def _step(name: str, inputs: Iterable[Any], outputs: Iterable[Any], *rest: Any) -> Step:
    options, pieces, place, key_places = rest
    return Step(
        name,
        tuple(
            [Input(called, _source(*source), form, SourceLocation(*where)) for called, source, form, where in inputs]
        ),
        tuple([Output(called, form, target, SourceLocation(*where)) for called, form, target, where in outputs]),
        _PLAIN if options is None else _options(options),
        tuple([StepCell(cell, source) for cell, source in pieces]),
        SourceLocation(*place),
        {key: SourceLocation(*where) for key, where in key_places},
    )


def _source_row(source: InputSource) -> list[Any]:
    if isinstance(source, StepOutput):
        return ["output", source.output, source.step]
    if isinstance(source, FileSource):
        return ["files", source.pattern]
    if isinstance(source, ParameterSource):
        return ["parameter", source.parameter]
    return ["elsewhere", source.scheme, source.text]


def _source(kind: str, *parts: Any) -> InputSource:
    return _SOURCES[kind](*parts)


def _options_row(options: StepOptions) -> dict[str, Any]:
    return {
        "params": options.params, "after": options.after, "retries": options.retries, "timeout": options.timeout,
        "cpu": options.cpu, "gpu": options.gpu, "compute": options.compute, "memory": options.memory,
        "reuse": options.reuse.value, "salt": options.salt, "hash": options.hash,
        "envvar": options.envvar, "when": options.when, "shows": options.shows,
        "download": options.download, "mount": options.mount,
        "register": options.register,
        "later": [[name, _where(place)] for name, place in options.later],
    }  # fmt: skip


def _options(payload: dict[str, Any]) -> StepOptions:
    lists = {name: tuple(payload[name]) for name in ("params", "after", "hash", "envvar", "download", "mount")}
    lists["register"] = tuple((output, dataset) for output, dataset in payload["register"])
    later = tuple((name, SourceLocation(*where)) for name, where in payload["later"])
    return StepOptions(**{**payload, **lists, "reuse": ReusePolicy(payload["reuse"]), "later": later})


def _code(definitions: list[Definition], parameters: Iterable[str], shared: Iterable[int], *rest: Any) -> StepCode:
    normal, imports, warnings, files, raw, uses = rest
    return StepCode(
        tuple(parameters), tuple([definitions[number] for number in shared]), normal, tuple(imports),
        tuple([_warning(*each) for each in warnings]),
        tuple(files), raw,
        tuple([FileUse(path, writes, _place(where), literal) for path, writes, where, literal in uses]),
    )  # fmt: skip


def _warning_row(item: PipelineWarning) -> list[Any]:
    return [item.code, item.message, item.hint, _where(item.place)]


def _warning(code: str, message: str, hint: str, where: list[Any]) -> PipelineWarning:
    return PipelineWarning(code, message, hint, _place(where))


def _place(where: list[Any]) -> SourceLocation:
    return NO_LOCATION if where == [None] * 4 else SourceLocation(*where)


def _value(value: Any) -> list[Any]:
    """Return an author's value with its type; raise ValueError if JSON cannot represent it."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return ["is", value]
    if kind in (list, tuple):
        return [kind.__name__, *map(_value, value)]
    if kind is dict:
        return ["dict", *([_value(key), _value(item)] for key, item in value.items())]
    if kind is ReusePolicy:
        return ["reuse", value.value]
    if kind is SourceLocation:
        return ["place", *_where(value)]
    raise ValueError(f"a {kind.__name__} cannot be written down")


def _decoded_value(payload: list[Any]) -> Any:
    kind, *parts = payload
    return _VALUE_DECODERS[kind](parts)


_VALUE_DECODERS: Mapping[str, Callable[[list[Any]], Any]] = {
    "is": lambda parts: parts[0],
    "list": lambda parts: [_decoded_value(part) for part in parts],
    "tuple": lambda parts: tuple(_decoded_value(part) for part in parts),
    "dict": lambda parts: {_decoded_value(key): _decoded_value(value) for key, value in parts},
    "reuse": lambda parts: ReusePolicy(parts[0]),
    "place": lambda parts: SourceLocation(*parts),
}
