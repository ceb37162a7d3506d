"""Files that hold secrets by their name or their beginning: they lie in a folder by oversight, not as its data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

_FOLDERS = frozenset({".git", ".hg", ".svn", ".ssh", ".aws", ".azure", ".gnupg", ".kube"})
_FILES = frozenset({
    ".env", ".netrc", ".pgpass", ".pypirc", ".npmrc", ".git-credentials",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
})  # fmt: skip
_KEYS = frozenset({".pem", ".key"})
# Private keys of every kind say so in their first line.
_BEGINNING, _PRIVATE = 256, b"PRIVATE KEY-----"


def secret_files(folder: Path, paths: Iterable[str]) -> list[str]:
    """Return those of a folder's files, by relative path, that hold secrets or a repository's history."""
    return [path for path in paths if _is_secret(folder, PurePosixPath(path))]


def _is_secret(folder: Path, path: PurePosixPath) -> bool:
    if path.name in _FILES or path.name.startswith(".env.") or not _FOLDERS.isdisjoint(path.parts[:-1]):
        return True
    if path.suffix not in _KEYS:
        return False
    with (folder / path).open("rb") as file:
        return _PRIVATE in file.read(_BEGINNING)
