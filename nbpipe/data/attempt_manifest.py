"""The manifest of an attempt: what says that it succeeded and all its outputs are published. Its last word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.codec import decode, encode_sparse
from nbpipe.model import Outcome, Status

NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class AttemptManifest:
    """A success; ``run`` and ``step`` are there for whoever looks at the file."""

    run: str
    step: str
    outcome: Outcome


def manifest_text(outcome: Outcome, run: str, step: str) -> str:
    """Return the text of a success."""
    return encode_sparse(AttemptManifest(run, step, outcome))


def read_manifest(directory: Path, attempt: str, token: int) -> Outcome | None:
    """Return the success in an attempt's directory; None when there is none, or it is another attempt's."""
    try:
        outcome = decode((directory / NAME).read_bytes(), AttemptManifest).outcome
    except (OSError, ValueError):
        return None
    return outcome if (outcome.attempt, outcome.token, outcome.status) == (attempt, token, Status.SUCCEEDED) else None
