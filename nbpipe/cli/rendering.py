"""The verbs' responses in a shell: plain lines or one JSON object, and the exit code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbpipe.cli.debugging import render_debug
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.compute.targets import default_target
from nbpipe.errors import Refusals, Refused, StoreOutOfReach
from nbpipe.model import FailureKind, ObjectReference, Status
from nbpipe.verbs import responses as r
from nbpipe.views import json_output, log_text, text_tables, why_report
from nbpipe.views.run_comparison import comparison_lines, comparison_object
from nbpipe.views.wording import accepted_line, duration, status_words

_RUN_EXIT = {Status.SUCCEEDED: 0, Status.CANCELLED: 130}


def render(caller: ShellCaller, response: r.Response) -> int:
    """Print a response, and return the command's exit code."""
    return _RENDERERS[type(response)](caller, response)


def _plan(caller: ShellCaller, response: r.PlanResponse) -> int:
    screen, planned = caller.screen, response.planned
    screen.warnings(planned.warnings)
    verdicts = planned.verdicts
    if screen.as_json:
        plan = json_output.plan_object(
            planned.notebook, verdicts, planned.needs, planned.warnings, default_target().name, refused=planned.refused
        )
        screen.json({**plan, **_errors_object(planned.errors)})
    else:
        rows = text_tables.planned_rows(verdicts, planned.needs, planned.refused)
        screen.lines(text_tables.plan_lines(rows, screen.columns, response.numbers))
    return _refused(screen, planned.errors)


def _errors_object(errors: Sequence[Refused]) -> dict[str, Any]:
    return json_output.errors_object(Refusals(tuple(errors))) if errors else {}


def _refused(screen: TerminalOutput, errors: Sequence[Refused]) -> int:
    """Print a notebook's errors, and return the exit code."""
    screen.errors(errors)
    return Refusals.exit_code if errors else 0


def _report(caller: ShellCaller, response: r.RunReportResponse) -> int:
    screen, report = caller.screen, response.report
    if screen.as_json:
        screen.json(json_output.run_object(report.run, report.steps, report.seconds, _urls(caller), response.metrics))
        return _RUN_EXIT.get(report.run.status, 1)
    screen.lines(text_tables.step_lines(report.steps, screen.columns, response.numbers))
    screen.lines([f"run {report.run.number} {status_words(report.run.status)} in {duration(report.seconds)}"])
    for line in text_tables.note_lines(report.steps):
        screen.note(line)
    for step in report.steps:
        if step.failure is not None and step.failure.kind == FailureKind.USER:
            screen.note(f"\nstep {step.step}:\n{step.failure.traceback.rstrip()}")
    return _RUN_EXIT.get(report.run.status, 1)


def _detached(caller: ShellCaller, response: r.DetachedResponse) -> int:
    run = response.run
    if caller.screen.as_json:
        caller.screen.json(json_output.run_object(run, response.steps, 0.0, _urls(caller)))
    else:
        name = Path(run.notebook).name
        text = f"run {run.number} continues in the background: nbpipe status --follow {name}, nbpipe cancel {name}"
        caller.screen.lines([text])
    return 0


def _run(caller: ShellCaller, response: r.RecordedRunResponse) -> int:
    if caller.screen.as_json:
        caller.screen.json(_run_object(caller, response))
    else:
        _run_lines(caller.screen, response)
    return _RUN_EXIT.get(response.run.status, 1) if response.followed else 0


def _run_object(caller: ShellCaller, response: r.RecordedRunResponse) -> dict[str, Any]:
    return json_output.run_object(response.run, response.steps, response.seconds, _urls(caller), response.metrics)


def _urls(caller: ShellCaller) -> json_output.UrlOf:
    """Return a function from references to URLs, which prints each problem once and returns None instead."""
    problems: set[str] = set()

    def url(reference: ObjectReference) -> str | None:
        try:
            return caller.workspace.materializer.url(reference)
        except StoreOutOfReach as error:
            if str(error) not in problems:
                caller.screen.note(f"warning: {error}")
            problems.add(str(error))
            return None

    return url


def _run_lines(screen: TerminalOutput, response: r.RecordedRunResponse) -> None:
    run = response.run
    head = [f"run {run.number} ({run.id}) {status_words(run.status)}, {duration(response.seconds)}, {run.notebook}"]
    head += [f"  {name} = {value!r}" for name, value in run.parameters.items()]
    steps = text_tables.step_lines(response.steps, screen.columns, response.numbers)
    screen.lines([*head, *steps, *text_tables.metric_lines(response.metrics)])


def _cancel(caller: ShellCaller, response: r.CancelResponse) -> int:
    if not caller.screen.as_json:
        for ended in response.runs:
            _run_lines(caller.screen, ended)
        return 0
    objects = [_run_object(caller, ended) for ended in response.runs]
    caller.screen.json(objects[0] if len(objects) == 1 else {"runs": objects})
    return 0


