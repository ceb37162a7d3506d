"""What a workspace keeps: pinned runs, and the collection of results that nothing keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadUsage
from nbpipe.history.retention import StoredResult
from nbpipe.model import DEFAULT_STORE, RunRecord
from nbpipe.model.datasets import DatasetKind, DatasetVersion
from nbpipe.model.retention import CollectionSummary, KeptOutput
from nbpipe.resolve.retention_settings import retention_policy
from nbpipe.run.collection import CollectionPlan, CollectionRoots, Collector
from nbpipe.run.process_identity import this_owner
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.workspace import Workspace

_REQUIRE_OWN = "nbpipe.resolve.remote_artifacts:require_own_store"


def collectable(workspace: Workspace) -> CollectionSummary:
    """Return what can be collected in a workspace."""
    return _summary(_collector(workspace).plan(), done=False)


def collect(workspace: Workspace) -> CollectionSummary:
    """Collect what nothing keeps, and return what that was; raise BadUsage if another process does."""
    workspace.require_trust()
    workspace.recover()
    return _summary(_collector(workspace).carry_out(this_owner("gc")), done=True)


def reasons_for(workspace: Workspace, digest: str) -> list[KeptOutput]:
    """Return the stored outputs whose digest begins so, each with what keeps it; raise BadUsage if there is none."""
    wanted = digest.removeprefix("blake3:").lower()
    found = list(_with_digest(_collector(workspace).plan(), _versions(workspace), wanted)) if wanted else []
    if not found:
        raise BadUsage(f"no stored output has the digest `{digest}`", "`nbpipe show RUN --json` has the digests.")
    return found


def _with_digest(plan: CollectionPlan, versions: Sequence[DatasetVersion], wanted: str) -> Iterator[KeptOutput]:
    """Yield the outputs, and then what is stored for versions alone: that is found by the content's digest, too."""
    registered = {version.stored.reference: version for version in versions}
    outputs = set()
    for result in plan.stored:
        retention = plan.kept.get(result.attempt)
        for output in result.outputs:
            outputs.add(output.reference)
            if _begins(output.digest, wanted):
                version = registered.get(output.reference)
                why = _name(version) if version is not None else retention.why if retention is not None else None
                yield KeptOutput(output.name, output.digest, result.step, result.number, why)
    for version in versions:
        stored = version.stored
        is_asked = _begins(stored.digest, wanted) or _begins(version.content.digest, wanted)
        if is_asked and stored.reference not in outputs:
            yield KeptOutput(stored.reference.basename, stored.digest, None, None, _name(version))


def _begins(digest: str, wanted: str) -> bool:
    return digest.removeprefix("blake3:").startswith(wanted)


def _name(version: DatasetVersion) -> str:
    is_kept = version.content.kind is DatasetKind.KEPT
    return f"it is dataset {version}" if is_kept else f"it lists the files of dataset {version}"


def _summary(plan: CollectionPlan, *, done: bool) -> CollectionSummary:
    results = tuple((each.step, each.number, len(each.outputs), each.bytes) for each in plan.results)
    objects = sum(map(len, plan.objects.values()))
    return CollectionSummary(results, objects, plan.bytes, len(plan.failed), plan.untouched, done, plan.waiting)


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


def _versions(workspace: Workspace) -> list[DatasetVersion]:
    return workspace.context.history.datasets.versions()


def _registered(
    context: WorkspaceContext, versions: Sequence[DatasetVersion], stored: Sequence[StoredResult]
) -> dict[str, str]:
    """Return the attempts whose outputs were registered, and as what."""
    made = {
        (version.origin.run, version.origin.step, version.origin.output, version.stored.reference): version
        for version in versions if version.origin.step
    }  # fmt: skip
    if not made:
        return {}
    numbers = context.history.runs.numbers(sorted({run for run, *_ in made}))
    by_number = {(numbers.get(run), *rest): version for (run, *rest), version in made.items()}
    found: dict[str, str] = {}
    for result in stored:
        for output in result.outputs:
            version = by_number.get((result.number, result.step, output.name, output.reference))
            if version is not None:
                found.setdefault(result.attempt, f"its step registered `{output.name}` as dataset {version}")
    return found


def _collector(workspace: Workspace) -> Collector:
    context = workspace.context

    def roots(stored: Sequence[StoredResult]) -> CollectionRoots:
        versions = _versions(workspace)
        others = tuple(version.stored for version in versions)
        return CollectionRoots(_registered(context, versions, stored), others)

    def require_own(name: str) -> None:
        if name != DEFAULT_STORE:
            load_entry_point(_REQUIRE_OWN)(context.layout, context.environ, name)

    return Collector(
        context.history, context.materializer, context.layout, retention_policy(context.layout), context.clock,
        require_own, roots,
    )  # fmt: skip
