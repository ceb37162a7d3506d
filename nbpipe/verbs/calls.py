"""The calls behind the verbs: each takes an invocation and its caller, and returns the response to show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nbpipe.authoring.linter_settings import write_linter_settings
from nbpipe.authoring.notebook_edits import formatted_cells, rewrite_notebook
from nbpipe.authoring.notebook_linting import LintResult, find_ruff, quick_fixed_cells, ruff_warnings
from nbpipe.errors import BadUsage, Refusals, Refused, refuse
from nbpipe.history.runs import RunFilter
from nbpipe.model import ExecutionRecord, ReuseVerdict, RunRecord
from nbpipe.run.submission import RunOptions, Submission
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.responses import (
    AcceptResponse,
    CancelResponse,
    ComparisonResponse,
    DebugResponse,
    DefaultsResponse,
    DetachedResponse,
    FormatResponse,
    HereResponse,
    InitResponse,
    LintResponse,
    LogResponse,
    PlanResponse,
    PullResponse,
    RecordedRunResponse,
    Response,
    RunListResponse,
    RunReportResponse,
    TrustResponse,
    VerificationResponse,
    WhyResponse,
)
from nbpipe.verbs.syntax import Invocation
from nbpipe.views.run_comparison import ComparedRun
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_launch import launch_run
from nbpipe.workspace.run_watch import watch_run
from nbpipe.workspace.trust import trust_workspace
from nbpipe.workspace.verification import verify_workspace

_PAUSE = 0.2


def plan(invocation: Invocation, caller: Caller) -> PlanResponse:
    """Return what would run, what is reused, and why."""
    request = caller.request(texts=invocation[options.PARAM])
    planned = caller.workspace.plans.plan(request)
    verdicts = [decision.verdict for decision in planned.decisions.values()]
    origins = [verdict.hit.origin.run for verdict in verdicts if isinstance(verdict, ReuseVerdict)]
    return PlanResponse(planned, caller.workspace.runs.numbers(origins))


def run(invocation: Invocation, caller: Caller) -> RunReportResponse | DetachedResponse | HereResponse | None:
    """Run the pipeline, or some of its steps."""
    if invocation[options.HERE]:
        return _here(invocation, caller)
    steps = (*invocation[options.STEPS], *invocation[options.TO])
    texts, start, force = invocation[options.PARAM], invocation[options.FROM], invocation[options.FORCE]
    request = caller.request(steps, texts=texts, start=start, force=force)
    run_options = RunOptions(invocation[options.KEEP_GOING], invocation[options.EXPERIMENT], invocation[options.TAG])
    if invocation[options.DETACH]:
        workspace = caller.workspace
        submission = Submission(caller.cells(), request, run_options, workspace.layout.root)
        return DetachedResponse(*launch_run(workspace, submission))
    return caller.carry_out(request, run_options)


def _here(invocation: Invocation, caller: Caller) -> HereResponse:
    steps = invocation[options.STEPS]
    if len(steps) != 1:
        raise BadUsage("`--here` runs one step", "For example: %nbpipe run train --here")
    request = caller.request(steps, texts=invocation[options.PARAM])
    return HereResponse(caller.workspace.plans.step_context(request, steps[0]))


def cancel(_invocation: Invocation, caller: Caller) -> CancelResponse:
    """Cancel the notebook's active runs, and return when they have stopped."""
    caller.await_submitted()
    workspace = caller.workspace
    ended = workspace.runs.cancel(caller.notebook)
    now = workspace.now()
    return CancelResponse([RecordedRunResponse(run, workspace.runs.show(run.id)[1], {}, (), now) for run in ended])


def status(invocation: Invocation, caller: Caller) -> RecordedRunResponse | None:
    """Return the newest run with the latest state of every step; with ``--follow``, after that run has ended."""
    if caller.show_live():
        return None
    runs = caller.workspace.runs
    newest, _ = runs.last(caller.notebook)
    if invocation[options.FOLLOW]:
        _follow(caller, newest)
    return _recorded(caller.workspace, *runs.latest(caller.notebook, newest.id), followed=invocation[options.FOLLOW])


