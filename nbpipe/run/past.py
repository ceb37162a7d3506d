"""Past results as the planner sees them: looked up, and verified before they are believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nbpipe.data.artifacts import Datastore, check, local_path
from nbpipe.data.snapshot import DigestMemory
from nbpipe.history.store import History
from nbpipe.model import Hit, Reason
from nbpipe.planning.plan import Found, Past


@dataclass(slots=True)
class Recall:
    """Lookups for one notebook: the last run's results are fetched at once, others as they are asked for."""

    history: History
    store: Datastore
    digests: DigestMemory
    clock: Callable[[], float]
    _ready: dict[str, Hit] = field(default_factory=dict)
    _static: dict[str, bool] = field(default_factory=dict)

    def past(self, notebook: str) -> Past:
        """Get the past of one notebook."""
        last = self.history.last_run(notebook)
        if last is not None:
            self._ready = self.history.hits_of_run(last.id)
            self.digests.prefetch(
                [
                    local_path(artifact)
                    for hit in self._ready.values()
                    for artifact in hit.artifacts
                    if artifact.format != "dir"
                ]
            )
        return Past(
            self.lookup, self.known, lambda step: self.newest(notebook, step), self.history.latest_steps(notebook)
        )

    def lookup(self, key: str) -> Found:
        """Get the result for this key if its bytes are all there, or why it cannot be used."""
        hit = self._ready.get(key) or self.history.lookup([key]).get(key)
        if hit is None:
            return ()
        damage = self._damage(hit)
        if damage:
            self._ready.pop(key, None)
            self.history.quarantine(hit.attempt, "; ".join(f"{r.component} {r.now}" for r in damage), self.clock())
            other = self.history.lookup([key]).get(key)
            return self.lookup(key) if other is not None and other.attempt != hit.attempt else damage
        return hit

    def known(self, static_key: str) -> bool:
        """Say whether a result was ever made from these components."""
        if static_key not in self._static:
            self._static[static_key] = bool(self.history.static_known([static_key]))
        return self._static[static_key]

    def newest(self, notebook: str, step: str) -> Hit | None:
        """Get the newest result of a step that is still whole."""
        hit = self.history.newest_result(notebook, step)
        return hit if hit is not None and not self._damage(hit) else None

    def _damage(self, hit: Hit) -> tuple[Reason, ...]:
        wrong = ((artifact, check(self.store, artifact, self.digests)) for artifact in hit.artifacts)
        return tuple(Reason(f"artifact:{artifact.name}", "stored", said) for artifact, said in wrong if said)
