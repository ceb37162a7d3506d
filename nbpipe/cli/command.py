"""``nbpipe VERB NOTEBOOK`` in a shell: complete the line, tell the version, show help, or have a verb called."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from nbpipe import __version__
from nbpipe.cli.completion import completions
from nbpipe.cli.printed_text import print_lines
from nbpipe.cli.streams import lenient
from nbpipe.errors import NbpipeError
from nbpipe.verbs.parser import parse
from nbpipe.verbs.syntax import Face, HelpRequest
from nbpipe.verbs.usage import verb_help, verbs_help

# Loaded by its name: what only tells something waits for no database.
_VERB_CALL = "nbpipe.cli.verb_call"


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
    told = _told(words)
    if told is not None:
        print_lines(told)
        return 0
    code: int = import_module(_VERB_CALL).call_verb(words)
    return code


def _told(words: Sequence[str]) -> list[str] | None:
    """Return what a request for completion, help or the version is answered with; None for any other command."""
    completed = completions(words, os.environ)
    if completed is not None:
        return completed
    if words[:1] == ["--version"]:
        return [f"nbpipe, version {__version__}"]
    try:
        parsed = parse(words, Face.SHELL)
    except NbpipeError:
        # It is shown as the errors of verbs are.
        return None
    if not isinstance(parsed, HelpRequest):
        return None
    return [verb_help(parsed.verb, Face.SHELL) if parsed.verb else verbs_help(Face.SHELL)]
