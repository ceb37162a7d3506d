"""A step of a run that goes on, as its driver holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbpipe.history.claims import Claim
from nbpipe.history.records import AttemptRow
from nbpipe.history.results import Offer
from nbpipe.model import Failure, Observed, Outcome, StepRecord
from nbpipe.planning.plan import Decision


@dataclass(slots=True)
class HeldStep:
    """A step of this run: what was decided, what it claims, and what is known of it."""

    decision: Decision | None = None
    claim: Claim | None = None
    attempt: str = ""
    directory: str = ""
    attempts: int = 0
    waiting: bool = False
    awaited: set[str] = field(default_factory=set)
    elsewhere: AttemptRow | None = None
    overtaken: int = 0
    failure: Failure | None = None
    outcome: Outcome | None = None
    record: StepRecord | None = None

    @property
    def key(self) -> str | None:
        """Get the reuse key that was decided on."""
        return self.decision.key if self.decision else None

    @property
    def token(self) -> int:
        """Get the token of the claim; 0 for a step whose key nobody needs to claim."""
        return self.claim.token if self.claim else 0

    def offers(self, observed: tuple[Observed, ...] = ()) -> list[Offer]:
        """Get the keys under which a result may be offered."""
        return [Offer(key, static, observed) for key, static in self.decision.keys] if self.decision else []
