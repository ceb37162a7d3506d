"""Completion after ``nbpipe`` and ``%nbpipe``: verbs, options and their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from nbpipe.language.completion import DEFAULT_VALUES, CompletionNames, Completions
from nbpipe.language.source_text import lines_of
from nbpipe.verbs.options import RUN_STATUSES
from nbpipe.verbs.parser import is_option
from nbpipe.verbs.syntax import Arity, Face, Option, Parameter, ValueKind, Verb
from nbpipe.verbs.table import actions, name_length, verb_named, verbs_in

_LINE = re.compile(r"\s*%nbpipe\s+")


def complete_line(source: str, line: int, column: int, names: CompletionNames) -> Completions | None:
    """Return the completions in a cell at a line (from 0) and column; None if that is not a ``%nbpipe`` line."""
    lines = lines_of(source)
    before = lines[line][:column] if line < len(lines) else ""
    called = _LINE.match(before)
    if called is None:
        return None
    words = before[called.end() :].split()
    fragment = "" if before[-1].isspace() else words.pop() if words else ""
    candidates = complete(words, fragment, Face.NOTEBOOK, names)
    return Completions(fragment, candidates) if candidates else None


def complete(before: Sequence[str], fragment: str, face: Face, names: CompletionNames) -> tuple[str, ...]:
    """Return the words that begin with ``fragment`` and may follow these words."""
    return tuple(
        dict.fromkeys(word for word in _candidates(before, fragment, face, names) if word.startswith(fragment))
    )


def _candidates(before: Sequence[str], fragment: str, face: Face, names: CompletionNames) -> Iterable[str]:
    if not before:
        return dict.fromkeys(verb.name.partition(" ")[0] for verb in verbs_in(face))
    if len(before) == 1 and actions(before[0]) and not fragment.startswith("-"):
        return actions(before[0])
    length = name_length(before)
    verb = verb_named(" ".join(before[:length]))
    if verb is None or face not in verb.faces:
        return ()
    waiting, count = _position(verb, before[length:])
    if fragment.startswith("-") and (waiting is None or waiting.lists_names):
        name, equals, value = fragment.partition("=")
        option = verb.option_named(name)
        if equals and option is not None and face in option.faces:
            return [f"{name}={word}" for word in _values(option, value, names)]
        return _option_words(verb, face, before)
    if waiting is not None:
        return _values(waiting, fragment, names)
    arguments = verb.arguments_in(face)
    place = min(count, len(arguments) - 1)
    if place < 0 or (count > place and not arguments[place].arity.several):
        return ()
    return _values(arguments[place], fragment, names)


def _position(verb: Verb, words: Sequence[str]) -> tuple[Option[Any] | None, int]:
    """Return the option that expects a value, if any, and the number of positional words."""
    waiting: Option[Any] | None = None
    count = 0
    for word in words:
        if is_option(word):
            option = verb.option_named(word)
            waiting = option if option is not None and option.arity is not Arity.NONE else None
        elif waiting is not None and waiting.lists_names and word.isidentifier():
            continue
        elif waiting is not None and not waiting.lists_names:
            waiting = None
        else:
            waiting = None
            count += 1
    return waiting, count


def _option_words(verb: Verb, face: Face, before: Sequence[str]) -> list[str]:
    fresh = [
        option
        for option in verb.options_in(face)
        if option.arity.several or not {option.name, option.short} & set(before)
    ]
    shorts = [option.short for option in fresh if option.short]
    return [*shorts, *(option.name for option in fresh), "--help"]


def _values(parameter: Parameter[Any], prefix: str, names: CompletionNames) -> Iterable[str]:
    match parameter.kind:
        case ValueKind.STEP:
            return names.steps
        case ValueKind.OUTPUT:
            return names.outputs
        case ValueKind.PARAMETER:
            return [f"{name}=" for name in names.parameters]
        case ValueKind.RUN_STATUS:
            return [status.value for status in RUN_STATUSES]
        case ValueKind.DEFAULT:
            key, equals, _ = prefix.partition("=")
            return [f"{key}={value}" for value in DEFAULT_VALUES.get(key, ())] if equals else _defaults()
        case ValueKind.DATASTORE:
            return names.datastores
        case ValueKind.DATASET:
            return names.datasets
        case ValueKind.PATH:
            return names.paths(prefix)
    return ()


def _defaults() -> list[str]:
    return [f"{name}=" for name in DEFAULT_VALUES]