def _why(caller: ShellCaller, response: r.WhyResponse) -> int:
    explanation = response.explained
    parts = (explanation.step, explanation.verdict, explanation.now, explanation.before, explanation.last)
    if caller.screen.as_json:
        caller.screen.json(why_report.why_object(*parts, url_of=_urls(caller)))
    else:
        caller.screen.lines(why_report.why_lines(*parts, numbers=response.numbers))
    return 0


def _accept(caller: ShellCaller, response: r.AcceptResponse) -> int:
    accepted = response.accepted
    if caller.screen.as_json:
        caller.screen.json(json_output.accepted_object(accepted.step, accepted.hit, accepted.reasons, accepted.record))
    else:
        caller.screen.lines([accepted_line(accepted.step, accepted.hit, accepted.reasons, response.numbers)])
    return 0


def _log(caller: ShellCaller, response: r.LogResponse) -> int:
    text, path = log_text.text_of_log(response.log), response.log.executed_notebook
    if caller.screen.as_json:
        notebook = None if path is None else str(path)
        caller.screen.json({"step": response.step, "notebook": notebook, "log": text})
    else:
        caller.screen.lines([text] if text else [])
    return 0


def _pull(caller: ShellCaller, response: r.PullResponse) -> int:
    output, artifact, path = response.output, response.artifact, response.path or Path()
    if caller.screen.as_json:
        caller.screen.json(
            {"output": output, "path": str(path.resolve()), **json_output.artifact_object(artifact, _urls(caller))}
        )
    else:
        caller.screen.lines([f"{output} ({artifact.format}, {artifact.bytes:,} bytes) → {path}"])
    return 0


def _runs(caller: ShellCaller, response: r.RunListResponse) -> int:
    if caller.screen.as_json:
        caller.screen.json(json_output.runs_object(response.runs, response.ran))
    else:
        caller.screen.lines(text_tables.run_lines(response.runs, caller.screen.columns, response.now, response.ran))
    return 0


def _comparison(caller: ShellCaller, response: r.ComparisonResponse) -> int:
    if caller.screen.as_json:
        caller.screen.json(comparison_object(response.left, response.right))
    else:
        caller.screen.lines(comparison_lines(response.left, response.right, caller.screen.columns))
    return 0


def _verification(caller: ShellCaller, response: r.VerificationResponse) -> int:
    verified = response.verified
    if caller.screen.as_json:
        caller.screen.json(json_output.verified_object(dataclasses.asdict(verified), is_intact=verified.is_intact))
    else:
        problems = [(problem.where, problem.said) for problem in verified.problems]
        counts = (verified.outputs, verified.bytes)
        caller.screen.lines(
            text_tables.verified_lines(
                problems,
                *counts,
                unknown=verified.unknown,
                unreachable=verified.unreachable,
                repaired=verified.repaired,
            )
        )
    return 0 if verified.is_intact else 1


def _trust(caller: ShellCaller, response: r.TrustResponse) -> int:
    accepted = response.accepted
    if caller.screen.as_json:
        caller.screen.json({"workspace": str(accepted.root), "reasons": accepted.reasons, "holds": accepted.holds})
    else:
        caller.screen.lines(text_tables.trust_lines(str(accepted.root), accepted.reasons, accepted.holds))
    return 0


def _lint(caller: ShellCaller, response: r.LintResponse) -> int:
    screen, notebook, fixed = caller.screen, caller.saved, response.fixed
    if screen.as_json:
        every = [json_output.warning_object(warning) for warning in response.warnings]
        errors = _errors_object(response.errors) or {"errors": []}
        screen.json({**errors, "warnings": every, **({} if fixed is None else {"fixed": list(fixed)})})
        return _refused(screen, response.errors)
    if fixed:
        screen.lines([f"changed {notebook}: cell {_numbers(fixed)}"])
    screen.warnings(response.warnings)
    if response.note:
        screen.note(f"note: {response.note}")
    counts = [f"{response.steps} steps", f"{len(response.warnings)} warnings"]
    counts += [f"{len(response.errors)} errors"] if response.errors else []
    screen.lines([f"{notebook}: {', '.join(counts)}"])
    return _refused(screen, response.errors)


def _format(caller: ShellCaller, response: r.FormatResponse) -> int:
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


def _init(caller: ShellCaller, response: r.InitResponse) -> int:
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


_RENDERERS: Mapping[type, Callable[[ShellCaller, Any], int]] = {
    r.PlanResponse: _plan,
    r.RunReportResponse: _report,
    r.DetachedResponse: _detached,
    r.RecordedRunResponse: _run,
    r.CancelResponse: _cancel,
    r.WhyResponse: _why,
    r.DebugResponse: render_debug,
    r.AcceptResponse: _accept,
    r.LogResponse: _log,
    r.PullResponse: _pull,
    r.RunListResponse: _runs,
    r.ComparisonResponse: _comparison,
    r.VerificationResponse: _verification,
    r.TrustResponse: _trust,
    r.LintResponse: _lint,
    r.FormatResponse: _format,
    r.InitResponse: _init,
}
