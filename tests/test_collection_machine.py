"""Whatever runs, registrations, pins, crashes and second collections come between: nothing reachable is ever lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_datasets import draft
from sample_history import attempt, attempt_record, begin, pipeline, put, record, reused

from nbpipe.data.artifacts import publish
from nbpipe.data.datastores import LocalStore
from nbpipe.data.materializer import Materializer
from nbpipe.data.stores.folder_store import FolderStore
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.remote_artifacts import RemoteArtifacts
from nbpipe.errors import BadUsage
from nbpipe.history.claims import Claim, CollectionUnderWay
from nbpipe.history.condemnation import CondemnationRepository
from nbpipe.history.results import ReuseEntry
from nbpipe.history.retention import StoredResult
from nbpipe.history.store import History
from nbpipe.model import DEFAULT_STORE, Artifact, Status
from nbpipe.model.datasets import DatasetRecipe, RecipeKind
from nbpipe.model.retention import RetentionPolicy
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.collection import CollectionRoots, Collector
from nbpipe.run.process_identity import this_owner
from nbpipe.run.safe_objects import find_lost

STEPS = st.sampled_from(["a", "b"])
VALUES = st.integers(0, 2)
EFFECTS = ("restore", "condemn", "ripe", "give_up", "take", "remove", "deleted", "forget")
OTHERS = ("begin", "make", "commit", "look_up", "reuse", "end", "store", "register", "pin", "unpin", "collect")


class Killed(BaseException):
    """The collection's process is killed."""


@dataclass
class Uploaded:
    """An attempt that has stored its outputs, which no record names yet."""

    run: str
    step: str
    value: int
    outputs: tuple[Artifact, ...]


@dataclass
class Interference:
    """What happens before the effects of a collection, by their number: another process does something, or a kill."""

    acts: dict[int, Callable[[], None]] = field(default_factory=dict)
    count: int = 0

    def before(self, _effect: str) -> None:
        """Let it happen."""
        self.count += 1
        act = self.acts.pop(self.count, None)
        if act is not None:
            act()


