"""What a workspace keeps: pinned runs, and the collection of results that nothing keeps."""

from __future__ import annotations

from collections.abc import Iterator

from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadUsage
from nbpipe.model import DEFAULT_STORE, RunRecord
from nbpipe.model.retention import CollectionSummary, KeptOutput
from nbpipe.resolve.retention_settings import retention_policy
from nbpipe.run.collection import CollectionPlan, Collector
from nbpipe.run.process_identity import this_owner
from nbpipe.workspace.workspace import Workspace

_REQUIRE_OWN = "nbpipe.resolve.remote_artifacts:require_own_store"


def collectable(workspace: Workspace) -> CollectionSummary:
    """Return what can be collected in a workspace."""
    return _summary(_collector(workspace).plan(), done=False)


def collect(workspace: Workspace) -> CollectionSummary:
    """Collect what nothing keeps, and return what that was; raise BadUsage if a run goes on."""
    workspace.require_trust()
    return _summary(_collector(workspace).carry_out(this_owner("gc")), done=True)


def reasons_for(workspace: Workspace, digest: str) -> list[KeptOutput]:
    """Return the stored outputs whose digest begins so, each with what keeps it; raise BadUsage if there is none."""
    wanted = digest.removeprefix("blake3:").lower()
    plan = _collector(workspace).plan()
    found = list(_with_digest(plan, wanted)) if wanted else []
    if not found:
        raise BadUsage(f"no stored output has the digest `{digest}`", "`nbpipe show RUN --json` has the digests.")
    return found


def _with_digest(plan: CollectionPlan, wanted: str) -> Iterator[KeptOutput]:
    for result in plan.stored:
        retention = plan.kept.get(result.attempt)
        for output in result.outputs:
            if output.digest.removeprefix("blake3:").startswith(wanted):
                why = retention.why if retention is not None else None
                yield KeptOutput(output.name, output.digest, result.step, result.number, why)


def _summary(plan: CollectionPlan, *, done: bool) -> CollectionSummary:
    results = tuple((each.step, each.number, len(each.outputs), each.bytes) for each in plan.results)
    objects = sum(map(len, plan.objects.values()))
    return CollectionSummary(results, objects, plan.bytes, len(plan.failed), plan.untouched, done)


def pin_run(workspace: Workspace, reference: str) -> RunRecord:
    """Keep all results of a run, given by its number or its id."""
    run, _ = workspace.runs.show(reference)
    workspace.context.history.retention.pin(run.id, workspace.now())
    return run


def unpin_run(workspace: Workspace, reference: str) -> RunRecord:
    """No longer keep a run for its own sake; raise BadUsage if it is not pinned."""
    run, _ = workspace.runs.show(reference)
    if not workspace.context.history.retention.unpin(run.id):
        raise BadUsage(f"run {run.number} is not pinned", f"Pin it with: nbpipe pin {run.number}")
    return run


def _collector(workspace: Workspace) -> Collector:
    context = workspace.context

    def require_own(name: str) -> None:
        if name != DEFAULT_STORE:
            load_entry_point(_REQUIRE_OWN)(context.layout, context.environ, name)

    return Collector(
        context.history, context.materializer, context.layout, retention_policy(context.layout), context.clock,
        require_own, named={},
    )  # fmt: skip
