"""The output of the verbs about notebook files and settings in a shell."""

from __future__ import annotations

from collections.abc import Sequence

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.authoring_calls import FormatResponse, InitResponse, LintResponse
from nbpipe.views import json_output


def render_lint(caller: ShellCaller, response: LintResponse) -> int:
    """Print the advice on a notebook, and return the exit code."""
    screen, notebook, fixed = caller.screen, caller.saved, response.fixed
    if screen.as_json:
        every = [json_output.warning_object(warning) for warning in response.warnings]
        errors = [error.to_json() for error in response.errors]
        screen.json({"errors": errors, "warnings": every, **({} if fixed is None else {"fixed": list(fixed)})})
        return screen.errors(response.errors)
    if fixed:
        screen.lines([f"changed {notebook}: cell {_numbers(fixed)}"])
    screen.warnings(response.warnings)
    if response.note:
        screen.note(f"note: {response.note}")
    counts = [f"{response.steps} steps", f"{len(response.warnings)} warnings"]
    counts += [f"{len(response.errors)} errors"] if response.errors else []
    screen.lines([f"{notebook}: {', '.join(counts)}"])
    return screen.errors(response.errors)


def render_format(caller: ShellCaller, response: FormatResponse) -> int:
    """Print which notebooks were formatted, or would be, and return the exit code."""
    screen, count = caller.screen, len(response.notebooks)
    if screen.as_json:
        notebooks = [{"notebook": str(notebook), "cells": list(cells)} for notebook, cells in response.notebooks]
        screen.json({"notebooks": notebooks})
    else:
        verb = "would change" if response.checked else "changed"
        screen.lines(f"{verb} {path}: cell {_numbers(cells)}" for path, cells in response.notebooks if cells)
        if not response.changed:
            screen.lines([f"{count} notebook{'s' * (count != 1)} left unchanged"])
    return int(response.checked and response.changed)


def render_init(caller: ShellCaller, response: InitResponse) -> int:
    """Print what a new workspace got, and return the exit code."""
    guarded = response.guarded
    if caller.screen.as_json:
        wrote, add = list(guarded.wrote), list(guarded.missing)
        caller.screen.json({"workspace": str(response.root), "wrote": wrote, "add": add})
        return 0
    caller.screen.lines([f"workspace {response.root}", *guarded.wrote])
    for text in guarded.missing:
        caller.screen.note(f"note: {text}")
    return 0


def _numbers(cells: Sequence[int]) -> str:
    return ", ".join(map(str, cells))
