"""The calls behind the verbs: each takes one invocation and its caller, and returns what a face shows."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    ReportResponse,
    RunListResponse,
    RunResponse,
    TrustResponse,
    VerificationResponse,
    WhyResponse,
)
from nbpipe.verbs.syntax import Invocation
from nbpipe.views.run_comparison import ComparedRun
from nbpipe.workspace import Workspace

_PAUSE = 0.2


def plan(asked: Invocation, caller: Caller) -> PlanResponse:
    """Return what would run, what is reused, and why."""
    request = caller.request(texts=asked[options.PARAM])
    planned = caller.workspace.plans.plan(request)
    verdicts = [decision.verdict for decision in planned.decisions.values()]
    origins = [verdict.hit.origin.run for verdict in verdicts if isinstance(verdict, ReuseVerdict)]
    return PlanResponse(planned, caller.workspace.runs.numbers(origins))


def run(asked: Invocation, caller: Caller) -> ReportResponse | DetachedResponse | HereResponse | None:
    """Run the pipeline, or some of its steps."""
    if asked[options.HERE]:
        return _here(asked, caller)
    steps = (*asked[options.STEPS], *asked[options.TO])
    texts, start, force = asked[options.PARAM], asked[options.FROM], asked[options.FORCE]
    request = caller.request(steps, texts=texts, start=start, force=force)
    run_options = RunOptions(asked[options.KEEP_GOING], asked[options.EXPERIMENT], asked[options.TAG])
    if asked[options.DETACH]:
        workspace = caller.workspace
        submission = Submission(caller.cells(), request, run_options, workspace.layout.root)
        return DetachedResponse(*workspace.launch(submission))
    return caller.carry_out(request, run_options)


def _here(asked: Invocation, caller: Caller) -> HereResponse:
    steps = asked[options.STEPS]
    if len(steps) != 1:
        raise BadUsage("`--here` runs one step", "For example: %nbpipe run train --here")
    request = caller.request(steps, texts=asked[options.PARAM])
    return HereResponse(caller.workspace.plans.step_context(request, steps[0]))


def cancel(_asked: Invocation, caller: Caller) -> CancelResponse:
    """Cancel the notebook's active runs, and return when they have stopped."""
    caller.await_submitted()
    workspace = caller.workspace
    ended = workspace.runs.cancel(caller.notebook)
    now = workspace.now()
    return CancelResponse([RunResponse(run, workspace.runs.show(run.id)[1], {}, (), now) for run in ended])


def status(asked: Invocation, caller: Caller) -> RunResponse | None:
    """Return the newest run with the latest state of every step; with ``--follow``, when that run is over."""
    if caller.show_live():
        return None
    runs = caller.workspace.runs
    newest, _ = runs.last(caller.notebook)
    if asked[options.FOLLOW]:
        _follow(caller, newest)
    return _recorded(caller.workspace, *runs.latest(caller.notebook, newest.id), followed=asked[options.FOLLOW])


def _follow(caller: Caller, run: RunRecord) -> None:
    """Have the caller show what is new in the run until it is over."""
    watcher = caller.workspace.runs.watch(run.id)
    while True:
        update = watcher.look()
        caller.updated(update)
        if update.is_over:
            return
        time.sleep(_PAUSE)
        caller.workspace.context.recover()


def why(asked: Invocation, caller: Caller) -> WhyResponse:
    """Return how a step differs from its nearest earlier run."""
    step = asked[options.STEP]
    request = caller.request((step,), texts=asked[options.PARAM])
    explained = caller.workspace.plans.why(request, step)
    return WhyResponse(explained, caller.workspace.runs.numbers(explained.runs))


def debug(asked: Invocation, caller: Caller) -> DebugResponse:
    """Return the inputs, parameters and code of a step in the newest run that executed or reused it."""
    # A notebook that cannot be read is an error of its own.
    caller.cells()
    caller.workspace.context.require_trust()
    scene = caller.workspace.results.step_context(caller.notebook, asked[options.STEP])
    return DebugResponse(scene, asked[options.LOCALS])


def accept(asked: Invocation, caller: Caller) -> AcceptResponse:
    """Let a step's last result stand for its new code."""
    step = asked[options.STEP]
    request = caller.request((step,), texts=asked[options.PARAM])
    accepted = caller.workspace.plans.accept(request, step)
    return AcceptResponse(accepted, caller.workspace.runs.numbers([accepted.hit.origin.run]))


def logs(asked: Invocation, caller: Caller) -> LogResponse:
    """Return what a step printed in its newest run, or has printed so far."""
    step = asked[options.STEP]
    return LogResponse(step, caller.workspace.results.log(caller.notebook, step))


def pull(asked: Invocation, caller: Caller) -> PullResponse:
    """Copy a stored output to a path, or leave it to the face to bind it."""
    output = asked[options.OUTPUT]
    caller.await_output(output.rpartition(".")[2])
    artifact = caller.workspace.results.output(caller.notebook, output)
    path = caller.target(artifact, asked[options.TARGET])
    if path is None:
        caller.workspace.context.require_trust()
    else:
        caller.workspace.results.pull(caller.notebook, output, path)
    return PullResponse(output, artifact, path)


