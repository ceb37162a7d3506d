"""The location of a workspace on disk, and the settings in its ``nbpipe.toml``."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbpipe.data.atomic_file import write_file
from nbpipe.errors import REPAIR, BadUsage, HistoryDamaged, Refused, StoreOutOfReach
from nbpipe.history.column_types import leads_inside
from nbpipe.language.setting_table import ANY_MODULE, ANY_PACKAGE, EVERY_STEP
from nbpipe.language.source_text import nearest
from nbpipe.model import DEFAULT_STORE, ExecutionRecord, RunRecord
from nbpipe.permissions import close_to_all, culprit, make_folder, may, owner_of
from nbpipe.resolve.upward_search import UpwardSearch
from nbpipe.resolve.workspace_trust import mark_new

FOLDER = ".nbpipe"
SETTINGS = "nbpipe.toml"
_KEYS = ("source", "reuse", "settings", "datastores", "web", "keep", "compute")
_SETTING = re.compile(r"%?[^\W\d]\w*(\(\))?([. ][^\W\d]\w*(\(\))?)*(\.\*)?")
_USERS = (EVERY_STEP, ANY_MODULE, ANY_PACKAGE)
_POLICIES = {"packages": ("observed", "strict"), "python": ("patch", "minor")}


@dataclass(frozen=True, slots=True)
class EnvironmentPolicy:
    """How exactly the environment must match for a result to be reused.

    ``packages``: those that the attempt imported (observed), or all that are installed (strict); ``python``: the same
    patch or minor release.
    """

    packages: str = "observed"
    python: str = "patch"


@dataclass(frozen=True, slots=True)
class WorkspaceLayout:
    """A workspace's folder, the folders with local modules, and settings beyond those that nbpipe recognises.

    ``datastores``, ``web``, ``compute`` and ``keep`` are the tables of these names in ``settings_file``, if there are
    any.
    """

    root: Path
    source: tuple[Path, ...] = ()
    policy: EnvironmentPolicy = EnvironmentPolicy()
    passed_over: tuple[str, ...] = ()
    more_settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings_file: Path | None = None
    datastores: Mapping[str, object] = field(default_factory=dict)
    web: Mapping[str, object] = field(default_factory=dict)
    compute: Mapping[str, object] = field(default_factory=dict)
    keep: object = field(default_factory=dict)

    @property
    def database(self) -> Path:
        """Return the path of the run database."""
        return self.root / "history.db"

    @property
    def store(self) -> Path:
        """Return the folder of the workspace's own datastore."""
        return self.root / "store"

    @property
    def id_file(self) -> Path:
        """Return the path of the workspace's id, which datastores of outputs are marked with."""
        return self.root / "id"

    @property
    def default_store(self) -> str:
        """Return the name of the datastore in which outputs are stored, as it stands in the settings."""
        return str(self.datastores.get(DEFAULT_STORE, DEFAULT_STORE))

    @property
    def readings(self) -> Path:
        """Return the folder of the parse cache."""
        return self.root / "readings"

    @property
    def runs(self) -> Path:
        """Return the folder with a folder for each run."""
        return self.root / "runs"

    @property
    def datasets(self) -> Path:
        """Return the folder with the records of datasets."""
        return self.root / "datasets"

    @property
    def base(self) -> Path:
        """Return the project's folder, which moves together with the workspace."""
        return self.root.parent if self.root.name == FOLDER else self.root

    def relative(self, path: Path) -> str:
        """Return an author's path relative to the project's folder, with the links in its folder resolved."""
        # The last part may be a link, whose name identifies the file.
        return Path(os.path.relpath(path.parent.resolve() / path.name, self.base)).as_posix()

    def absolute(self, relative: str) -> Path:
        """Return the author's path for a result of :meth:`relative`."""
        return Path(os.path.normpath(self.base / relative))

    def path(self, reference: str) -> Path:
        """Return the path of a file or folder in the workspace; references are relative to its folder.

        Raise HistoryDamaged for a reference that leads out of it, by its text or by a link.
        """
        path = self.root / reference
        if not (leads_inside(reference) and self._keeps_inside(path)):
            message = f"a record names {reference!r:.200}, which is not in the workspace {self.root}"
            raise HistoryDamaged(message, REPAIR)
        return path

    def _keeps_inside(self, path: Path) -> bool:
        """Return whether no link between the workspace's folder and a path below it leads out of that folder."""
        steps = (path, *path.parents)[: len(path.parts) - len(self.root.parts)]
        linked = any(map(Path.is_symlink, steps))
        return not linked or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))

    def located(self, execution: ExecutionRecord) -> ExecutionRecord:
        """Return an execution for display: with the path of its executed notebook instead of a reference."""
        return execution if execution.notebook is None else replace(
            execution, notebook=str(self.path(execution.notebook))
        )  # fmt: skip

    def located_run(self, run: RunRecord) -> RunRecord:
        """Return a run for display: with the path that its notebook had when the run began."""
        return replace(run, notebook=str(self.absolute(run.notebook)))

    def attempt_directory(self, run: str, slug: str, attempt: str) -> str:
        """Return the reference of one attempt's own directory."""
        return f"{self.runs.name}/{run}/{slug}/{attempt}"


