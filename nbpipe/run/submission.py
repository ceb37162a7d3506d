"""A run as one process hands it to another: the cells as they are now, and what was asked of them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nbpipe.language.reading import read_cells
from nbpipe.model import Cell
from nbpipe.run.situation import Request


def new_run_id(now: float) -> str:
    """Get an id that no other run has, sorted by the time ``now``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a run shall be carried out.

    ``run`` is the id that the run shall have, empty for any. With ``attach`` what another run of the notebook is busy
    with is waited for, and ends here as it ends there.
    """

    keep_going: bool = False
    experiment: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    attach: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """Cells, what is asked of them, and the workspace ``root``; later edits of the notebook change nothing in it.

    ``leashed``: the run is cancelled when the process that submits it is gone.
    """

    cells: tuple[Cell, ...]
    asked: Request
    wishes: Wishes
    root: Path
    leashed: bool = False

    def to_json(self) -> str:
        """Get it as one line of JSON."""
        asked = self.asked
        told = {
            "cells": [{**asdict(cell), "tags": sorted(cell.tags)} for cell in self.cells],
            "asked": {
                "notebook": asked.notebook, "base": str(asked.base), "kernel": asked.kernel,
                "texts": dict(asked.texts), "values": dict(asked.values), "steps": asked.steps, "start": asked.start,
                "force": asked.force, "whole": asked.whole,
            },
            "wishes": {**asdict(self.wishes), "tags": dict(self.wishes.tags)},
            "root": str(self.root), "leashed": self.leashed,
        }  # fmt: skip
        return json.dumps(told)

    @classmethod
    def from_json(cls, line: str) -> Submission:
        """Get it back; the cells are read anew."""
        told = json.loads(line)
        cells = tuple(Cell(**{**cell, "tags": frozenset(cell["tags"])}) for cell in told["cells"])
        asked: dict[str, Any] = told["asked"]
        asked |= {"base": Path(asked["base"]), "steps": tuple(asked["steps"])}
        asked["force"] = None if asked["force"] is None else tuple(asked["force"])
        request = Request(reading=read_cells(cells), **asked)
        return cls(cells, request, Wishes(**told["wishes"]), Path(told["root"]), told["leashed"])

    def leash(self) -> Submission:
        """Get the same submission, to be cancelled when its submitter is gone."""
        return replace(self, leashed=True)
