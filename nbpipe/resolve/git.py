"""The state of the author's git repository, without credentials."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from nbpipe.model import GitState

_TIMEOUT = 5.0
_MAX_PATCH = 1_000_000
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv")
# A submodule has a configuration of its own, so git does not look into it: neither for what has changed in it, nor to
# show what lies between two of its commits, which starts another git there.
_OUTSIDE = "--ignore-submodules=dirty"
_NAMED_BY_COMMIT = "--submodule=short"
# Where settings come from that travel with a repository.
_THEIRS = ("local", "worktree")
_NONE: Mapping[str, str] = MappingProxyType({})
_FILTER = re.compile(r"filter\..*\.(?:clean|smudge|process|required)", re.DOTALL)


def git_state(folder: Path) -> GitState | None:
    """Return the repository's state; None outside of a repository, before its first commit, or without git."""
    commit = _line(folder, "rev-parse", "--verify", "-q", "HEAD")
    if not commit:
        return None
    harmless = _without_filters(folder)
    status = _git(folder, "status", "--porcelain", "--untracked-files=normal", _OUTSIDE, settings=harmless) or ""
    patch = _git(folder, "diff", "HEAD", *_PLAIN, _OUTSIDE, _NAMED_BY_COMMIT, settings=harmless) or "" if status else ""
    return GitState(
        remote=without_credentials(_line(folder, "config", "--get", "remote.origin.url")),
        branch=_line(folder, "symbolic-ref", "--short", "-q", "HEAD"),
        commit=commit,
        dirty=bool(status),
        patch=patch[:_MAX_PATCH],
    )


def is_tracked(path: Path) -> bool:
    """Return whether git tracks a file or folder, or anything in it; False outside of a repository and without git."""
    above = next((folder / ".git" for folder in path.absolute().parents if os.path.lexists(folder / ".git")), None)
    if above is None or (above.is_dir() and not (above / "index").exists()):
        return False
    return bool(_git(path.parent, "--literal-pathspecs", "ls-files", "--cached", "-z", "--", path.name))


def without_credentials(url: str) -> str:
    """Return a remote's address without user, password, token or query."""
    # A password may contain an @: the host begins after the last one.
    url = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@", r"\1", url)
    url = re.sub(r"^[^/@:]+:[^/@]*@", "", url)
    return re.sub(r"[?#].*$", "", url)


def _line(folder: Path, *arguments: str) -> str:
    return (_git(folder, *arguments) or "").strip()


def _without_filters(folder: Path) -> dict[str, str]:
    """Return settings that switch off the filters of the repository itself; those of the user and the system stay.

    A filter is a command that git runs for a file, and a repository that somebody has packed brings its configuration
    along. Where one is switched off, files that it would change count as changed.
    """
    listed = _git(folder, "config", "--show-scope", "--null", "--list", "--includes") or ""
    fields = listed.split("\0")
    names = [
        entry.partition("\n")[0] for scope, entry in zip(fields[::2], fields[1::2], strict=False) if scope in _THEIRS
    ]
    return {name: "false" if name.endswith(".required") else "" for name in names if _FILTER.fullmatch(name)}


def _git(folder: Path, *arguments: str, settings: Mapping[str, str] = _NONE) -> str | None:
    """Return what a git command prints; it changes nothing, not even git's own index, and runs nothing else."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    # Inside a git hook these variables refer to another repository or index.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # What a partial clone lacks is fetched by a command that its configuration names.
    environ |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "", "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        environ |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL, env=environ
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
