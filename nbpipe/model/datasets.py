"""Datasets: named, numbered versions of data, and how each is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from nbpipe.model.content import Artifact, ObjectReference

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

NAME_RULE = (
    "A name begins with a letter or `_`, goes on with letters, digits, `_`, `-` and `.`, and has at most 100 of them."
)


MANIFEST_SUFFIX = ".members"
"""The name of a stored list of files ends like this, after the name that readers of the files see."""


class DatasetKind(StrEnum):
    """Where the bytes of a version are."""

    KEPT = "kept"
    """nbpipe stores them"""
    REFERENCED = "referenced"
    """they stay where they are, and are compared with what was registered whenever they are read"""


class RecipeKind(StrEnum):
    """What the readers of a version receive."""

    FILE = "file"
    FOLDER = "dir"
    VALUE = "value"
    """a step's output, in the format that it was stored in"""
    DELIMITED = "delimited"
    PARQUET = "parquet"
    JSON_LINES = "json-lines"
    ARROW = "arrow"
    """a table that nbpipe has stored: of an edited dataset, or of a query"""


TABLE_KINDS = (RecipeKind.DELIMITED, RecipeKind.PARQUET, RecipeKind.JSON_LINES)
"""What somebody's files can be read as, together as one table."""


class OnError(StrEnum):
    """What becomes of rows that do not fit a table."""

    FAIL = "fail"
    COUNT = "count"
    """they are left out and counted"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its type is an Arrow type, as Arrow spells it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What the values of a column are: None and empty where that cannot be said of its type.

    ``quantiles`` are those at a quarter, a half and three quarters. ``frequent`` are values that occur more than once,
    with their numbers, the most frequent first.
    """

    name: str
    type: str
    nulls: int
    lowest: str | int | float | bool | None = None
    highest: str | int | float | bool | None = None
    quantiles: tuple[float, ...] = ()
    distinct: int | None = None
    frequent: tuple[tuple[str | int | float | bool | None, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TableProfile:
    """What the columns of a table are like, seen in ``sampled`` of its rows."""

    rows: int
    sampled: int
    columns: tuple[ColumnProfile, ...]


@dataclass(frozen=True, slots=True)
class DatasetRecipe:
    """How a version is read: two versions with the same bytes and the same recipe are the same.

    ``format`` is that of a value. The rest is about tables in files: ``types`` maps columns to their types, and
    ``partitions`` is a pattern for the folders of the files, such as ``{day:date}/``. ``multi_line``: a quoted text may
    hold line breaks.
    """

    kind: RecipeKind
    format: str = ""
    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"
    types: Mapping[str, str] = field(default_factory=dict)
    partitions: str = ""
    multi_line: bool = False
    on_error: OnError = OnError.FAIL

    @property
    def is_table(self) -> bool:
        """Return whether files are read as one table."""
        return self.kind not in (RecipeKind.FILE, RecipeKind.FOLDER, RecipeKind.VALUE)

    @property
    def is_tabular(self) -> bool:
        """Return whether the content is a table, in files or as a step stored it."""
        return self.is_table or (self.kind is RecipeKind.VALUE and self.format in ("arrow", "parquet", "csv"))

    @property
    def is_folder(self) -> bool:
        """Return whether the content is a folder, as that of a table is, even with one file."""
        return self.is_table or self.kind is RecipeKind.FOLDER


@dataclass(frozen=True, slots=True)
class DatasetMember:
    """A file of a version: where it is, its path in the version, and what its store said about it.

    ``etag`` and ``version`` are empty for local files.
    """

    uri: str
    path: str
    size: int
    digest: str
    etag: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class DatasetContent:
    """The content of a version: ``digest`` and ``bytes`` are those of its files, wherever they are.

    ``reference`` names the stored data of a kept version, and the list of the files of a referenced one. ``columns``
    and ``rows`` are those of a table; None if they are unknown. ``schema`` is the Arrow schema of all files, as text.
    ``skipped`` counts the rows of the files that do not fit the table and are not in it.
    """

    kind: DatasetKind
    digest: str
    bytes: int
    recipe: DatasetRecipe
    reference: ObjectReference
    columns: tuple[Column, ...] | None = None
    rows: int | None = None
    schema: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """The query of a database that a version is the result of, read at a time in seconds since the epoch.

    ``state`` is what the query ``version`` gave then: while it gives the same, the result is the same.
    """

    store: str
    query: str
    version: str = ""
    state: str = ""
    read: float = 0.0


@dataclass(frozen=True, slots=True)
class DatasetOrigin:
    """Where a version is from; ``created`` is in seconds since the epoch.

    ``run``, ``step`` and ``output`` are empty for one that no step made. ``parents`` are the versions that it was made
    from, each as ``NAME@NUMBER``.
    """

    created: float
    owner: str = ""
    run: str = ""
    step: str = ""
    output: str = ""
    parents: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    query: DatasetQuery | None = None


@dataclass(frozen=True, slots=True)
class DatasetDraft:
    """What is to become a version, unless the newest or an earlier one has the same content and recipe."""

    name: str
    content: DatasetContent
    origin: DatasetOrigin


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """A version of a dataset; versions are numbered from 1."""

    name: str
    number: int
    content: DatasetContent
    origin: DatasetOrigin

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def basename(self) -> str:
        """Return the name of the file or folder that readers see."""
        return self.content.reference.basename.removesuffix(MANIFEST_SUFFIX)

    @property
    def stored(self) -> Artifact:
        """Return what nbpipe stores of the version: its data, or of a referenced version the list of its files."""
        content, recipe = self.content, self.content.recipe
        if content.kind is DatasetKind.REFERENCED:
            return Artifact(self.name, "file", content.reference)
        format_ = recipe.format if recipe.kind is RecipeKind.VALUE else "dir" if recipe.is_folder else "file"
        return Artifact(self.name, format_, content.reference)


@dataclass(frozen=True, slots=True)
class DatasetDifference:
    """What a version has beside another one, and what is different: files with their sizes, and columns with types."""

    first: DatasetVersion
    second: DatasetVersion
    added: tuple[DatasetMember, ...] = ()
    removed: tuple[DatasetMember, ...] = ()
    changed: tuple[tuple[DatasetMember, DatasetMember], ...] = ()
    columns: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def files(self) -> list[tuple[str, DatasetMember | None, DatasetMember | None]]:
        """Return the files that differ by path: as they were and as they are, None where there is none."""
        found: list[tuple[str, DatasetMember | None, DatasetMember | None]] = []
        found += [(member.path, None, member) for member in self.added]
        found += [(member.path, member, None) for member in self.removed]
        return sorted([*found, *((now.path, was, now) for was, now in self.changed)], key=lambda each: each[0])


@dataclass(frozen=True, slots=True)
class VersionDescription:
    """A version with what is known of it: the profile of a table, and the changes since the version before."""

    version: DatasetVersion
    profile: TableProfile | None = None
    earlier: DatasetDifference | None = None

    @property
    def is_awaited(self) -> bool:
        """Return whether the profile is still to be made."""
        return self.profile is None and self.version.content.recipe.is_tabular


@dataclass(frozen=True, slots=True)
class PinnedDataset:
    """The version that an input is bound to; ``basename`` is the name that its readers see."""

    version: DatasetVersion
    basename: str


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of a version on this machine, by their paths in it; ``path`` is the file or folder that readers see."""

    path: Path
    files: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """A dataset as it is asked for: by number, by label, or, with neither, its newest version."""

    name: str
    number: int | None = None
    label: str = ""

    def __str__(self) -> str:
        selector = self.label or self.number
        return f"{self.name}@{selector}" if selector else self.name


def is_name(text: str) -> bool:
    """Return whether a text may be the name of a dataset or a label."""
    return _NAME.fullmatch(text) is not None


def parse_reference(text: str) -> DatasetReference:
    """Return what ``NAME``, ``NAME@NUMBER`` or ``NAME@LABEL`` asks for; raise ValueError that says what is wrong."""
    name, at, selector = text.partition("@")
    if not is_name(name):
        raise ValueError(f"`{name}` is not the name of a dataset")
    if not at:
        return DatasetReference(name)
    if _NUMBER.fullmatch(selector):
        return DatasetReference(name, int(selector))
    if not is_name(selector):
        raise ValueError(f"`{selector}` is neither the number of a version nor a label")
    return DatasetReference(name, label=selector)
