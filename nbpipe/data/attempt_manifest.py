"""The manifest of an attempt, written last: it says that the attempt succeeded and all its outputs are published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.codec import decode, encode_sparse
from nbpipe.data.regular_file import read_regular
from nbpipe.model import Outcome, Status

NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class AttemptManifest:
    """A success; ``run`` and ``step`` are for people who read the file."""

    run: str
    step: str
    outcome: Outcome


def manifest_text(outcome: Outcome, run: str, step: str) -> str:
    """Return the manifest of a success as JSON text."""
    return encode_sparse(AttemptManifest(run, step, outcome))


def read_manifest(directory: Path, attempt: str, token: int) -> Outcome | None:
    """Return the outcome of a success in an attempt's directory; None if there is none, or another attempt's."""
    try:
        outcome = decode(read_regular(directory / NAME), AttemptManifest).outcome
    except (OSError, ValueError):
        return None
    return outcome if (outcome.attempt, outcome.token, outcome.status) == (attempt, token, Status.SUCCEEDED) else None
