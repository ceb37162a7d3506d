"""Files written whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_draft(path: Path, text: str) -> None:
    """Write a file whole; one that is lost in a power cut costs a result that is made again."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