def absolute(path: Path) -> Path:
    """Return an absolute path without dots; links are not resolved."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links


def find_workspace(near: Path, named: Path | None = None) -> WorkspaceLayout:
    """Return the workspace ``named``, else the nearest one upward from ``near``, else a new one in ``near``."""
    search = UpwardSearch(near.resolve())
    near = search.near
    folder = search.first(SETTINGS)
    root = named.resolve() if named is not None else (search.first(SETTINGS, FOLDER) or near) / FOLDER
    layout = WorkspaceLayout(root, passed_over=tuple(search.passed_over))
    return _with_settings(layout, folder / SETTINGS) if folder else layout


def settings_near(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the additional settings for notebooks in a folder; none if the file is invalid: opening tells that."""
    try:
        return find_workspace(folder).more_settings
    except Refused:
        return {}


def datastores_near(folder: Path) -> tuple[str, ...]:
    """Return the names of the datastores that are configured for a folder; none if the settings file is invalid."""
    try:
        return tuple(find_workspace(folder).datastores)
    except Refused:
        return ()


def make_workspace(place: WorkspaceLayout) -> None:
    """Create the workspace's folder if it is missing, with a ``.gitignore``.

    A new one is marked as this user's. Raise StoreOutOfReach if this user may not write to it or its contents.
    """
    try:
        make_folder(place.root)
        require_folders(place)
        mark_new(place.root)
        ignore = place.root / ".gitignore"
        if not os.path.lexists(ignore):
            write_file(ignore, b"*\n", durable=False)
        close_to_all(place.root)
    except PermissionError:
        raise closed(place.root) from None
    except OSError as error:
        raise StoreOutOfReach(
            f"the workspace {place.root} cannot be made: {error.strerror}", "Name another with --workspace DIR."
        ) from None
    require_writable(place)


def require_writable(place: WorkspaceLayout) -> None:
    """Raise StoreOutOfReach if this user may not write to what there is of the workspace."""
    for folder in (place.root, place.runs, place.store, place.store / "objects", place.datasets):
        if folder.exists() and not may(folder, os.W_OK):
            raise closed(folder)


def require_folders(place: WorkspaceLayout) -> None:
    """Raise StoreOutOfReach if a link, or a file, is where the workspace has a folder: it may lead anywhere."""
    for folder in (place.runs, place.store, place.store / "objects", place.readings, place.datasets):
        if os.path.lexists(folder) and not stat.S_ISDIR(folder.lstat().st_mode):
            raise StoreOutOfReach(f"the workspace is damaged: {folder} is not a folder", REPAIR)


def closed(path: Path) -> StoreOutOfReach:
    """Return the error for a file or folder that this user may not use; it names the owner."""
    blocked = culprit(path)
    message = f"{path} cannot be used: {blocked} belongs to {owner_of(blocked)}, who does not let this user do so"
    return StoreOutOfReach(
        message, f"Its owner can (chmod g+rwX {blocked}); or name another workspace with --workspace DIR."
    )


@contextlib.contextmanager
def owner_named() -> Iterator[None]:
    """Raise StoreOutOfReach with the owner's name if the block may not use a file or folder."""
    try:
        yield
    except PermissionError as error:
        if not isinstance(error.filename, str):
            raise
        raise closed(Path(error.filename)) from None


def write_settings(folder: Path) -> None:
    """Write a commented settings file, unless there is one."""
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

