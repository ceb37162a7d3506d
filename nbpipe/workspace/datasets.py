"""The datasets of a workspace: registered, listed, compared, traced, labelled and kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from nbpipe.codec import decode
from nbpipe.data.dataset_manifest import content_of_members
from nbpipe.errors import BadData, BadUsage, NbpipeError
from nbpipe.model import ObjectReference
from nbpipe.model.datasets import (
    NAME_RULE,
    Column,
    DatasetContent,
    DatasetDifference,
    DatasetDraft,
    DatasetFiles,
    DatasetKind,
    DatasetMember,
    DatasetOrigin,
    DatasetQuery,
    DatasetRecipe,
    DatasetReference,
    DatasetVersion,
    TableProfile,
    VersionDescription,
    is_name,
)
from nbpipe.resolve.dataset_bytes import DatasetBytes
from nbpipe.resolve.dataset_inputs import find_version, reference_in
from nbpipe.run.dataset_archive import keep_labels, keep_version
from nbpipe.run.process_identity import this_user
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.dataset_sources import (
    DatasetSource,
    find_source,
    kept_content,
    reference_content,
    table_content,
)
from nbpipe.workspace.workspace import Workspace

COPY_LIMIT = 10**9
"""Sources of more bytes are referenced unless a copy is asked for."""

# Makes profiles, in a process of its own.
_PROFILER = "nbpipe.workspace.profile_process"

# While a profile is made, it is asked this often whether it is still wanted.
_LOOK_SECONDS = 0.5

Transfer = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class Keeping(Enum):
    """Whether the bytes of a new version are copied; by size if that is not said."""

    BY_SIZE = "by size"
    COPY = "copy"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version with the content that was to be registered; not ``is_new`` if it was there before.

    ``by_size``: its bytes are not copied because they are many.
    """

    version: DatasetVersion
    is_new: bool
    by_size: bool = False


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the files of a table are together: columns, rows, Arrow schema, and the rows that do not fit."""

    columns: tuple[Column, ...]
    rows: int
    schema: str
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class DatasetDetails:
    """A version with its labels and files, the number of the run that made it, and the changes since the one before.

    ``run`` is None if no run made it or it is not recorded any more. ``profile`` is that of a table; if it could not be
    made, ``problem`` says why.
    """

    version: DatasetVersion
    labels: tuple[str, ...]
    members: tuple[DatasetMember, ...]
    run: int | None = None
    profile: TableProfile | None = None
    problem: NbpipeError | None = None
    earlier: DatasetDifference | None = None


@dataclass(frozen=True, slots=True)
class DatasetLineage:
    """What a version was made from and by, and what was made from it.

    ``run`` is the number of the run that made it, None if no run did or it is not recorded any more. ``children`` are
    versions of datasets, ``readers`` steps with the numbers of the runs in which they read it.
    """

    version: DatasetVersion
    run: int | None
    children: tuple[str, ...]
    readers: tuple[tuple[int, str], ...]


def no_transfer(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Tell nobody how far a transfer is."""
    return nullcontext(lambda _count: None)


