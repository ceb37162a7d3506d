"""``nbpipe VERB NOTEBOOK`` in a shell: complete the line, tell the version, show help, or have a verb called."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from nbpipe import __version__
from nbpipe.cli.printed_text import print_lines
from nbpipe.cli.streams import lenient
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import NbpipeError
from nbpipe.verbs.parser import parse
from nbpipe.verbs.syntax import Face, HelpRequest

# Loaded by their names: what only tells something waits for no database, and a verb for no help or completion.
_COMPLETIONS = "nbpipe.cli.completion:completions"
_HELP = "nbpipe.verbs.usage:help_text"
_CALL = "nbpipe.cli.verb_call:call_verb"
_REFUSE = "nbpipe.cli.verb_call:refuse"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with lenient():
        code = outcome(words)
    # The process ends here: a collection of all objects at exit takes longer than loading some modules.
    gc.freeze()
    sys.exit(code)


def outcome(words: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    if "COMP_LINE" in os.environ:
        completed: list[str] | None = load_entry_point(_COMPLETIONS)(words, os.environ)
        if completed is not None:
            return _tell(completed)
    if words[:1] == ["--version"]:
        return _tell([f"nbpipe, version {__version__}"])
    as_json = "--json" in words
    code: int
    try:
        parsed = parse(words, Face.SHELL)
    except NbpipeError as error:
        code = load_entry_point(_REFUSE)(error, as_json=as_json)
        return code
    if isinstance(parsed, HelpRequest):
        return _tell([_help(parsed)])
    code = load_entry_point(_CALL)(parsed, as_json=as_json)
    return code


def _help(request: HelpRequest) -> str:
    text: str = load_entry_point(_HELP)(request, Face.SHELL)
    return text


def _tell(lines: Sequence[str]) -> int:
    print_lines(lines)
    return 0
