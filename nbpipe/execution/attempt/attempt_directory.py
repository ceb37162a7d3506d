"""The directory of one attempt: what the worker writes for the kernel, and what the kernel leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.data import attempt_manifest, job_file
from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest
from nbpipe.data.regular_file import open_regular, read_regular
from nbpipe.model import Job, Outcome
from nbpipe.permissions import make_folder

_LOG_TAIL_BYTES = 4000
# What the kernel leaves for its worker.
_ERROR, _OBSERVED, _OUTPUTS = "error.json", "observed.json", "outputs.json"


@dataclass(frozen=True, slots=True)
class StagedOutput:
    """An output as the kernel saved it."""

    name: str
    format: str
    path: Path
    note: str


@dataclass(frozen=True, slots=True)
class AttemptDirectory:
    """One attempt's directory, with a property for each file in it."""

    path: Path

    @property
    def job(self) -> Path:
        """Return the path of the job, which the kernel reads."""
        return self.path / job_file.NAME

    @property
    def staging(self) -> Path:
        """Return the folder in which the kernel saves outputs."""
        return self.path / "staging"

    @property
    def notebook(self) -> Path:
        """Return the path of the executed notebook."""
        return self.path / "notebook.ipynb"

    @property
    def manifest(self) -> Path:
        """Return the path of the manifest, which says that the attempt succeeded."""
        return self.path / attempt_manifest.NAME

    @property
    def log(self) -> Path:
        """Return the path of what the kernel process wrote outside of its cells."""
        return self.path / "kernel.log"

    def claim(self) -> bool:
        """Claim this directory for one execution; return False if another one has claimed it."""
        make_folder(self.path)
        try:
            self.staging.mkdir(0o700)
        except FileExistsError:
            return False
        return not (self.job.exists() or self.manifest.exists())

    def write_job(self, job: Job) -> None:
        """Write the job for the kernel, without the values of the environment."""
        job_file.write_job(job)

    def error(self) -> Mapping[str, Any]:
        """Return the kernel's record of a cell's error; empty if there is none."""
        return _read(self.path / _ERROR)

    def observed(self) -> Mapping[str, Any]:
        """Return the kernel's report of what the step used without declaring it; empty if there is none."""
        return _read(self.path / _OBSERVED)

    def saved(self) -> tuple[StagedOutput, ...] | None:
        """Return the outputs that the kernel saved, or None if it did not get that far."""
        payload = _read(self.path / _OUTPUTS)
        if "outputs" not in payload:
            return None
        return tuple(self._staged(output) for output in payload["outputs"])

    def _staged(self, payload: Mapping[str, Any]) -> StagedOutput:
        # The kernel runs the author's code, so only the last part of a path is used.
        path = self.staging / Path(payload["name"]).name / Path(payload["basename"]).name
        return StagedOutput(payload["name"], payload["format"], path, payload.get("note") or "")

    def log_tail(self) -> str:
        """Return the end of what the kernel process wrote outside of its cells."""
        with contextlib.suppress(OSError), open_regular(self.log) as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()
        return ""

    def notebook_digest(self) -> str:
        """Return the digest of the executed notebook; empty if there is none."""
        try:
            return bytes_digest(read_regular(self.notebook))
        except OSError:
            return ""

    def sign(self, job: Job, outcome: Outcome) -> None:
        """Write the manifest, which says that the attempt succeeded and all its outputs are published."""
        text = attempt_manifest.manifest_text(outcome, job.run, job.step)
        write_file(self.manifest, text.encode(), durable=True)

    def clear(self) -> None:
        """Remove staged outputs and the kernel's reports, which the manifest contains."""
        shutil.rmtree(self.staging, ignore_errors=True)
        for name in (_OBSERVED, _OUTPUTS):
            (self.path / name).unlink(missing_ok=True)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        payload = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        # The author's code may put anything there.
        return {}
    return payload if isinstance(payload, dict) else {}