@dataclass(slots=True)
class Datasets:
    """The datasets of one workspace."""

    context: WorkspaceContext

    @property
    def bytes(self) -> DatasetBytes:
        """Return what reads the versions."""
        found: DatasetBytes = self.context.dataset_bytes(self.context.environ)
        return found

    def newest(self) -> list[tuple[DatasetVersion, tuple[str, ...]]]:
        """Return the newest version of each dataset with the labels of the dataset, each as ``LABEL=NUMBER``."""
        labels = self.context.history.datasets.labels()
        return [
            (version, tuple(f"{label}={number}" for label, number in labels.get(version.name, {}).items()))
            for version in self.context.history.datasets.newest()
        ]

    def find(self, text: str) -> DatasetVersion:
        """Return the version that ``NAME[@VERSION]`` names; raise UnknownDataset if there is none."""
        return self.find_reference(reference_in(text))

    def find_reference(self, reference: DatasetReference) -> DatasetVersion:
        """Return a version; raise UnknownDataset if there is none."""
        return find_version(self.context.history.datasets, reference)

    def details(self, text: str) -> DatasetDetails:
        """Return a version with its labels and files; raise DataGone or DataChanged if the list of these is lost."""
        version = self.find(text)
        labels = self.context.history.datasets.labels(version.name).get(version.name, {})
        mine = tuple(label for label, number in labels.items() if number == version.number)
        found = DatasetDetails(version, mine, self.bytes.members(version), self._run_number(version))
        found = replace(found, earlier=self.earlier(version))
        try:
            return replace(found, profile=self.profile(version))
        except NbpipeError as error:
            return replace(found, problem=error)

    def describe(self, text: str) -> VersionDescription:
        """Return a version with what is known of it; its profile is not made for that."""
        version = self.find(text)
        return VersionDescription(version, self.context.history.datasets.profile(version), self.earlier(version))

    def profile(self, version: DatasetVersion, cancelled: Callable[[], bool] = lambda: False) -> TableProfile | None:
        """Return the profile of a table, made by a process of its own if it has not been; None of what is no table.

        Raise BadData if the table cannot be read, or if it is ``cancelled`` meanwhile.
        """
        known = self.context.history.datasets.profile(version)
        if known is not None or not version.content.recipe.is_tabular:
            return known
        self.bytes.check(version)
        which = (str(self.context.layout.root), version.name, str(version.number))
        code, written, errors = _output_of((sys.executable, "-P", "-m", _PROFILER, *which), cancelled)
        if code != 0:
            lines = errors.decode(errors="replace").strip().splitlines() or [f"its process ended with code {code}"]
            hint = f"Look at the table: nbpipe.Dataset.get({version.name!r}, {version.number}).to_pandas()"
            raise BadData(f"the profile of `{version}` could not be made: {lines[-1].strip()}", hint)
        profile = decode(written, TableProfile)
        described = self.context.history.datasets.describe(version, profile)
        if not self.context.history.is_private:
            keep_version(self.context.layout, described)
        return profile

    def earlier(self, version: DatasetVersion) -> DatasetDifference | None:
        """Return what changed since the version before; None for the first one, and if the files are gone."""
        if version.number == 1:
            return None
        try:
            return self.difference(f"{version.name}@{version.number - 1}", str(version))
        except NbpipeError:
            return None

    def register(
        self,
        name: str,
        source: str,
        base: Path,
        keeping: Keeping = Keeping.BY_SIZE,
        *,
        transfer: Transfer = no_transfer,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> RegisteredVersion:
        """Register the files of a source, relative to ``base``; the same bytes are the same version again."""
        require_name(name)
        found = find_source(self.context, source, base)
        return self.register_files(
            name, found, found.recipe, keeping, transfer=transfer, description=description, tags=tags
        )

    def register_files(
        self,
        name: str,
        source: DatasetSource,
        recipe: DatasetRecipe,
        keeping: Keeping = Keeping.BY_SIZE,
        *,
        transfer: Transfer = no_transfer,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        facts: TableFacts | None = None,
    ) -> RegisteredVersion:
        """Register files as what a recipe says; ``facts`` are those of a table."""
        require_name(name)
        _require_text(description, tags or {})
        by_size = keeping is Keeping.BY_SIZE and source.bytes > COPY_LIMIT
        with self.context.storing():
            if keeping is Keeping.REFERENCE or by_size:
                content = reference_content(self.context, source, recipe)
            else:
                files = self.found(source, recipe)
                with transfer(f"copying {source.name}", source.bytes) as progress:
                    content = kept_content(self.context, source, recipe, files, progress)
            if facts is not None:
                content = replace(
                    content, columns=facts.columns, rows=facts.rows, schema=facts.schema, skipped=facts.skipped
                )
            draft = DatasetDraft(name, content, self._origin((), description, tags))
            return self._registered(draft, by_size=by_size)

    def register_table(
        self,
        name: str,
        table: Any,
        parents: tuple[str, ...] = (),
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        query: DatasetQuery | None = None,
    ) -> RegisteredVersion:
        """Register an Arrow table, stored as such: made from the versions ``parents``, or the result of a query."""
        require_name(name)
        _require_text(description, tags or {})
        with self.context.storing():
            content = table_content(self.context, name, table)
            origin = replace(self._origin(parents, description, tags), query=query)
            done = self._registered(DatasetDraft(name, content, origin))
        if query is None or done.version.origin.query == query:
            return done
        version = self.context.history.datasets.read_again(done.version, query)
        keep_version(self.context.layout, version)
        return replace(done, version=version)

    def result_of(self, name: str, query: DatasetQuery, max_age: float | None) -> DatasetVersion | None:
        """Return the newest version of a dataset if it is what the query would give, which is then not read.

        It is if the query for the version gives the same as before, or if it is not older than ``max_age`` seconds.
        """
        version = self.context.history.datasets.find(DatasetReference(name))
        last = None if version is None else version.origin.query
        if last is None or (last.store, last.query) != (query.store, query.query):
            return None
        is_same = bool(query.version) and (last.version, last.state) == (query.version, query.state)
        is_young = max_age is not None and 0 <= self.context.clock() - last.read <= max_age
        return version if is_same or is_young else None

    def register_again(
        self, name: str, version: DatasetVersion, *, description: str = "", tags: Mapping[str, str] | None = None
    ) -> RegisteredVersion:
        """Register the content of a version, as another dataset or its own."""
        require_name(name)
        _require_text(description, tags or {})
        origin = self._origin((str(version),), description, tags)
        return self._registered(DatasetDraft(name, version.content, origin))

    def found(self, source: DatasetSource, recipe: DatasetRecipe) -> DatasetFiles:
        """Return files that are not registered on this machine; raise DataGone or DataChanged if they have changed."""
        digest = content_of_members(source.members, folder=recipe.is_folder)
        stand_in = ObjectReference("", digest, source.name, source.bytes)
        content = DatasetContent(DatasetKind.REFERENCED, digest, source.bytes, recipe, stand_in)
        unnumbered = DatasetVersion(source.name, 0, content, self._origin((), "", None))
        return self.bytes.fetched(unnumbered, source.members)

    def _origin(self, parents: tuple[str, ...], description: str, tags: Mapping[str, str] | None) -> DatasetOrigin:
        return DatasetOrigin(
            self.context.clock(), this_user(), parents=parents, description=description, tags=tags or {}
        )

    def _registered(self, draft: DatasetDraft, *, by_size: bool = False) -> RegisteredVersion:
        before = {version.number for version in self.context.history.datasets.versions(draft.name)}
        version = self.context.history.datasets.register(draft)
        if version.content.kind is DatasetKind.REFERENCED and draft.content.kind is DatasetKind.KEPT:
            version = self.context.history.datasets.keep(version, draft.content.reference)
        keep_version(self.context.layout, version)
        is_new = version.number not in before
        return RegisteredVersion(version, is_new, by_size and version.content.kind is DatasetKind.REFERENCED)

    def difference(self, first: str, second: str) -> DatasetDifference:
        """Return what the second version has that the first has not, and the reverse."""
        old, new = self.find(first), self.find(second)
        before = {member.path: member for member in self.bytes.members(old)}
        after = {member.path: member for member in self.bytes.members(new)}
        both = [path for path in after if path in before]
        changed = tuple((before[path], after[path]) for path in both if before[path].digest != after[path].digest)
        return DatasetDifference(
            old, new, tuple(after[path] for path in after if path not in before),
            tuple(before[path] for path in before if path not in after), changed, _changed_columns(old, new),
        )  # fmt: skip

    def lineage(self, text: str) -> DatasetLineage:
        """Return what a version was made from and by, and what was made from it."""
        version, history = self.find(text), self.context.history
        children = tuple(str(other) for other in history.datasets.versions() if str(version) in other.origin.parents)
        readers = tuple(history.datasets.readers(version))
        return DatasetLineage(version, self._run_number(version), children, readers)

    def _run_number(self, version: DatasetVersion) -> int | None:
        """Return the number of the run that made a version; None if none did or it is not recorded any more."""
        run = version.origin.run
        return self.context.history.runs.numbers([run]).get(run) if run else None

    def label(self, text: str, label: str) -> DatasetVersion:
        """Give a version a label, which no other version of the dataset has from then on."""
        version = self.find(text)
        if not is_name(label):
            raise BadUsage(f"`{label}` is not a label", NAME_RULE)
        self.context.history.datasets.label(version.name, version.number, label)
        keep_labels(self.context.layout, self.context.history, version.name)
        return version

    def keep(self, text: str, transfer: Transfer = no_transfer) -> DatasetVersion:
        """Store copies of a referenced version's bytes, and return the kept version, under the same number.

        Raise DataGone or DataChanged if the bytes are no longer what was registered.
        """
        version = self.find(text)
        if version.content.kind is DatasetKind.KEPT:
            return version
        recipe = version.content.recipe
        source = DatasetSource(version.basename, recipe.is_folder, self.bytes.members(version))
        files = self.bytes.local(version)
        with self.context.storing():
            with transfer(f"copying {version}", version.content.bytes) as progress:
                content = kept_content(self.context, source, recipe, files, progress)
            kept = self.context.history.datasets.keep(version, content.reference)
        keep_version(self.context.layout, kept)
        return kept

    def local(self, version: DatasetVersion) -> DatasetFiles:
        """Return a version's files on this machine; raise DataGone or DataChanged if they cannot be had."""
        return self.bytes.local(version)


def dataset_names_near(folder: Path) -> tuple[str, ...]:
    """Return the names of the datasets of the workspace for a folder; none if it cannot be read."""
    try:
        with Workspace.read(folder) as workspace:
            return workspace.dataset_names()
    except NbpipeError:
        return ()


def require_name(name: str) -> None:
    """Raise BadUsage if a text cannot be the name of a dataset."""
    if is_name(name):
        return
    bare = name.partition("@")[0]
    hint = "The number of a version is given to it: leave it out." if bare != name and is_name(bare) else NAME_RULE
    raise BadUsage(f"`{name}` is not the name of a dataset", hint)


def _output_of(command: Sequence[str], cancelled: Callable[[], bool]) -> tuple[int, bytes, bytes]:
    """Return the exit code of a command and what it wrote; it is ended once it is ``cancelled``."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while True:
            try:
                written, errors = process.communicate(timeout=_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if cancelled():
                    process.kill()
            else:
                return process.returncode, written, errors


def _require_text(description: str, tags: Mapping[str, str]) -> None:
    texts: tuple[object, ...] = (description, *tags, *tags.values())
    for text in texts:
        if not isinstance(text, str):
            raise BadUsage(f"a description, and the keys and values of tags, are texts, not {text!r:.80}", "Use str().")
    try:
        "".join([description, *tags, *tags.values()]).encode()
    except UnicodeEncodeError:
        raise BadUsage("the description or a tag has characters that cannot be stored", "Write them as text.") from None


def _changed_columns(old: DatasetVersion, new: DatasetVersion) -> dict[str, tuple[str | None, str | None]]:
    """Return the columns whose types differ: None is that of a column that is not there."""
    if old.content.columns is None or new.content.columns is None:
        return {}
    before = {column.name: column.type for column in old.content.columns}
    after = {column.name: column.type for column in new.content.columns}
    names = dict.fromkeys([*before, *after])
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
