"""What attempts had finished when their run broke off: taken over by whoever comes next, so it is not made twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nbpipe.data.manifests import read_manifest
from nbpipe.data.snapshot import Digests, pin
from nbpipe.errors import NbpipeError
from nbpipe.history.archive import Archived, archive_text, read_archive
from nbpipe.history.claims import Claim
from nbpipe.history.store import History
from nbpipe.model import Outcome, Status
from nbpipe.run.verification import keep_record, write_draft

_NAME = "submitted.json"
_CHANGED = "a declared file may have changed while the step ran"


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a driver knew when it submitted an attempt: ``kept`` but for its outcome, and the files it declares."""

    kept: Archived
    base: str
    files: Mapping[str, str]


def keep_submitted(submitted: Submitted) -> None:
    """Write what is needed to take the attempt over into its directory."""
    told = {"kept": archive_text(submitted.kept), "base": submitted.base, "files": dict(submitted.files)}
    write_draft(Path(submitted.kept.directory, _NAME), json.dumps(told))


def recover(history: History, digests: Digests, *, alive: Callable[[str], bool], now: float) -> list[str]:
    """End the runs whose owner is dead, and get them; what their attempts had finished becomes visible before that."""
    for directory, attempt, token in history.abandoned(alive=alive):
        outcome = read_manifest(Path(directory), attempt, token)
        submitted = _submitted(Path(directory)) if outcome is not None else None
        if outcome is not None and submitted is not None:
            _adopt(history, submitted, outcome, digests, now)
    return history.mark_lost(alive=alive, now=now)


def _adopt(history: History, submitted: Submitted, outcome: Outcome, digests: Digests, now: float) -> None:
    kept = submitted.kept
    doubts = outcome.doubts if _same(submitted, digests) else (*outcome.doubts, _CHANGED)
    record = replace(
        kept.step, status=Status.SUCCEEDED, seconds=outcome.seconds, notebook=outcome.notebook,
        artifacts=outcome.artifacts, observed=outcome.observed, written=outcome.written, started=now - outcome.seconds,
        ended=now, notes=(*outcome.notes, *(f"{doubt}: its result serves this run only" for doubt in doubts)),
    )  # fmt: skip
    offers = () if doubts else tuple(replace(offer, observed=outcome.observed) for offer in kept.offers)
    claim = Claim(kept.step.key, kept.run.owner, kept.token) if kept.step.key and kept.token else None
    committed = history.commit(outcome, record, offers=offers, claim=claim, now=now)
    if committed and not history.is_private:
        keep_record(replace(kept, step=record, offers=offers, committed=now))


def _same(submitted: Submitted, digests: Digests) -> bool:
    """Say whether the files that the step declares are what they were when it was submitted."""
    try:
        return all(
            pin(pattern, Path(submitted.base), digests).digest == digest for pattern, digest in submitted.files.items()
        )
    except NbpipeError:
        return False


def _submitted(directory: Path) -> Submitted | None:
    try:
        told = json.loads((directory / _NAME).read_bytes())
        return Submitted(read_archive(told["kept"]), told["base"], told["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
