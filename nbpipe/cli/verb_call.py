"""A verb called in a shell: the words are parsed, the verb is called, and its response is shown."""

from __future__ import annotations

from collections.abc import Sequence

from nbpipe.cli.rendering import render
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.errors import NbpipeError
from nbpipe.resolve.workspace_layout import owner_named
from nbpipe.verbs import options
from nbpipe.verbs.calls import call
from nbpipe.verbs.parser import parse
from nbpipe.verbs.syntax import Face, HelpRequest, Invocation


def call_verb(words: Sequence[str]) -> int:
    """Call the verb that the words name, and return the command's exit code."""
    screen = TerminalOutput("--json" in words)
    try:
        with owner_named():
            invocation = parse(words, Face.SHELL)
            return 0 if isinstance(invocation, HelpRequest) else _carry_out(invocation, screen)
    except NbpipeError as error:
        return screen.refused(error)
    except KeyboardInterrupt:
        screen.note("cancelled")
        return 130


def _carry_out(invocation: Invocation, screen: TerminalOutput) -> int:
    with _caller(invocation, screen) as caller:
        response = call(invocation, caller)
    # The session that `debug` starts opens the workspace itself.
    return 0 if response is None else render(caller, response)


def _caller(invocation: Invocation, screen: TerminalOutput) -> ShellCaller:
    """Return the caller for the named notebook and workspace, if any."""
    notebooks = (options.NOTEBOOK, options.ANY_NOTEBOOK)
    notebook = next((invocation[argument] for argument in notebooks if argument in invocation.verb.arguments), None)
    workspaces = (options.WORKSPACE, options.DEBUG_WORKSPACE)
    named = next((invocation[option] for option in workspaces if option in invocation.verb.options), None)
    return ShellCaller(screen, notebook, named, reads_only=invocation.verb.reads_only)
