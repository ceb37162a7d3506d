"""The state of the author's git repository, without credentials."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from nbpipe.model import GitState

_TIMEOUT = 5.0
_MAX_PATCH = 1_000_000


def git_state(folder: Path) -> GitState | None:
    """Return the repository's state; None outside of a repository, before its first commit, or without git."""
    commit = _line(folder, "rev-parse", "--verify", "-q", "HEAD")
    if not commit:
        return None
    status = _git(folder, "status", "--porcelain", "--untracked-files=normal") or ""
    patch = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv") or "" if status else ""
    return GitState(
        remote=without_credentials(_line(folder, "config", "--get", "remote.origin.url")),
        branch=_line(folder, "symbolic-ref", "--short", "-q", "HEAD"),
        commit=commit,
        dirty=bool(status),
        patch=patch[:_MAX_PATCH],
    )


def without_credentials(url: str) -> str:
    """Return a remote's address without user, password, token or query."""
    # A password may contain an @: the host begins after the last one.
    url = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@", r"\1", url)
    url = re.sub(r"^[^/@:]+:[^/@]*@", "", url)
    return re.sub(r"[?#].*$", "", url)


def _line(folder: Path, *arguments: str) -> str:
    return (_git(folder, *arguments) or "").strip()


def _git(folder: Path, *arguments: str) -> str | None:
    """Return a git command's output; it changes nothing, not even git's index, and runs no hooks."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    # Inside a git hook these variables refer to another repository or index.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL, env=environ
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
