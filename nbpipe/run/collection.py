"""Collects the results that nothing keeps: their records say so first, then their bytes are deleted.

While results are collected no run goes on and none begins, so that nobody relies on what is about to be deleted.
A process that is killed in between leaves bytes that nothing refers to; the next collection finds them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nbpipe.data.materializer import Materializer, SweptStore
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.history.claims import ClaimedByOther
from nbpipe.history.rebuild_archive import ArchivedResult, ArchiveRepository
from nbpipe.history.retention import FailedAttempt, RetentionRepository, StoredResult
from nbpipe.history.store import History
from nbpipe.model import Artifact
from nbpipe.model.retention import Retention, RetentionPolicy
from nbpipe.planning.retention import retained, within_size
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_results
from nbpipe.run.heartbeat import LEASE, Heartbeat
from nbpipe.run.process_identity import is_alive

_BATCH = 500
_DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class CollectionRoots:
    """What is kept for a name: results with that name, by the attempt's id, and other stored objects."""

    named: Mapping[str, str]
    others: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What can be collected: results, objects of the stores with their bytes, and folders of failed attempts.

    ``kept`` says why the others are kept, by attempt; ``untouched`` why a store is left alone, by its name.
    """

    kept: Mapping[str, Retention]
    stored: tuple[StoredResult, ...]
    results: tuple[StoredResult, ...]
    objects: Mapping[str, tuple[tuple[str, int], ...]]
    failed: tuple[FailedAttempt, ...]
    untouched: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Return the size of the objects."""
        return sum(size for objects in self.objects.values() for _, size in objects)


@dataclass(frozen=True, slots=True)
class Collector:
    """Plans and carries out collections.

    ``roots`` finds out what datasets keep, given the stored results. ``require_own`` raises an error for a datastore
    that is not this workspace's.
    """

    history: History
    materializer: Materializer
    layout: WorkspaceLayout
    policy: RetentionPolicy
    clock: Callable[[], float]
    require_own: Callable[[str], None]
    roots: Callable[[Sequence[StoredResult]], CollectionRoots]

    def plan(self) -> CollectionPlan:
        """Return what can be collected now."""
        now, retention = self.clock(), self.history.retention
        stored = tuple(retention.stored())
        roots = self.roots(stored)
        kept = retained(retention.uses(), self.policy, now, pinned=retention.pinned(), named=roots.named)
        kept = within_size(kept, {each.attempt: each.bytes for each in stored}, self.policy.size)
        going = tuple(each for each in stored if each.attempt not in kept)
        live = [output for each in stored if each.attempt in kept for output in each.outputs]
        every = [*roots.others, *(output for each in stored for output in each.outputs)]
        stores = {self.layout.default_store, *(output.reference.store for output in every)}
        objects, untouched = self._garbage(sorted(stores), [*live, *roots.others, *self._unknown()])
        failed = tuple(self._old_failures(retention, now))
        return CollectionPlan(kept, stored, going, objects, failed, untouched)

    def carry_out(self, owner: str) -> CollectionPlan:
        """Collect what can be collected, and return that; raise BadUsage if a run goes on."""
        retention = self.history.retention
        with self._alone(owner) as require_alone:
            plan = self.plan()
            require_alone()
            retention.collect([each.attempt for each in plan.results], f"on {_date(self.clock())}", self.clock())
            for name, objects in plan.objects.items():
                store = self.materializer.store(name)
                for first in range(0, len(objects), _BATCH):
                    require_alone()
                    if isinstance(store, SweptStore):
                        store.remove([key for key, _ in objects[first : first + _BATCH]])
            for each in plan.failed:
                shutil.rmtree(self.layout.path(each.directory), ignore_errors=True)
        return plan

    def _unknown(self) -> Iterator[Artifact]:
        """Yield the outputs of archived results that the history does not have: `verify --repair` restores them."""
        known = ArchiveRepository(self.history.database).known_attempts()
        for _, result in archived_results(self.layout):
            if isinstance(result, ArchivedResult) and result.attempt.id not in known:
                yield from result.attempt.artifacts
                yield from (result.attempt.display,) if result.attempt.display is not None else ()

    def _garbage(
        self, stores: Iterable[str], live: Iterable[Artifact]
    ) -> tuple[dict[str, tuple[tuple[str, int], ...]], dict[str, str]]:
        """Return the objects of each store that no live output needs, and why a store is left alone."""
        by_store: dict[str, list[Artifact]] = {}
        for output in live:
            by_store.setdefault(output.reference.store, []).append(output)
        objects: dict[str, tuple[tuple[str, int], ...]] = {}
        untouched: dict[str, str] = {}
        for name in stores:
            try:
                self.require_own(name)
                store = self.materializer.store(name)
                if isinstance(store, SweptStore):
                    needed = {key for output in by_store.get(name, ()) for key in store.keys_of(output)}
                    objects[name] = tuple(each for each in store.stored() if each[0] not in needed)
            except KeyError:
                untouched[name] = "this workspace does not know it"
            except NbpipeError as error:
                untouched[name] = error.message
        return objects, untouched

    def _old_failures(self, retention: RetentionRepository, now: float) -> Iterator[FailedAttempt]:
        seen: dict[tuple[str, str], int] = {}
        for each in retention.failed():
            place = seen[each.pipeline, each.step] = seen.get((each.pipeline, each.step), 0) + 1
            is_old = place > self.policy.failed and each.ended < now - self.policy.days * _DAY
            if is_old and self.layout.path(each.directory).is_dir():
                yield each

    @contextmanager
    def _alone(self, owner: str) -> Iterator[Callable[[], None]]:
        """Have no run begin until the block ends; raise BadUsage if one goes on, or if somebody else collects.

        The function that is yielded raises BadUsage if that has failed: this process was stopped for so long that
        others went on without it.
        """
        claim = self.history.retention.begin(owner=owner, now=self.clock(), lease=LEASE, alive=is_alive)
        if isinstance(claim, ClaimedByOther):
            raise BadUsage("another process collects results of this workspace", "Wait until it is done.")

        def require_alone() -> None:
            if not self.history.claims.holds(claim):
                raise BadUsage("this process was stopped for too long: others use the workspace", "Collect again.")

        try:
            with Heartbeat(self.history, owner, self.clock):
                self._require_quiet()
                yield require_alone
        finally:
            self.history.claims.release(claim)

    def _require_quiet(self) -> None:
        active = self.history.retention.going_on()
        if active:
            message = f"{active} run{'s' if active > 1 else ''} of this workspace go{'es' if active == 1 else ''} on"
            raise BadUsage(message, "Collect when they have ended, or cancel them: nbpipe cancel NOTEBOOK")
        if self.history.claims.storing(now=self.clock(), alive=is_alive):
            raise BadUsage("a version of a dataset is being registered in this workspace", "Wait until it is done.")


def _date(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(now))
