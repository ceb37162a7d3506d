"""Past results for the planner, verified before they are reused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.data.artifacts import check
from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.data.observations import EnvironmentProbe
from nbpipe.errors import StoreOutOfReach
from nbpipe.history.store import History
from nbpipe.model import Artifact, CachedResult, ComponentKind, ExecutionRecord, Reason
from nbpipe.planning.plan import LookupResult, ResultIndex


@dataclass(slots=True)
class ReuseLookup:
    """Lookups for one pipeline: the last run's results are fetched at once, older ones only when needed."""

    history: History
    materializer: Materializer
    digests: PersistentDigestCache
    around: EnvironmentProbe
    clock: Callable[[], float]
    _pipeline: str = ""
    _ready: dict[str, CachedResult] = field(default_factory=dict)
    _latest: dict[str, ExecutionRecord] | None = None

    def past(self, pipeline: str) -> ResultIndex:
        """Return the result index of one pipeline."""
        self._pipeline = pipeline
        last = self.history.runs.last(pipeline)
        if last is not None:
            self._keep(self.history.results.hits_of_run(last.id))
        return ResultIndex(
            self.lookup, self.known, self.newest, self.latest, self.wrong, self.around.refresh, self.display_problem,
            self.renew,
        )  # fmt: skip

    def renew(self) -> None:
        """Drop the results that were withdrawn since they were found: before a run begins, nothing is kept for it."""
        attempts = list({hit.attempt: None for hit in self._ready.values()})
        gone = self.history.results.withdrawn(attempts) if attempts else ()
        if gone:
            self._ready = {key: hit for key, hit in self._ready.items() if hit.attempt not in gone}

    def lookup(self, key: str) -> LookupResult:
        """Return the newest result for this key with intact outputs and unchanged observations.

        If there is none, return why the newest cannot be used.
        """
        reasons: tuple[Reason, ...] = ()
        for hit in self._candidates(key):
            result = self.around.differences(hit.observed) or self._verified(hit)
            if isinstance(result, CachedResult):
                self._ready[key] = result
                return result
            self._ready.pop(key, None)
            reasons = reasons or result
        return reasons or self._collected(key)

    def _collected(self, key: str) -> tuple[Reason, ...]:
        """Return when and why the result for a key was collected, if that is why there is none."""
        why = self.history.retention.collected(key)
        return () if why is None else (Reason.about(ComponentKind.RESULT, f"it was {why}", was="stored"),)

    def known(self, static_keys: Collection[str]) -> set[str]:
        """Return those static keys that any result has, or had before it was collected."""
        offered = self.history.results.static_known(list(static_keys))
        others = set(static_keys) - offered
        return offered | self.history.retention.collected_static(others) if others else offered

    def newest(self, step: str) -> CachedResult | None:
        """Return the newest intact result of a step."""
        tried: set[str] = set()
        while (
            hit := self.history.results.newest_result(self._pipeline, step)
        ) is not None and hit.attempt not in tried:
            tried.add(hit.attempt)
            result = self._verified(hit)
            if isinstance(result, CachedResult):
                return result
        return None

    def latest(self, step: str) -> ExecutionRecord | None:
        """Return the step's record in the newest run in which it succeeded or was reused."""
        return self._records().get(step)

    def wrong(self, record: ExecutionRecord) -> tuple[Reason, ...]:
        """Return what is wrong with a record's outputs, if that is why they are not offered any more."""
        return tuple(reason for reason, _ in self._wrong(record.artifacts))

    def display_problem(self, hit: CachedResult) -> Reason | None:
        """Return why what a result displayed cannot be shown again; None if it can."""
        if hit.display is None:
            return Reason.about(ComponentKind.DISPLAY, "what the step displayed was not stored")
        wrong = self._wrong((hit.display,))
        return Reason.about(ComponentKind.DISPLAY, wrong[0][0].now, was=wrong[0][0].was) if wrong else None

    def _candidates(self, key: str) -> Iterator[CachedResult]:
        newest = self._find(key)
        if newest is not None:
            yield newest
            yield from (hit for hit in self.history.results.candidates(key) if hit.attempt != newest.attempt)

    def _find(self, key: str) -> CachedResult | None:
        if key not in self._ready and self._latest is None:
            keys = [record.key for record in self._records().values() if record.key is not None]
            self._keep(self.history.results.lookup([other for other in keys if other not in self._ready]))
        return self._ready.get(key) or self.history.results.lookup([key]).get(key)

    def _records(self) -> dict[str, ExecutionRecord]:
        if self._latest is None:
            self._latest = self.history.executions.latest(self._pipeline)
        return self._latest

    def _keep(self, hits: dict[str, CachedResult]) -> None:
        self._ready |= hits
        # One result is offered under two keys.
        results = {hit.attempt: hit for hit in hits.values()}.values()
        self.materializer.look_up(artifact for hit in results for artifact in hit.artifacts)
        stored = [path for hit in results for path in self._files(hit.artifacts)]
        read = [path for hit in results for path in self.around.files(hit.observed)]
        self.digests.prefetch([*stored, *read])

    def _verified(self, hit: CachedResult) -> CachedResult | tuple[Reason, ...]:
        """Return the result, or why it cannot be used; a damaged one is put into quarantine."""
        wrong = self._wrong(hit.artifacts)
        damage = [reason for reason, lasting in wrong if lasting]
        if damage:
            message = "; ".join(f"{reason.component} {reason.now}" for reason in damage)
            self.history.results.quarantine(hit.attempt, message, self.clock())
        return tuple(reason for reason, _ in wrong) or hit

    def _wrong(self, artifacts: Iterable[Artifact]) -> list[tuple[Reason, bool]]:
        """Return a reason for each output that cannot be used, and whether that is permanent (damaged or missing)."""
        faults: list[tuple[Reason, bool]] = []
        for artifact in artifacts:
            lasting = True
            try:
                message = check(self.materializer, artifact, self.digests)
            except StoreOutOfReach as error:
                message, lasting = error.message, False
            if message is not None:
                reason = Reason.about(ComponentKind.ARTIFACT, message, subject=artifact.name, was="stored")
                faults.append((reason, lasting))
        return faults

    def _files(self, artifacts: Iterable[Artifact]) -> Iterator[Path]:
        """Yield the paths of the file outputs; errors are reported when they are checked."""
        for artifact in artifacts:
            with suppress(StoreOutOfReach, ValueError):
                if not artifact.is_folder:
                    yield self.materializer.locate(artifact)
