"""Collects the results that nothing keeps, beside the runs that go on.

Results and objects are condemned first. They are deleted when the runs have ended that went on then, unless they are
needed again. A process that is killed in between leaves bytes that nothing refers to; the next collection finds them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nbpipe.data.materializer import Materializer, SweptStore
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.history.claims import Claim, ClaimedByOther
from nbpipe.history.condemnation import Condemned, Interrupted
from nbpipe.history.rebuild_archive import ArchivedResult, ArchiveRepository
from nbpipe.history.retention import COLLECTED, FailedAttempt, RetentionRepository, StoredResult
from nbpipe.history.store import History
from nbpipe.model import DEFAULT_STORE, Artifact
from nbpipe.model.content import ObjectReference
from nbpipe.model.retention import Retention, RetentionPolicy
from nbpipe.planning.retention import retained, within_size
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_results
from nbpipe.run.heartbeat import LEASE, Heartbeat
from nbpipe.run.process_identity import is_alive

_BATCH = 500
_DAY = 24 * 3600.0
# So often is looked again at what is needed if that has changed meanwhile; the rest is left for the next collection.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class CollectionRoots:
    """What is kept for a name: results with that name, by the attempt's id, and other stored objects."""

    named: Mapping[str, str]
    others: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What can be collected: results, objects of the stores with their bytes, and folders of failed attempts.

    ``kept`` says why the others are kept, by attempt; ``untouched`` why a store is left alone, by its name.
    ``needed_again`` are results that were condemned. ``waiting`` objects may still be used by runs that go on.
    """

    kept: Mapping[str, Retention]
    stored: tuple[StoredResult, ...]
    results: tuple[StoredResult, ...]
    needed_again: tuple[StoredResult, ...]
    objects: Mapping[str, Mapping[str, int]]
    failed: tuple[FailedAttempt, ...]
    untouched: Mapping[str, str]
    waiting: int = 0

    @property
    def bytes(self) -> int:
        """Return the size of the objects."""
        return sum(sum(sizes.values()) for sizes in self.objects.values())


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
    _keys: dict[ObjectReference, frozenset[str]] = field(default_factory=dict)

    def plan(self) -> CollectionPlan:
        """Return what can be collected now."""
        now, retention = self.clock(), self.history.retention
        stored, condemned = tuple(retention.stored()), tuple(retention.condemned())
        roots = self.roots((*stored, *condemned))
        kept = self._kept((*stored, *condemned), roots, now)
        going = tuple(each for each in stored if each.attempt not in kept)
        again = tuple(each for each in condemned if each.attempt in kept)
        live = [output for each in (*stored, *again) if each.attempt in kept for output in each.outputs]
        every = [*roots.others, *(output for each in (*stored, *condemned) for output in each.outputs)]
        stores = {DEFAULT_STORE, self.layout.default_store, *(output.reference.store for output in every)}
        objects, untouched = self._garbage(sorted(stores), [*live, *roots.others, *self._unknown()])
        failed = tuple(self._old_failures(retention, now))
        return CollectionPlan(kept, stored, going, again, objects, failed, untouched)

    def carry_out(self, owner: str) -> CollectionPlan:
        """Collect what can be collected, and return that; raise BadUsage if another process does."""
        condemnation = self.history.condemnation
        with self._alone(owner) as claim:
            plan = self.plan()
            condemnation.restore([each.attempt for each in plan.needed_again])
            theirs: dict[str, set[str]] = {}
            for output in (output for each in plan.results for output in each.outputs):
                if output.reference.store in plan.objects:
                    theirs.setdefault(output.reference.store, set()).update(self._keys_of(output))
            why = f"{COLLECTED} on {_date(self.clock())}"
            going = [each.attempt for each in plan.results]
            condemnation.condemn(going, theirs, plan.objects, why, self.clock())
            self._delete_ripe(claim)
            condemnation.forget()
            for each in plan.failed:
                shutil.rmtree(self.layout.path(each.directory), ignore_errors=True)
        left = condemnation.objects()
        return replace(
            plan, waiting=sum(len(sizes.keys() & left.get(name, ())) for name, sizes in plan.objects.items())
        )

    def _kept(self, stored: Sequence[StoredResult], roots: CollectionRoots, now: float) -> dict[str, Retention]:
        """Return why results are kept, by attempt."""
        retention = self.history.retention
        uses, active = list(retention.uses()), retention.going_on()
        kept = retained(uses, self.policy, now, pinned=retention.pinned(), active=active, named=roots.named)
        return within_size(kept, {each.attempt: each.bytes for each in stored}, self.policy.size)

    def _delete_ripe(self, claim: Claim) -> None:
        """Delete what no run can rely on any more; stop where somebody stores bytes for a record."""
        for _ in range(_TRIES):
            # Read first: a run that ends later has then recorded what it relies on.
            ripe = self.history.condemnation.ripe()
            try:
                self._delete(ripe, claim)
            except Interrupted:
                if not self.history.claims.holds(claim):
                    message = "this process was stopped for too long: another one may collect results"
                    raise BadUsage(message, "Collect again.") from None
                if self.history.claims.storing(now=self.clock(), alive=is_alive):
                    return
            else:
                return

    def _delete(self, ripe: Condemned, claim: Claim) -> None:
        """Delete what is ripe and not needed again; raise Interrupted if something is kept that was not."""
        condemnation = self.history.condemnation
        gone, needed = self._unneeded(ripe)
        condemnation.give_up(gone, ripe.roots, claim)
        for name, keys in ripe.objects.items():
            store = self._own(name)
            doomed = sorted(keys - needed.get(name, frozenset()))
            for first in range(0, len(doomed) if store is not None else 0, _BATCH):
                taken = condemnation.take(name, doomed[first : first + _BATCH], ripe.roots, claim)
                if taken and store is not None:
                    store.remove(taken)
                    condemnation.deleted(name, taken)

    def _unneeded(self, ripe: Condemned) -> tuple[list[str], Mapping[str, frozenset[str]]]:
        """Return the ripe results that are not needed again, and the objects of each store that are needed."""
        stored, condemned = self.history.retention.stored(), self.history.retention.condemned()
        every = (*stored, *condemned)
        roots = self.roots(every)
        kept = self._kept(every, roots, self.clock())
        gone = [each.attempt for each in condemned if each.attempt in ripe.results and each.attempt not in kept]
        live = [output for each in every if each.attempt not in gone for output in each.outputs]
        needed: dict[str, set[str]] = {}
        for output in (*live, *roots.others, *self._unknown()):
            if output.reference.store in ripe.objects:
                needed.setdefault(output.reference.store, set()).update(self._keys_of(output))
        return gone, {name: frozenset(keys) for name, keys in needed.items()}

    def _keys_of(self, output: Artifact) -> frozenset[str]:
        """Return the keys of the objects that an output consists of, which never change."""
        if output.reference not in self._keys:
            store = self.materializer.store(output.reference.store)
            keys = store.keys_of(output) if isinstance(store, SweptStore) else ()
            self._keys[output.reference] = frozenset(keys)
        return self._keys[output.reference]

    def _unknown(self) -> Iterator[Artifact]:
        """Yield the outputs of archived results that the history does not have: `verify --repair` restores them."""
        known = ArchiveRepository(self.history.database).known_attempts()
        for _, result in archived_results(self.layout):
            if isinstance(result, ArchivedResult) and result.attempt.id not in known:
                yield from result.attempt.artifacts
                yield from (result.attempt.display,) if result.attempt.display is not None else ()

    def _own(self, name: str) -> SweptStore | None:
        """Return a store from which objects can be removed; raise an error if it is not this workspace's."""
        self.require_own(name)
        store = self.materializer.store(name)
        return store if isinstance(store, SweptStore) else None

    def _garbage(
        self, stores: Sequence[str], live: Sequence[Artifact]
    ) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
        """Return the objects of each store that no live output needs, and why a store is left alone."""
        objects: dict[str, dict[str, int]] = {}
        untouched: dict[str, str] = {}
        for name in stores:
            try:
                store = self._own(name)
                if store is not None:
                    outputs = (output for output in live if output.reference.store == name)
                    needed = {key for output in outputs for key in self._keys_of(output)}
                    objects[name] = {key: size for key, size in store.stored() if key not in needed}
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
    def _alone(self, owner: str) -> Iterator[Claim]:
        """Yield the right to collect, held until the block ends; raise BadUsage if somebody else has it."""
        claim = self.history.retention.begin(owner=owner, now=self.clock(), lease=LEASE, alive=is_alive)
        if isinstance(claim, ClaimedByOther):
            raise BadUsage("another process collects results of this workspace", "Wait until it is done.")
        try:
            with Heartbeat(self.history, owner, self.clock):
                yield claim
        finally:
            self.history.claims.release(claim)


def _date(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(now))