class Collections(RuleBasedStateMachine):
    """A workspace with a file and a folder of each result; the folders of a step share their files."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.layout = WorkspaceLayout(self.root)
        self.history = History.open(self.root / "history.db")
        self.cache = ObjectCache(self.root / "cache")
        self.local, self.far = LocalStore(self.root / "store"), self.far_store()
        self.materializer = Materializer({DEFAULT_STORE: self.local, "far": self.far})
        self.now, self.names = 100.0, 0
        self.active: list[str] = []
        self.uploaded: list[Uploaded] = []
        self.held: dict[str, list[tuple[str, int, str, tuple[Artifact, ...]]]] = {}
        self.storing: list[tuple[Claim, int, Artifact]] = []
        self.is_deleting = False

    def far_store(self) -> RemoteArtifacts:
        return RemoteArtifacts(FolderStore("far", self.root / "far"), self.cache, "here")

    def teardown(self) -> None:
        self.history.close()
        shutil.rmtree(self.root)

    def fresh(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    # Runs

    @rule()
    @precondition(lambda self: len(self.active) < 3)
    def begin(self) -> None:
        run = self.fresh("run")
        begin(self.history, run, owner=this_owner(run), now=self.tick())
        self.active.append(run)
        self.held[run] = []

    @rule(step=STEPS, value=VALUES)
    @precondition(lambda self: self.active)
    def make(self, step: str = "a", value: int = 0) -> None:
        """Let an attempt store its outputs, or find them there."""
        run = self.active[-1]
        if any(each.run == run and each.step == step for each in self.uploaded) or self.is_done(run, step):
            return
        self.uploaded.append(Uploaded(run, step, value, self.publish(step, value)))

    def is_done(self, run: str, step: str) -> bool:
        found = self.history.executions.of_step(run, step)
        return found is not None and found.status.terminal

    def publish(self, step: str, value: int) -> tuple[Artifact, ...]:
        staged = self.root / self.fresh("staged")
        (staged / "folder").mkdir(parents=True)
        (staged / f"{step}.json").write_text(f"{value}")
        for name, content in (("same", step), ("odd", str(value % 2)), ("own", f"{step}{value}")):
            (staged / "folder" / name).write_text(content)
        stored = [each for each in self.results() for each in each.outputs if each.is_folder]
        like = stored[-1].reference if stored else None
        # As a worker, which knows nothing of what others have done since.
        return (
            publish(self.local, staged / f"{step}.json", name="x", format="json"),
            publish(self.far_store(), staged / "folder", name="parts", format="dir", like=like),
        )

    @rule()
    @precondition(lambda self: self.uploaded)
    def commit(self) -> None:
        """Record the oldest attempt's result; make it again if its outputs are gone."""
        if self.is_deleting:
            # It would wait for the collection.
            return
        each = self.uploaded.pop(0)
        while find_lost(self.history, self.materializer, lambda: self.now, each.outputs) is not None:
            each.outputs = self.publish(each.step, each.value)
        name = self.fresh("attempt")
        attempt(self.history, name, each.run, each.step)
        done = attempt_record(name, each.run, each.step, Status.SUCCEEDED, artifacts=each.outputs)
        key = f"{each.step}{each.value}"
        assert self.history.attempts.commit(
            done, record(each.run, each.step, key=key, artifacts=each.outputs), offers=[ReuseEntry(key, key)],
            claim=None, now=self.tick(),
        )  # fmt: skip

    @rule(step=STEPS, value=VALUES)
    @precondition(lambda self: self.active)
    def look_up(self, step: str = "a", value: int = 0) -> None:
        hit = self.history.results.lookup([f"{step}{value}"]).get(f"{step}{value}")
        if hit is not None:
            self.held[self.active[-1]].append((step, value, hit.attempt, hit.artifacts))

    @rule()
    @precondition(lambda self: any(self.held.values()))
    def reuse(self) -> None:
        """Record that a run reuses a result that it had found."""
        run = next(run for run, held in self.held.items() if held)
        step, value, origin, outputs = self.held[run].pop(0)
        if not self.is_done(run, step) and all(each.run != run or each.step != step for each in self.uploaded):
            taken = reused(run, step, "", key=f"{step}{value}", artifacts=outputs)
            assert taken.origin is not None
            put(self.history, replace(taken, origin=replace(taken.origin, run=run, attempt=origin)))

    @rule()
    @precondition(lambda self: self.active)
    def end(self) -> None:
        """End the oldest run; its attempts that have not ended are lost."""
        run = self.active.pop(0)
        self.uploaded = [each for each in self.uploaded if each.run != run]
        del self.held[run]
        self.history.runs.end(run, Status.SUCCEEDED, self.tick())

    # Datasets and pins

    @rule(value=VALUES)
    def store(self, value: int = 0) -> None:
        """Store bytes that are to be registered, or find them there."""
        try:
            claim = self.history.claims.begin_storing(owner=this_owner("storing"), now=self.now, lease=1e9)
        except CollectionUnderWay:
            return
        self.storing.append((claim, value, self.publish("a", value)[value % 2]))

    @rule()
    @precondition(lambda self: self.storing)
    def register(self) -> None:
        claim, value, stored = self.storing.pop(0)
        given = draft(content=f"{value}")
        content = replace(given.content, digest=stored.digest, reference=stored.reference)
        if stored.is_folder:
            content = replace(content, recipe=DatasetRecipe(RecipeKind.FOLDER))
        self.history.datasets.register(replace(given, content=content))
        self.history.claims.release(claim)

    @rule()
    def pin(self) -> None:
        last = self.history.runs.last(pipeline().id)
        if last is not None:
            self.history.retention.pin(last.id, self.now)

    @rule()
    def unpin(self) -> None:
        for run in self.history.retention.pinned():
            self.history.retention.unpin(run)

    # Collections

    @rule()
    def collect(self) -> None:
        self.carry_out(Interference())

    @rule(acts=st.dictionaries(st.integers(1, 12), st.sampled_from(OTHERS), min_size=1, max_size=4))
    def collect_among_others(self, acts: dict[int, str]) -> None:
        self.carry_out(Interference({number: lambda name=name: self.other(name) for number, name in acts.items()}))

    @rule(number=st.integers(1, 12))
    def collect_and_die(self, number: int) -> None:
        def die() -> None:
            raise Killed

        self.carry_out(Interference({number: die}))

    @rule(step=STEPS, value=VALUES, acts=st.dictionaries(st.integers(1, 9), st.sampled_from(OTHERS), max_size=3))
    def race(self, step: str, value: int, acts: dict[int, str]) -> None:
        """Make a result that nothing keeps, and bytes of which a run finds after they were condemned."""
        self.finish()
        for each in (value, (value + 1) % 3):
            self.begin()
            self.make(step, each)
            self.finish()
        self.begin()
        self.look_up(step, value)
        self.collect()
        self.everything_reachable_is_there()
        self.begin()
        self.make(step, value)
        self.end()
        self.carry_out(Interference({number: lambda name=name: self.other(name) for number, name in acts.items()}))
        self.everything_reachable_is_there()

    def finish(self) -> None:
        """Let all attempts and runs end."""
        while self.uploaded:
            self.commit()
        while self.active:
            self.end()

    def other(self, name: str) -> None:
        """Let another process do something in the middle of a collection, if it can."""
        needs: dict[str, Any] = {
            "begin": len(self.active) < 3, "make": self.active, "commit": self.uploaded, "look_up": self.active,
            "reuse": any(self.held.values()), "end": self.active, "register": self.storing,
        }  # fmt: skip
        if needs.get(name, True):
            getattr(self, name)()

    def carry_out(self, interference: Interference) -> None:
        store = Interfered(self.root / "store", interference, self)
        far = InterferedFar(FolderStore("far", self.root / "far"), self.cache, "here")
        far.interference, far.machine = interference, self
        with History.open(self.root / "history.db") as history:
            history.condemnation = InterferedRows(history, interference)
            collector = Collector(
                history, Materializer({DEFAULT_STORE: store, "far": far}), self.layout,
                RetentionPolicy(runs=0, days=0.0), lambda: self.now, lambda _name: None, self.roots,
            )  # fmt: skip
            try:
                collector.carry_out(this_owner("gc"))
            except (Killed, BadUsage):
                pass
            finally:
                self.is_deleting = False

    def roots(self, _stored: Sequence[StoredResult]) -> CollectionRoots:
        return CollectionRoots({}, tuple(version.stored for version in self.history.datasets.versions()))

    # What always holds

    def results(self) -> list[StoredResult]:
        return [*self.history.retention.stored(), *self.history.retention.condemned()]

    @invariant()
    def everything_reachable_is_there(self) -> None:
        if self.is_deleting:
            return
        reachable = [output for each in self.results() for output in each.outputs]
        reachable += [version.stored for version in self.history.datasets.versions()]
        reachable += [output for held in self.held.values() for *_, outputs in held for output in outputs]
        far = self.far_store()
        for output in dict.fromkeys(reachable):
            store = far if output.reference.store == "far" else self.local
            assert not store.missing(store.keys_of(output)), output


