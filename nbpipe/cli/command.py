"""``nbpipe VERB NOTEBOOK`` in a shell: parse the words, call the verb, return the exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from nbpipe import __version__
from nbpipe.cli.completion import completions
from nbpipe.cli.rendering import render
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.cli.streams import lenient
from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.errors import NbpipeError
from nbpipe.resolve.workspace_layout import owner_named
from nbpipe.verbs import options
from nbpipe.verbs.parser import parse
from nbpipe.verbs.syntax import Face, HelpRequest, Invocation
from nbpipe.verbs.usage import verb_help, verbs_help


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with lenient():
        screen = TerminalOutput("--json" in words)
        completed = completions(words, os.environ)
        code = outcome(words, screen) if completed is None else 0
        if completed is not None:
            screen.lines(completed)
    # The process ends here: a collection of all objects at exit takes longer than loading some modules.
    gc.freeze()
    sys.exit(code)


def outcome(words: Sequence[str], screen: TerminalOutput) -> int:
    """Run a command and return its exit code."""
    try:
        with owner_named():
            return _carry_out(words, screen)
    except NbpipeError as error:
        return screen.refused(error)
    except KeyboardInterrupt:
        screen.note("cancelled")
        return 130


def _carry_out(words: Sequence[str], screen: TerminalOutput) -> int:
    if words[:1] == ["--version"]:
        screen.lines([f"nbpipe, version {__version__}"])
        return 0
    invocation = parse(words, Face.SHELL)
    if isinstance(invocation, HelpRequest):
        screen.lines([verb_help(invocation.verb, Face.SHELL) if invocation.verb else verbs_help(Face.SHELL)])
        return 0
    with _caller(invocation, screen) as caller:
        response = invocation.verb.call(invocation, caller)
    # The session that `debug` starts opens the workspace itself.
    return 0 if response is None else render(caller, response)


def _caller(invocation: Invocation, screen: TerminalOutput) -> ShellCaller:
    """Return the caller for the named notebook and workspace, if any."""
    notebooks = (options.NOTEBOOK, options.ANY_NOTEBOOK)
    notebook = next((invocation[argument] for argument in notebooks if argument in invocation.verb.arguments), None)
    workspaces = (options.WORKSPACE, options.DEBUG_WORKSPACE)
    named = next((invocation[option] for option in workspaces if option in invocation.verb.options), None)
    return ShellCaller(screen, notebook, named, reads_only=invocation.verb.reads_only)
