"""The output of ``logs`` and ``pull`` in a shell."""

from __future__ import annotations

from pathlib import Path

from nbpipe.cli.output_urls import output_urls
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.result_calls import LogResponse, PullResponse
from nbpipe.views import json_output, log_text


def render_log(caller: ShellCaller, response: LogResponse) -> int:
    """Print the output of a step, and return the exit code."""
    text, path = log_text.text_of_log(response.log), response.log.executed_notebook
    if caller.screen.as_json:
        notebook = None if path is None else str(path)
        origin = json_output.origin_object(response.log.origin)
        caller.screen.json({"step": response.step, "notebook": notebook, "origin": origin, "log": text})
    else:
        whose = log_text.origin_line(response.log, response.step, response.numbers)
        if whose:
            caller.screen.note(whose)
        caller.screen.lines([text] if text else [])
    return 0


def render_pulled(caller: ShellCaller, response: PullResponse) -> int:
    """Print where an output was copied to, and return the exit code."""
    output, artifact, path = response.output, response.artifact, response.path or Path()
    if caller.screen.as_json:
        caller.screen.json(
            {
                "output": output,
                "path": str(path.resolve()),
                **json_output.artifact_object(artifact, output_urls(caller)),
            }
        )
    else:
        caller.screen.lines([f"{output} ({artifact.format}, {artifact.bytes:,} bytes) → {path}"])
    return 0