class Interfered(LocalStore):
    """The local store of a collection, among others that go on."""

    def __init__(self, root: Path, interference: Interference, machine: Collections) -> None:
        super().__init__(root)
        self.interference, self.machine = interference, machine

    def remove(self, keys: Iterable[str]) -> None:
        self.machine.is_deleting = True
        for key in keys:
            self.interference.before("remove")
            super().remove([key])


class InterferedFar(RemoteArtifacts):
    """The distant store of a collection."""

    interference: Interference
    machine: Collections

    def remove(self, keys: Iterable[str]) -> None:
        self.machine.is_deleting = True
        for key in keys:
            self.interference.before("remove")
            super().remove([key])


class InterferedRows(CondemnationRepository):
    """The condemned rows of a collection."""

    def __init__(self, history: History, interference: Interference) -> None:
        super().__init__(history.database)
        self.interference = interference


def _interfered(effect: str) -> Callable[..., Any]:
    theirs = getattr(CondemnationRepository, effect)

    def carried_out(rows: InterferedRows, *given: Any) -> Any:
        rows.interference.before(effect)
        return theirs(rows, *given)

    return carried_out


for _effect in EFFECTS:
    if _effect != "remove":
        setattr(InterferedRows, _effect, _interfered(_effect))


TestCollections = Collections.TestCase
TestCollections.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