def _follow(caller: Caller, run: RunRecord) -> None:
    """Have the caller show the changes in the run until it has ended."""
    watcher = watch_run(caller.workspace, run.id)
    while True:
        update = watcher.look()
        caller.updated(update)
        if update.is_over:
            return
        time.sleep(_PAUSE)
        caller.workspace.context.recover()


def why(invocation: Invocation, caller: Caller) -> WhyResponse:
    """Return how a step differs from its nearest earlier run."""
    step = invocation[options.STEP]
    request = caller.request((step,), texts=invocation[options.PARAM])
    explained = caller.workspace.plans.why(request, step)
    return WhyResponse(explained, caller.workspace.runs.numbers(explained.runs))


def debug(invocation: Invocation, caller: Caller) -> DebugResponse:
    """Return the inputs, parameters and code of a step in the newest run that executed or reused it."""
    # Raises an error if the notebook cannot be read.
    caller.cells()
    caller.workspace.context.require_trust()
    step_context = caller.workspace.results.step_context(caller.notebook, invocation[options.STEP])
    return DebugResponse(step_context, invocation[options.LOCALS])


def accept(invocation: Invocation, caller: Caller) -> AcceptResponse:
    """Accept a step's last result for its new code."""
    step = invocation[options.STEP]
    request = caller.request((step,), texts=invocation[options.PARAM])
    accepted = caller.workspace.plans.accept(request, step)
    return AcceptResponse(accepted, caller.workspace.runs.numbers([accepted.hit.origin.run]))


def logs(invocation: Invocation, caller: Caller) -> LogResponse:
    """Return the output of a step's newest execution, whatever run it is from, or its output so far."""
    step = invocation[options.STEP]
    return LogResponse(step, caller.workspace.results.log(caller.notebook, step))


def pull(invocation: Invocation, caller: Caller) -> PullResponse:
    """Copy a stored output to a path, or let the face bind it."""
    output = invocation[options.OUTPUT]
    caller.await_output(output.rpartition(".")[2])
    artifact = caller.workspace.results.output(caller.notebook, output)
    path = caller.target(artifact, invocation[options.TARGET])
    if path is None:
        caller.workspace.context.require_trust()
    else:
        caller.workspace.results.pull(caller.notebook, output, path)
    return PullResponse(output, artifact, path)


def runs(invocation: Invocation, caller: Caller) -> RunListResponse:
    """Return the newest runs of the notebook, or of the workspace."""
    workspace = caller.workspace
    notebook = "" if invocation[options.ALL] else caller.notebook
    run_filter = RunFilter(
        workspace.catalog.pipeline(notebook).pipeline.id if notebook else None, invocation[options.OF_EXPERIMENT],
        invocation[options.OF_STATUS], invocation[options.OF_STEP], invocation[options.OF_TAG],
    )  # fmt: skip
    records = workspace.runs.find(run_filter, invocation[options.LIMIT])
    return RunListResponse(records, workspace.runs.executed_steps(run.id for run in records), workspace.now())


def show(invocation: Invocation, caller: Caller) -> RecordedRunResponse:
    """Return one run."""
    return _recorded(caller.workspace, *caller.workspace.runs.show(invocation[options.RUN]))


def _recorded(
    workspace: Workspace, run: RunRecord, steps: list[ExecutionRecord], *, followed: bool = False
) -> RecordedRunResponse:
    numbers = workspace.runs.numbers({step.run for step in steps} | {step.origin.run for step in steps if step.origin})
    metrics = workspace.runs.metrics(run.id, steps)
    return RecordedRunResponse(run, steps, numbers, metrics, workspace.now(), followed)


