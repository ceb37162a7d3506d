"""Help texts of the verbs, generated from their table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from nbpipe.verbs.options import JSON, WORKSPACE
from nbpipe.verbs.syntax import Face, HelpRequest, Option, Verb
from nbpipe.verbs.table import GROUPS, actions, verbs_in

_WIDTH = 96
_INTRODUCTION = "Pipelines written as notebook cells: plan them, run them, reuse what is up to date."
_EXAMPLES = {
    Face.SHELL: ("nbpipe plan notebook.ipynb", "nbpipe run notebook.ipynb train -p learning_rate=0.05"),
    Face.NOTEBOOK: ("%nbpipe plan", "%nbpipe run train -p learning_rate=0.05"),
}
_MORE = {
    Face.SHELL: "`nbpipe VERB --help` shows more about a verb. `nbpipe --version` prints the version.",
    Face.NOTEBOOK: "`%nbpipe VERB?` shows more about a verb, `%%step?` about steps; in a shell: `nbpipe VERB`.",
}


def help_text(request: HelpRequest, face: Face) -> str:
    """Return the help that was asked for."""
    if request.verb is not None:
        return verb_help(request.verb, face)
    return group_help(request.group, face) if request.group else verbs_help(face)


def verbs_help(face: Face) -> str:
    """Return help about all verbs, on one screen; the verbs of a group are named only."""
    verbs = [verb for verb in verbs_in(face) if " " not in verb.name]
    column = max(len(_synopsis(verb, face)) for verb in verbs) + 2
    lines = [_INTRODUCTION, "", *(f"    {example}" for example in _EXAMPLES[face]), ""]
    for verb in verbs:
        lines += _verb_lines(verb, face, column)
    for group, (purpose, _) in GROUPS.items():
        lines.append(f"{group:<{column}}{purpose}: {', '.join(actions(group))}.")
    if face is Face.SHELL:
        lines += ["", *_option_lines((WORKSPACE, JSON))]
    return "\n".join([*lines, "", _MORE[face]])


def group_help(group: str, face: Face) -> str:
    """Return help about the verbs of a group, with their options."""
    purpose, short = GROUPS[group]
    verbs = [verb for verb in verbs_in(face) if verb.name.startswith(f"{group} ")]
    column = max(len(_synopsis(verb, face)) for verb in verbs) + 2
    lines = [f"{purpose}:", ""]
    for verb in verbs:
        lines += _verb_lines(verb, face, column)
    if face is Face.SHELL:
        shared = [option for option in (WORKSPACE, JSON) if any(option in verb.options for verb in verbs)]
        lines += ["", *_option_lines(shared)]
    return "\n".join([*lines, "", f"`{face.program} {group}` alone means `{face.program} {short}`."])


def _verb_lines(verb: Verb, face: Face, column: int) -> list[str]:
    own = [option.usage for option in verb.options_in(face) if option not in (WORKSPACE, JSON)]
    line = f"{_synopsis(verb, face):<{column}}{verb.help}"
    whole = "  ".join([line, *own])
    return [whole] if len(whole) <= _WIDTH else [line, *_wrapped(own, column)]


def verb_help(verb: Verb, face: Face) -> str:
    """Return help about one verb: its usage, its purpose and its options."""
    options = verb.options_in(face)
    written = f"{face.program} {_synopsis(verb, face)}" + (" [OPTIONS]" if options else "")
    lines = [f"Usage: {written}", "", verb.help]
    if options:
        lines += ["", "Options:", *(f"  {line}" for line in _option_lines(options))]
    return "\n".join(lines)


def _synopsis(verb: Verb, face: Face) -> str:
    return " ".join([verb.name, *(argument.usage for argument in verb.arguments_in(face))])


def _option_lines(options: Sequence[Option[Any]]) -> list[str]:
    written = [", ".join(filter(None, (option.short, option.name))) + f" {option.metavar}" for option in options]
    column = max(map(len, written)) + 2
    lines: list[str] = []
    for text, option in zip(written, options, strict=True):
        help_lines = textwrap.wrap(option.help, _WIDTH - column) or [""]
        lines.append(f"{text.rstrip():<{column}}{help_lines[0]}".rstrip())
        lines += [" " * column + line for line in help_lines[1:]]
    return lines


def _wrapped(words: Iterable[str], indent: int) -> list[str]:
    """Return words wrapped into lines of the screen's width."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= _WIDTH:
            lines[-1] += f"  {word}"
        else:
            lines.append(" " * indent + word)
    return lines
