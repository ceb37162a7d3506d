"""Past results as the planner sees them: looked up, and verified before they are believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.data.artifacts import Datastore, check, local_path
from nbpipe.data.observations import Surroundings
from nbpipe.data.snapshot import DigestMemory
from nbpipe.errors import StoreOutOfReach
from nbpipe.history.store import History
from nbpipe.model import Artifact, ExecutionRecord, Hit, Reason
from nbpipe.planning.plan import Found, Past


@dataclass(slots=True)
class Recall:
    """Lookups for one pipeline: the last run's results are fetched at once, older ones when one of them is missed."""

    history: History
    store: Datastore
    digests: DigestMemory
    around: Surroundings
    clock: Callable[[], float]
    _pipeline: str = ""
    _ready: dict[str, Hit] = field(default_factory=dict)
    _latest: dict[str, ExecutionRecord] | None = None

    def past(self, pipeline: str) -> Past:
        """Return the past of one pipeline."""
        self._pipeline = pipeline
        last = self.history.runs.last(pipeline)
        if last is not None:
            self._keep(self.history.results.hits_of_run(last.id))
        return Past(self.lookup, self.known, self.newest, self.latest, self.wrong, self.around.refresh)

    def lookup(self, key: str) -> Found:
        """Get the newest result for this key whose bytes are all there and whose surroundings are as they were.

        Where there is none, get why the newest cannot be used.
        """
        said: tuple[Reason, ...] = ()
        for hit in self._candidates(key):
            found = self.around.differences(hit.observed) or self._whole(hit)
            if isinstance(found, Hit):
                self._ready[key] = found
                return found
            self._ready.pop(key, None)
            said = said or found
        return said

    def known(self, static_keys: Collection[str]) -> set[str]:
        """Get those keys from whose components a result was ever made."""
        return self.history.results.static_known(list(static_keys))

    def newest(self, step: str) -> Hit | None:
        """Get the newest result of a step that is still whole."""
        tried: set[str] = set()
        while (
            hit := self.history.results.newest_result(self._pipeline, step)
        ) is not None and hit.attempt not in tried:
            tried.add(hit.attempt)
            whole = self._whole(hit)
            if isinstance(whole, Hit):
                return whole
        return None

    def latest(self, step: str) -> ExecutionRecord | None:
        """Get the step's record in the newest run in which it succeeded or was reused."""
        return self._records().get(step)

    def wrong(self, record: ExecutionRecord) -> tuple[Reason, ...]:
        """Get what has become of a record's outputs, if that is why they are not offered any more."""
        return self._damage(record.artifacts)

    def _candidates(self, key: str) -> Iterator[Hit]:
        newest = self._find(key)
        if newest is not None:
            yield newest
            yield from (hit for hit in self.history.results.candidates(key) if hit.attempt != newest.attempt)

    def _find(self, key: str) -> Hit | None:
        if key not in self._ready and self._latest is None:
            keys = [record.key for record in self._records().values() if record.key is not None]
            self._keep(self.history.results.lookup([other for other in keys if other not in self._ready]))
        return self._ready.get(key) or self.history.results.lookup([key]).get(key)

    def _records(self) -> dict[str, ExecutionRecord]:
        if self._latest is None:
            self._latest = self.history.executions.latest(self._pipeline)
        return self._latest

    def _keep(self, hits: dict[str, Hit]) -> None:
        self._ready |= hits
        # One result is offered under two keys.
        results = {hit.attempt: hit for hit in hits.values()}.values()
        stored = _files(artifact for hit in results for artifact in hit.artifacts)
        read = [path for hit in results for path in self.around.files(hit.observed)]
        self.digests.prefetch([*stored, *read])

    def _whole(self, hit: Hit) -> Hit | tuple[Reason, ...]:
        """Get the result as it lies in this store now; one that is not whole is never offered again."""
        damage = self._damage(hit.artifacts)
        if not damage:
            return hit
        # A workspace that was moved with all it holds has its bytes under the same digests as before.
        here = tuple(map(self._moved, hit.artifacts))
        if here != hit.artifacts and not self._damage(here):
            return dataclasses.replace(hit, artifacts=here)
        self.history.results.quarantine(hit.attempt, "; ".join(f"{r.component} {r.now}" for r in damage), self.clock())
        return damage

    def _moved(self, artifact: Artifact) -> Artifact:
        try:
            return dataclasses.replace(artifact, uri=self.store.uri(artifact.digest, artifact.basename))
        except ValueError:
            return artifact

    def _damage(self, artifacts: Iterable[Artifact]) -> tuple[Reason, ...]:
        wrong = ((artifact, check(self.store, artifact, self.digests)) for artifact in artifacts)
        return tuple(Reason(f"artifact:{artifact.name}", "stored", said) for artifact, said in wrong if said)


def _files(artifacts: Iterable[Artifact]) -> list[Path]:
    """Get where the artifacts that are files lie; one that lies elsewhere is told when it is checked."""
    found = []
    for artifact in artifacts:
        try:
            if artifact.format != "dir":
                found.append(local_path(artifact))
        except StoreOutOfReach:
            continue
    return found