def compare(invocation: Invocation, caller: Caller) -> ComparisonResponse:
    """Return two runs for comparison."""
    recorded = caller.workspace.runs.recorded
    return ComparisonResponse(
        ComparedRun(*recorded(invocation[options.RUN])), ComparedRun(*recorded(invocation[options.OTHER_RUN]))
    )


def verify(invocation: Invocation, caller: Caller) -> VerificationResponse:
    """Return whether every recorded output is present and intact."""
    full, repair = invocation[options.FULL], invocation[options.REPAIR]
    return VerificationResponse(verify_workspace(caller.folder, caller.named_workspace, full=full, repair=repair))


def trust(_invocation: Invocation, caller: Caller) -> TrustResponse:
    """Have this user trust the workspace from now on."""
    return TrustResponse(trust_workspace(caller.folder, caller.named_workspace))


def lint(invocation: Invocation, caller: Caller) -> LintResponse:
    """Check the notebook without planning or running it."""
    fixed = _rewritten(caller.saved, quick_fixed_cells) if invocation[options.FIX] else None
    request = caller.request(texts=invocation[options.PARAM])
    warnings = caller.workspace.plans.check(request)
    linted = LintResult()
    if caller.reads_file:
        ruff = find_ruff()
        linted = (
            ruff_warnings(caller.saved, request.reading, ruff) if ruff else LintResult(note="ruff is not installed")
        )
    return LintResponse(len(request.reading.steps), (*warnings, *linted.warnings), fixed, linted.note)


def _rewritten(path: Path, change: Callable[[Path], dict[int, str]]) -> list[int]:
    """Rewrite cells of a notebook file, and return their numbers."""
    sources = change(path)
    rewrite_notebook(path, sources)
    return sorted(sources)


def fmt(invocation: Invocation, caller: Caller) -> FormatResponse:
    """Format the declarations of steps."""
    style = "long" if invocation[options.LONG] else "short" if invocation[options.SHORT] else "auto"
    notebooks = invocation[options.NOTEBOOKS] or (caller.saved,)
    changed: list[tuple[Path, list[int]]] = []
    refused: list[Refused] = []
    for notebook in notebooks:
        try:
            cells = formatted_cells(notebook, style)
            if not invocation[options.CHECK]:
                rewrite_notebook(notebook, cells)
        except Refused as error:
            refused.append(_named(error, notebook, several=len(notebooks) > 1))
        except Refusals as errors:
            refused += [_named(error, notebook, several=len(notebooks) > 1) for error in errors.errors]
        else:
            changed.append((notebook, sorted(cells)))
    refuse(refused)
    return FormatResponse(changed, invocation[options.CHECK])


def _named(error: Refused, notebook: Path, *, several: bool) -> Refused:
    """Return an error that names its notebook if there are several."""
    return type(error)(f"{error.message} ({notebook})", error.hint, error.place) if several else error


def init(invocation: Invocation, caller: Caller) -> InitResponse:
    """Create a workspace in a folder, and configure linters for step cells."""
    folder = invocation[options.FOLDER] or Path()
    folder = folder.parent if folder.suffix == ".ipynb" else folder
    with Workspace.create(folder, caller.named_workspace) as opened:
        root = opened.layout.root
    return InitResponse(root, write_linter_settings(folder))


def defaults(_invocation: Invocation, caller: Caller) -> DefaultsResponse:
    """Return the defaults of the notebook's steps; the cell that sets them is parsed with all others."""
    reading = caller.request().reading
    refused = [error for error in reading.errors if error.place.step is None]
    if refused:
        raise refused[0]
    return DefaultsResponse(reading.defaults)


CALLS: Mapping[str, Callable[[Invocation, Caller], Response | None]] = {
    function.__name__: function
    for function in (
        init, plan, run, cancel, status, why, debug, accept, logs, pull, runs, show, compare, verify, trust, lint, fmt,
        defaults,
    )
}  # fmt: skip


def call(invocation: Invocation, caller: Caller) -> Response | None:
    """Return the response to an invocation; None if the face shows it itself."""
    return CALLS[invocation.verb.name](invocation, caller)
