"""The state of the author's git repository, without credentials."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from nbpipe.model import GitState

_TIMEOUT = 5.0
_MAX_PATCH = 1_000_000


def git_state(folder: Path) -> GitState | None:
    """Get the repository's state, or None outside of one or without git."""
    commit = _git(folder, "rev-parse", "--verify", "-q", "HEAD")
    if commit is None:
        return None
    status = _git(folder, "status", "--porcelain", "--untracked-files=normal") or ""
    patch = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or "" if status else ""
    return GitState(
        remote=without_credentials(_git(folder, "config", "--get", "remote.origin.url") or ""),
        branch=_git(folder, "symbolic-ref", "--short", "-q", "HEAD") or "",
        commit=commit,
        dirty=bool(status),
        patch=patch[:_MAX_PATCH],
    )


def without_credentials(url: str) -> str:
    """Get a remote's address without user, password, token or query."""
    url = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*@", r"\1", url)
    return re.sub(r"[?#].*$", "", url)


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
