"""The manifest of an attempt: what says that it succeeded and all its outputs are published. Its last word."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from nbpipe.model import Artifact, Observed, Outcome, Status

NAME = "manifest.json"


def manifest_text(outcome: Outcome, run: str, step: str) -> str:
    """Get the text of a success."""
    told = {"run": run, "step": step, **asdict(outcome), "status": outcome.status.value}
    return json.dumps(told, ensure_ascii=True)


def read_manifest(directory: Path, attempt: str, token: int) -> Outcome | None:
    """Get the success that lies in an attempt's directory; None when there is none, or it is somebody else's."""
    try:
        told = json.loads((directory / NAME).read_bytes())
        found = Outcome(
            told["attempt"], told["token"], Status(told["status"]), told["seconds"], told["notebook"],
            artifacts=tuple(Artifact(**each) for each in told["artifacts"]),
            notes=tuple(told["notes"]),
            observed=tuple(Observed(**each) for each in told["observed"]),
            written=tuple(told["written"]),
            doubts=tuple(told["doubts"]),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if (found.attempt, found.token, found.status) == (attempt, token, Status.SUCCEEDED) else None
