"""Where a workspace lies on disk, and what its ``nbpipe.toml`` says."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from nbpipe.errors import BadUsage, StoreOutOfReach
from nbpipe.history.sharing import culprit, make_folder, may, owner_of, share
from nbpipe.language.source_text import nearest
from nbpipe.model import ExecutionRecord, RunRecord

FOLDER = ".nbpipe"
SETTINGS = "nbpipe.toml"
_KEYS = ("source", "reuse")
_POLICIES = {"packages": ("observed", "strict"), "python": ("patch", "minor")}


@dataclass(frozen=True, slots=True)
class EnvironmentPolicy:
    """How exactly a result's environment must be the same.

    ``packages``: those that the attempt has imported (observed), or all that are installed (strict); ``python``: up to
    its patch release, or its minor one.
    """

    packages: str = "observed"
    python: str = "patch"


@dataclass(frozen=True, slots=True)
class WorkspaceLayout:
    """A workspace's folder and the folders that hold local modules."""

    root: Path
    source: tuple[Path, ...] = ()
    policy: EnvironmentPolicy = EnvironmentPolicy()

    @property
    def database(self) -> Path:
        """Return the run store's file."""
        return self.root / "history.db"

    @property
    def store(self) -> Path:
        """Return the default datastore's folder."""
        return self.root / "store"

    @property
    def readings(self) -> Path:
        """Return the folder that remembers how notebooks were read."""
        return self.root / "readings"

    @property
    def runs(self) -> Path:
        """Return the folder with a folder for each run."""
        return self.root / "runs"

    @property
    def base(self) -> Path:
        """Return the folder that the workspace is of: the one that moves when somebody moves it."""
        return self.root.parent if self.root.name == FOLDER else self.root

    def relative(self, path: Path) -> str:
        """Return a path of the author relative to the workspace, by whichever links its folder is reached."""
        # The last part may be a link of the author's, under whose name the file is known.
        return Path(os.path.relpath(path.parent.resolve() / path.name, self.base)).as_posix()

    def absolute(self, relative: str) -> Path:
        """Return the path of the author that :meth:`relative` has made relative."""
        return Path(os.path.normpath(self.base / relative))

    def path(self, reference: str) -> Path:
        """Return where a file or folder of the workspace's own lies; references are relative to its folder."""
        return self.root / reference

    def located(self, execution: ExecutionRecord) -> ExecutionRecord:
        """Return an execution as faces see it: with the path of its executed notebook instead of a reference."""
        return execution if execution.notebook is None else replace(
            execution, notebook=str(self.path(execution.notebook))
        )  # fmt: skip

    def located_run(self, run: RunRecord) -> RunRecord:
        """Return a run as faces see it: with the path of its notebook, as it was when the run began."""
        return replace(run, notebook=str(self.absolute(run.notebook)))

    def attempt_directory(self, run: str, slug: str, attempt: str) -> str:
        """Return a reference to the directory that belongs to one attempt alone."""
        return f"{self.runs.name}/{run}/{slug}/{attempt}"


def absolute(path: Path) -> Path:
    """Return a path from the root without dots; links stay as the author wrote them."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links


def find_workspace(near: Path, named: Path | None = None) -> WorkspaceLayout:
    """Return the workspace named, or the nearest upward from ``near``, or the one to be made in ``near``."""
    near = near.resolve()
    settings = next((folder / SETTINGS for folder in (near, *near.parents) if (folder / SETTINGS).is_file()), None)
    source, policy = _told(settings) if settings else ((), EnvironmentPolicy())
    if named is not None:
        return WorkspaceLayout(named.resolve(), source, policy)
    for folder in (near, *near.parents):
        if (folder / SETTINGS).is_file() or (folder / FOLDER).is_dir():
            return WorkspaceLayout(folder / FOLDER, source, policy)
    return WorkspaceLayout(near / FOLDER, source, policy)


def make_workspace(place: WorkspaceLayout) -> None:
    """Make the folder if it is not there, with an ignore file of its own for git.

    Raise StoreOutOfReach when this user may not write it, or what is in it.
    """
    try:
        make_folder(place.root)
        ignore = place.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
            share(ignore)
    except PermissionError:
        raise closed(place.root) from None
    except OSError as error:
        raise StoreOutOfReach(
            f"the workspace {place.root} cannot be made: {error.strerror}", "Name another with --workspace DIR."
        ) from None
    for folder in (place.root, place.runs, place.store, place.store / "objects"):
        if folder.exists() and not may(folder, os.W_OK):
            raise closed(folder)


def closed(path: Path) -> StoreOutOfReach:
    """Return the error for a file or folder that this user may not use; it names the owner, who can change that."""
    found = culprit(path)
    said = f"{path} cannot be used: {found} belongs to {owner_of(found)}, who does not let this user do so"
    return StoreOutOfReach(
        said, f"Its owner can (chmod g+rwX {found}); or name another workspace with --workspace DIR."
    )


def write_settings(folder: Path) -> None:
    """Write a settings file that says what may stand in it, unless there is one."""
    settings = folder / SETTINGS
    if settings.exists():
        return
    try:
        settings.write_text(_SETTINGS_TEXT, encoding="utf-8")
    except OSError as error:
        raise StoreOutOfReach(f"{settings} cannot be written: {error.strerror}") from None


_SETTINGS_TEXT = """\
# Settings of the nbpipe workspace in this folder.

# Folders, relative to this file, with local modules that steps import; a notebook's own folder always counts.
source = []

[reuse]
# A result is reused while the installed packages that its step imported are the same ("observed"), or all ("strict").
packages = "observed"
# And while Python is the same up to its "patch" release, or only its "minor" one.
python = "patch"
"""


def _told(settings: Path) -> tuple[tuple[Path, ...], EnvironmentPolicy]:
    try:
        table = tomllib.loads(settings.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadUsage(f"{settings} cannot be read: {error}") from None
    for key in table:
        if key not in _KEYS:
            raise BadUsage(f"{settings} has the key `{key}`", nearest(key, _KEYS) or f"It knows: {', '.join(_KEYS)}.")
    return _source(settings, table.get("source", [])), _policy(settings, table.get("reuse", {}))


def _policy(settings: Path, table: object) -> EnvironmentPolicy:
    if not isinstance(table, dict):
        raise BadUsage(f"`reuse` in {settings} is not a table", "Write it as [reuse].")
    for key, value in table.items():
        allowed = _POLICIES.get(key)
        if allowed is None:
            hint = nearest(key, _POLICIES) or f"It knows: {', '.join(_POLICIES)}."
            raise BadUsage(f"[reuse] in {settings} has the key `{key}`", hint)
        if value not in allowed:
            words = " or ".join(f'"{word}"' for word in allowed)
            raise BadUsage(f"`{key}` in [reuse] of {settings} is {value!r}", f"It may be {words}.")
    return EnvironmentPolicy(**table)


def _source(settings: Path, folders: object) -> tuple[Path, ...]:
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise BadUsage(f"`source` in {settings} is not a list of folders", 'For example: source = ["src"]')
    for folder in folders:
        if not (settings.parent / folder).is_dir():
            raise BadUsage(f"`source` in {settings} names {folder!r}, which is no folder")
    return tuple(settings.parent / folder for folder in folders)