[settings]
# What ordinary cells set in other libraries, and whose users it concerns:
# "mylib.configure" = "mylib"

# What `nbpipe gc` keeps: all results of the newest runs of each notebook, and of the last days.
# [keep]
# runs = 20
# days = 30

# Data elsewhere, as store:NAME/PATH; credentials only by reference (env:NAME, file:PATH, keyring:SERVICE/USER).
# [datastores.lake]
# url = "s3://bucket/prefix"
# credentials = { access_key_id = "env:LAKE_KEY", secret_access_key = "env:LAKE_SECRET" }

# Where steps run: cores, memory and GPUs of a compute target, which steps name with --compute.
# [compute]
# default = "local"
# [compute.gpu]
# use = "local-gpu"
# worker = { cpu = 8, memory = "32GiB" }

# Hosts of a private network that inputs may be read from by https:, and hosts that may be read by http:.
# [web]
# allow = ["data.lab"]
# unencrypted = []
"""


def _with_settings(layout: WorkspaceLayout, settings: Path) -> WorkspaceLayout:
    try:
        table = tomllib.loads(settings.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadUsage(f"{settings} cannot be read: {error}") from None
    for key in table:
        if key not in _KEYS:
            raise BadUsage(f"{settings} has the key `{key}`", nearest(key, _KEYS) or f"It knows: {', '.join(_KEYS)}.")
    datastores = table.get("datastores", {})
    if not isinstance(datastores, dict):
        raise BadUsage(f"`datastores` in {settings} is not a table", "Write each as [datastores.NAME].")
    web = table.get("web", {})
    if not isinstance(web, dict):
        raise BadUsage(f"`web` in {settings} is not a table", "Write it as [web].")
    compute = table.get("compute", {})
    if not isinstance(compute, dict):
        raise BadUsage(f"`compute` in {settings} is not a table", "Write each target as [compute.NAME].")
    source, policy = _source(settings, table.get("source", [])), _policy(settings, table.get("reuse", {}))
    more = _more_settings(settings, table.get("settings", {}))
    return replace(
        layout, source=source, policy=policy, more_settings=more, settings_file=settings,
        datastores=datastores, web=web, compute=compute, keep=table.get("keep", {}),
    )  # fmt: skip


def _more_settings(settings: Path, table: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise BadUsage(f"`settings` in {settings} is not a table", "Write it as [settings].")
    more = {}
    for name, users in table.items():
        listed = [users] if isinstance(users, str) else users
        if not _SETTING.fullmatch(name):
            hint = 'Write what is called or assigned to, with its module: "mylib.configure" = "mylib"'
            raise BadUsage(f"[settings] in {settings} has the key `{name}`", hint)
        if not isinstance(listed, list) or not listed or not all(_is_user(each) for each in listed):
            hint = f"It may be the name of a library, a list of names, or one of: {', '.join(_USERS)}."
            raise BadUsage(f"`{name}` in [settings] of {settings} is {users!r}", hint)
        more[name] = tuple(listed)
    return more


def _is_user(name: object) -> bool:
    return isinstance(name, str) and (name in _USERS or all(part.isidentifier() for part in name.split(".")))


def _policy(settings: Path, table: object) -> EnvironmentPolicy:
    if not isinstance(table, dict):
        raise BadUsage(f"`reuse` in {settings} is not a table", "Write it as [reuse].")
    for key, value in table.items():
        allowed = _POLICIES.get(key)
        if allowed is None:
            hint = nearest(key, _POLICIES) or f"It knows: {', '.join(_POLICIES)}."
            raise BadUsage(f"[reuse] in {settings} has the key `{key}`", hint)
        if value not in allowed:
            choices = " or ".join(f'"{choice}"' for choice in allowed)
            raise BadUsage(f"`{key}` in [reuse] of {settings} is {value!r}", f"It may be {choices}.")
    return EnvironmentPolicy(**table)


def _source(settings: Path, folders: object) -> tuple[Path, ...]:
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise BadUsage(f"`source` in {settings} is not a list of folders", 'For example: source = ["src"]')
    for folder in folders:
        if not (settings.parent / folder).is_dir():
            raise BadUsage(f"`source` in {settings} names {folder!r}, which is not a folder")
    return tuple(settings.parent / folder for folder in folders)
