"""A verb called in a shell: it is called, and its response or its error is shown."""

from __future__ import annotations

from nbpipe.cli.rendering import render
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.errors import NbpipeError
from nbpipe.resolve.workspace_layout import owner_named
from nbpipe.verbs import options
from nbpipe.verbs.syntax import Invocation
from nbpipe.verbs.verb_call import call


def refuse(error: NbpipeError, *, as_json: bool) -> int:
    """Show why words are no call of a verb, and return the command's exit code."""
    return TerminalOutput(as_json).refused(error)


def call_verb(invocation: Invocation, *, as_json: bool) -> int:
    """Call a verb, and return the command's exit code."""
    screen = TerminalOutput(as_json)
    try:
        with owner_named():
            return _carry_out(invocation, screen)
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
