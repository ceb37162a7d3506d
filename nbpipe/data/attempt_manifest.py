"""The manifest of an attempt: what says that it succeeded and all its outputs are published. Its last word."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from nbpipe.model import Outcome, Status

NAME = "manifest.json"


def manifest_text(outcome: Outcome, run: str, step: str) -> str:
    """Return the text of a success; run and step are there for whoever looks at the file."""
    told = {"run": run, "step": step, **msgspec.to_builtins(outcome)}
    # Not msgspec's own writer: a path's name may hold what is no UTF-8, which JSON can escape.
    return json.dumps(told, ensure_ascii=True)


def read_manifest(directory: Path, attempt: str, token: int) -> Outcome | None:
    """Return the success that lies in an attempt's directory; None when there is none, or it is somebody else's."""
    try:
        found = msgspec.convert(json.loads((directory / NAME).read_bytes()), Outcome)
    except (OSError, ValueError):
        return None
    return found if (found.attempt, found.token, found.status) == (attempt, token, Status.SUCCEEDED) else None
