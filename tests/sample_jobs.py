"""Makes jobs for tests: one-step notebooks in the shape that the renderer gives them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbpipe.compute.environments import kernel_environment
from nbpipe.compute.targets import default_target
from nbpipe.model import Job, JobInput, JobOutput, Outcome
from nbpipe.model.compute import Needs, Placement

KERNEL = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")


def cell(role: str, source: str, number: int | None = None) -> dict[str, Any]:
    """Get a code cell with its role; ``number`` is the author's cell."""
    tag = "parameters" if role == "parameters" else f"nbpipe-{role}"
    return {
        "cell_type": "code",
        "id": f"{role}-{number}",
        "metadata": {"tags": [tag], "nbpipe": {"role": role, "cell": number}},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }


def notebook(
    steps: Sequence[str], inputs: Sequence[JobInput] = (), outputs: Sequence[JobOutput] = (), shared: str = ""
) -> str:
    """Get a one-step notebook; the step's cells are the author's cells 3, 4, …, the shared one is cell 2."""
    loads = [f'{given.name} = _nbpipe.load("{given.name}")' for given in inputs]
    loads += [f'{made.name} = _nbpipe.path("{made.name}")' for made in outputs if made.format in ("dir", "file.txt")]
    cells = [
        cell("setup", ""),
        cell("parameters", "depth = 3", 1),
        *([cell("shared", shared, 2)] if shared else []),
        cell("inputs", "\n".join(loads)),
        *(cell("step", source, 3 + index) for index, source in enumerate(steps)),
        cell("outputs", "_nbpipe.save(globals())"),
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


def job(
    folder: Path,
    *steps: str,
    name: str = "a1",
    inputs: Sequence[JobInput] = (),
    outputs: Sequence[JobOutput] = (),
    shared: str = "",
    timeout: float | None = None,
    memory: int | None = None,
    env: dict[str, str] | None = None,
) -> Job:
    """Get a job of attempt ``name`` below ``folder``."""
    return Job(
        attempt=name,
        token=7,
        run="r1",
        step="train",
        notebook=notebook(steps, inputs, outputs, shared),
        directory=str(folder / "runs" / "r1" / "train" / name),
        store=str(folder / "store"),
        cwd=str(folder),
        kernel=KERNEL,
        env=kernel_environment(os.environ, ()) if env is None else env,
        placement=Placement(default_target(), Needs()),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        timeout=timeout,
        memory=memory,
    )


def executed(folder: Path, outcome: Outcome) -> Path:
    """Get the executed notebook of a job's attempt below ``folder``."""
    assert outcome.notebook == "notebook.ipynb"
    return folder / "runs" / "r1" / "train" / outcome.attempt / outcome.notebook