def runs(asked: Invocation, caller: Caller) -> RunListResponse:
    """Return the newest runs of the notebook, or of the workspace."""
    workspace = caller.workspace
    notebook = "" if asked[options.ALL] else caller.notebook
    wanted = RunFilter(
        workspace.catalog.pipeline(notebook).pipeline.id if notebook else None, asked[options.OF_EXPERIMENT],
        asked[options.OF_STATUS], asked[options.OF_STEP], asked[options.OF_TAG],
    )  # fmt: skip
    found = workspace.runs.find(wanted, asked[options.LIMIT])
    return RunListResponse(found, workspace.runs.executed_steps(run.id for run in found), workspace.now())


def show(asked: Invocation, caller: Caller) -> RunResponse:
    """Return one run."""
    return _recorded(caller.workspace, *caller.workspace.runs.show(asked[options.RUN]))


def _recorded(
    workspace: Workspace, run: RunRecord, steps: list[ExecutionRecord], *, followed: bool = False
) -> RunResponse:
    numbers = workspace.runs.numbers({step.run for step in steps} | {step.origin.run for step in steps if step.origin})
    metrics = workspace.runs.metrics(run.id, steps)
    return RunResponse(run, steps, numbers, metrics, workspace.now(), followed)


def compare(asked: Invocation, caller: Caller) -> ComparisonResponse:
    """Return two runs to be shown side by side."""
    recorded = caller.workspace.runs.recorded
    return ComparisonResponse(
        ComparedRun(*recorded(asked[options.RUN])), ComparedRun(*recorded(asked[options.OTHER_RUN]))
    )


def verify(asked: Invocation, caller: Caller) -> VerificationResponse:
    """Return whether every recorded output is present and intact."""
    full, repair = asked[options.FULL], asked[options.REPAIR]
    return VerificationResponse(Workspace.verify(caller.folder, caller.named_workspace, full=full, repair=repair))


def trust(_asked: Invocation, caller: Caller) -> TrustResponse:
    """Have this user trust the workspace from now on."""
    return TrustResponse(Workspace.trust(caller.folder, caller.named_workspace))


def lint(asked: Invocation, caller: Caller) -> LintResponse:
    """Check the notebook without planning or running it."""
    fixed = _rewritten(caller.saved, quick_fixed_cells) if asked[options.FIX] else None
    request = caller.request(texts=asked[options.PARAM])
    found = caller.workspace.plans.check(request)
    linted = LintResult()
    if caller.reads_file:
        ruff = find_ruff()
        linted = (
            ruff_warnings(caller.saved, request.reading, ruff) if ruff else LintResult(said="ruff is not installed")
        )
    return LintResponse(len(request.reading.steps), (*found, *linted.warnings), fixed, linted.said)


def _rewritten(path: Path, change: Callable[[Path], dict[int, str]]) -> list[int]:
    """Rewrite cells of a notebook file, and return their numbers."""
    sources = change(path)
    rewrite_notebook(path, sources)
    return sorted(sources)


def fmt(asked: Invocation, caller: Caller) -> FormatResponse:
    """Lay out the declarations of steps."""
    style = "long" if asked[options.LONG] else "short" if asked[options.SHORT] else "auto"
    notebooks = asked[options.NOTEBOOKS] or (caller.saved,)
    changed: list[tuple[Path, list[int]]] = []
    refused: list[Refused] = []
    for notebook in notebooks:
        try:
            cells = formatted_cells(notebook, style)
            if not asked[options.CHECK]:
                rewrite_notebook(notebook, cells)
        except Refused as error:
            refused.append(_named(error, notebook, several=len(notebooks) > 1))
        except Refusals as errors:
            refused += [_named(error, notebook, several=len(notebooks) > 1) for error in errors.errors]
        else:
            changed.append((notebook, sorted(cells)))
    refuse(refused)
    return FormatResponse(changed, asked[options.CHECK])


def _named(error: Refused, notebook: Path, *, several: bool) -> Refused:
    """Return an error that says which of several notebooks it is about."""
    return type(error)(f"{error.message} ({notebook})", error.hint, error.place) if several else error


def init(asked: Invocation, caller: Caller) -> InitResponse:
    """Make a workspace in a folder, and guard step cells against linters."""
    folder = asked[options.FOLDER] or Path()
    folder = folder.parent if folder.suffix == ".ipynb" else folder
    with Workspace.create(folder, caller.named_workspace) as opened:
        root = opened.layout.root
    return InitResponse(root, write_linter_settings(folder))


def defaults(_asked: Invocation, caller: Caller) -> DefaultsResponse:
    """Return the defaults of the notebook's steps; the cell that sets them is read with all others."""
    reading = caller.request().reading
    refused = [error for error in reading.errors if error.place.step is None]
    if refused:
        raise refused[0]
    return DefaultsResponse(reading.defaults)
