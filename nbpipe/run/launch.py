"""Hands a run to a process of its own, which goes on when the one that asked for it is gone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass

from nbpipe.errors import OutOfReach
from nbpipe.run.place import Place
from nbpipe.run.submission import Submission

_PROGRAM = "nbpipe.carrier"
_LOG = "carrier.log"


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that carries a run. Closing its standard input lets a leashed one cancel the run."""

    process: subprocess.Popen[str]
    run: str


def launch(submission: Submission, place: Place) -> Launched:
    """Start the process and return when its run has begun; OutOfReach when it does not begin."""
    with (place.root / _LOG).open("ab") as log:
        process = subprocess.Popen(
            # Files beside the notebook must not stand in for libraries.
            [sys.executable, "-P", "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # A session of its own: neither the terminal's Ctrl-C nor its end reaches it.
            start_new_session=True,
        )
    told = _begin(process, submission)
    if "run" not in told:
        process.kill()
        process.wait()
        said = told.get("error") or "it ended without a word"
        raise OutOfReach(f"the run could not be handed to a process of its own: {said}", f"See {place.root / _LOG}.")
    # Somebody has to take its ending, or it would stay as a zombie for as long as this process lives.
    threading.Thread(target=process.wait, name="nbpipe-reaper", daemon=True).start()
    return Launched(process, told["run"])


def _begin(process: subprocess.Popen[str], submission: Submission) -> dict[str, str]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("a process without pipes")
    try:
        process.stdin.write(submission.to_json() + "\n")
        process.stdin.flush()
        if not submission.leashed:
            process.stdin.close()
        told: dict[str, str] = json.loads(process.stdout.readline() or "{}")
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    return told
