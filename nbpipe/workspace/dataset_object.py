"""``nbpipe.Dataset``: data to be registered, and versions to be read, in a notebook's own kernel or a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nbpipe.data import dataset_tables, formats
from nbpipe.data.dataset_edits import FilterRows, RowsBetween, SampleRows, SelectColumns, TableEdit, edited
from nbpipe.data.dataset_profiles import profile_of
from nbpipe.data.value_types import library
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadUsage
from nbpipe.model.datasets import (
    DatasetDifference,
    DatasetFiles,
    DatasetRecipe,
    DatasetVersion,
    RecipeKind,
    TableProfile,
)
from nbpipe.resolve.dataset_inputs import reference_in
from nbpipe.workspace import table_registration
from nbpipe.workspace.dataset_sources import DatasetSource, find_source
from nbpipe.workspace.datasets import Datasets, Keeping
from nbpipe.workspace.table_registration import QuerySource, facts_of, register_query
from nbpipe.workspace.workspace import Workspace

# Loaded by its name: few call it.
_DASK = "nbpipe.compute.dask_frames:frame_of"


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """Files as data: found but not registered yet, or a version of a dataset; ``edits`` are applied when it is read.

    It never changes: methods such as :meth:`filter` return another one. ``root`` is the folder of its workspace.
    """

    recipe: DatasetRecipe
    source: DatasetSource | None = None
    version: DatasetVersion | None = None
    edits: tuple[TableEdit, ...] = ()
    root: Path | None = None
    query: QuerySource | None = None

    def __repr__(self) -> str:
        name = str(self.version) if self.version else self.source.name if self.source else ""
        edits = f", {len(self.edits)} edit{'' if len(self.edits) == 1 else 's'}" if self.edits else ""
        return f"<Dataset {name}, {self.recipe.format or self.recipe.kind.value}{edits}>"

    @classmethod
    def from_files(cls, source: str) -> Dataset:
        """Return a file, folder or glob, here or in a datastore (``store:NAME/path``), as files."""
        found, root = _found(source)
        return cls(found.recipe, found, root=root)

    @classmethod
    def from_delimited_files(
        cls,
        source: str,
        *,
        types: Mapping[str, str] | None = None,
        delimiter: str = ",",
        header: bool = True,
        encoding: str = "utf-8",
        partitions: str = "",
        multi_line: bool = False,
        on_error: str = "fail",
    ) -> Dataset:
        """Return delimited text files as one table; ``types`` and ``partitions`` name Arrow types."""
        recipe = table_registration.delimited(
            types=types, delimiter=delimiter, header=header, encoding=encoding, partitions=partitions,
            multi_line=multi_line, on_error=on_error,
        )  # fmt: skip
        return cls._of_table(source, recipe)

    @classmethod
    def from_parquet(cls, source: str, *, partitions: str = "") -> Dataset:
        """Return Parquet files as one table."""
        return cls._of_table(source, table_registration.parquet(partitions=partitions))

    @classmethod
    def from_json_lines(
        cls,
        source: str,
        *,
        types: Mapping[str, str] | None = None,
        encoding: str = "utf-8",
        partitions: str = "",
        multi_line: bool = False,
    ) -> Dataset:
        """Return files with one JSON object in each line as one table."""
        recipe = table_registration.json_lines(
            types=types, encoding=encoding, partitions=partitions, multi_line=multi_line
        )
        return cls._of_table(source, recipe)

    @classmethod
    def from_query(cls, store: str, query: str, *, version: str = "", max_age: str = "") -> Dataset:
        """Return the result of a query of a database as a table; registered, it is kept.

        ``version`` is a query for one value: while that is the same, a registered result is not read again. Nor is one
        that is not older than ``max_age``, such as ``6h``.
        """
        with _datasets() as datasets:
            source = QuerySource.of(store, query, version, max_age)
            return cls(DatasetRecipe(RecipeKind.ARROW), root=datasets.context.layout.root, query=source)

    @classmethod
    def get(cls, name: str, version: int | str | None = None) -> Dataset:
        """Return a version by its number or its label; the newest one without either."""
        reference = reference_in(name if version is None else f"{name}@{version}")
        with _datasets() as datasets:
            found = datasets.find_reference(reference)
            return cls(found.content.recipe, version=found, root=datasets.context.layout.root)

    @classmethod
    def _of_table(cls, source: str, recipe: DatasetRecipe) -> Dataset:
        found, root = _found(source)
        return cls(recipe, replace(found, is_folder=True), root=root)

    def register(self, name: str, *, description: str = "", tags: Mapping[str, str] | None = None) -> Dataset:
        """Return the version that this is registered as: the same bytes, read in the same way, are the same one.

        An edited table is stored as Arrow.
        """
        with _datasets(self.root) as datasets:
            if self.query is not None:
                done = register_query(datasets, name, self.query, self.edits, description=description, tags=tags)
            elif self.edits:
                parents = (str(self.version),) if self.version else ()
                done = datasets.register_table(name, self.to_arrow(), parents, description=description, tags=tags)
            elif self.source is not None:
                done = datasets.register_files(
                    name, self.source, self.recipe, Keeping.BY_SIZE, description=description, tags=tags,
                    facts=facts_of(datasets, self.source, self.recipe) if self.recipe.is_table else None,
                )  # fmt: skip
            else:
                done = datasets.register_again(name, self.registered(), description=description, tags=tags)
        return Dataset(done.version.content.recipe, version=done.version, root=self.root)

    def path(self) -> Path:
        """Return the file or folder with the registered bytes, to be read only; edited rows have none."""
        if self.edits:
            raise BadUsage("an edited table has no file of its own", "Register it first: .register(NAME)")
        return self._files().path

    def load(self) -> Any:
        """Return what a step receives: a path, a DataFrame, or the value that a step registered."""
        if self.recipe.is_table or self.edits:
            return self.to_pandas()
        if self.recipe.kind is RecipeKind.VALUE:
            return formats.load_here(self.path(), self.recipe.format, f"the dataset {self.registered()}")
        return self.path()

    def to_arrow(self) -> Any:
        """Return the table as an Arrow table."""
        if self.query is not None:
            with _datasets(self.root) as datasets:
                return self.query.table(datasets, self.edits)
        tables = list(self._tables(self._files()))
        return library("pyarrow").concat_tables(tables) if len(tables) > 1 else tables[0]

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return the table as a polars DataFrame."""
        return library("polars").from_arrow(self.to_arrow())

    def to_dask(self) -> Any:
        """Return the table as a Dask DataFrame, a partition for each file."""
        loaders = list(self._loaders(self._files()))
        empty = loaders[0]().slice(0, 0).to_pandas()
        return load_entry_point(_DASK)(partial(_partition, tuple(loaders)), len(loaders), empty)

    def head(self, rows: int = 5) -> Any:
        """Return the first rows as a pandas DataFrame; no more files are read than they are in."""
        if self.query is not None:
            return self.to_arrow().slice(0, rows).to_pandas()
        found: list[Any] = []
        for table in self._tables(self._files()):
            found.append(table.slice(0, rows - sum(each.num_rows for each in found)))
            if sum(each.num_rows for each in found) >= rows:
                break
        return library("pyarrow").concat_tables(found).to_pandas()

    def profile(self) -> TableProfile:
        """Return what the columns are like; of more than a million rows about that many are looked at."""
        files = self._files()
        names = [name for name, _ in files.files]
        rows = sum(table.num_rows for table in self._tables(files))
        return profile_of(zip(names, self._tables(files), strict=True), rows)

    def filter(self, expression: Any = None, /, **equal: Any) -> Dataset:
        """Return the rows for which an Arrow expression holds, and whose columns have these values."""
        return self._edited(FilterRows(expression, equal))

    def keep(self, *columns: str) -> Dataset:
        """Return the table with these columns only."""
        return self._edited(SelectColumns(columns, drops=False))

    def drop(self, *columns: str) -> Dataset:
        """Return the table without these columns."""
        return self._edited(SelectColumns(columns, drops=True))

    def between(self, column: str, start: Any = None, end: Any = None) -> Dataset:
        """Return the rows whose column is between two values, both included; None leaves that side open."""
        return self._edited(RowsBetween(column, start, end))

    def sample(self, share: float, seed: int = 0) -> Dataset:
        """Return about this share of the rows; the same ones again when files are added."""
        return self.split(share, seed)[0]

    def split(self, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return about this share of the rows, and the others; no row changes sides when files are added."""
        if not 0 < share < 1:
            raise BadUsage(f"{share} is no share of the rows", "It is between 0 and 1, for example 0.8.")
        first, rest = SampleRows(share, seed), SampleRows(share, seed, rest=True)
        return self._edited(first), self._edited(rest)

    def diff(self, other: Dataset | int | str) -> DatasetDifference:
        """Return what this version has that another one, or the one of a number or label, has not, and the reverse."""
        mine = self.registered()
        theirs = other if isinstance(other, Dataset) else Dataset.get(mine.name, other)
        with _datasets(self.root) as datasets:
            return datasets.difference(str(theirs.registered()), str(mine))

    def _edited(self, edit: TableEdit) -> Dataset:
        self._require_table()
        return replace(self, edits=(*self.edits, edit))

    def _require_table(self) -> None:
        if not self.recipe.is_tabular:
            what = self.recipe.format or self.recipe.kind.value
            raise BadUsage(f"the dataset is no table: it is stored as {what}", "Read it with load() or path().")

    def registered(self) -> DatasetVersion:
        """Return the version that this is; raise BadUsage if it is not registered."""
        if self.version is None or self.edits:
            raise BadUsage("the dataset is not registered", "Register it first: .register(NAME)")
        return self.version

    def _files(self) -> DatasetFiles:
        with _datasets(self.root) as datasets:
            return datasets.local(self.version) if self.version else datasets.found(self._source(), self.recipe)

    def _source(self) -> DatasetSource:
        if self.source is None:
            raise BadUsage("the dataset has no files", "Make it with Dataset.from_files(SOURCE).")
        return self.source

    def _tables(self, files: DatasetFiles) -> Iterator[Any]:
        return (load() for load in self._loaders(files))

    def _loaders(self, files: DatasetFiles) -> Iterator[Callable[[], Any]]:
        """Yield a function for each file that returns its edited rows as an Arrow table."""
        self._require_table()
        if self.recipe.kind is RecipeKind.VALUE:
            yield partial(_edited_value, files.path, self.recipe.format, self.edits)
            return
        text = self.version.content.schema if self.version else ""
        schema = dataset_tables.schema_from_text(text) if text else dataset_tables.scan(files.files, self.recipe).schema
        for name, path in files.files:
            yield partial(_edited_file, name, path, self.recipe, schema, self.edits)


def _edited_file(name: str, path: Path, recipe: DatasetRecipe, schema: Any, edits_: tuple[TableEdit, ...]) -> Any:
    return edited(dataset_tables.read_file(name, path, recipe, schema), name, edits_)


def _edited_value(path: Path, format: str, edits_: tuple[TableEdit, ...]) -> Any:
    pyarrow = library("pyarrow")
    if format == "arrow":
        table = library("pyarrow.ipc").open_file(pyarrow.memory_map(str(path))).read_all()
    elif format == "parquet":
        table = library("pyarrow.parquet").read_table(str(path))
    else:
        table = pyarrow.Table.from_pandas(formats.load(path, format), preserve_index=False)
    return edited(table, "", edits_)


def _partition(loaders: tuple[Callable[[], Any], ...], index: int) -> Any:
    return loaders[index]().to_pandas()


def _found(source: str) -> tuple[DatasetSource, Path]:
    with _datasets() as datasets:
        return find_source(datasets.context, source, Path.cwd()), datasets.context.layout.root


@contextmanager
def _datasets(root: Path | None = None) -> Iterator[Datasets]:
    """Yield the datasets of the workspace in this folder, by default that of the current folder."""
    with Workspace.open(None if root is None else root.parent, root) as workspace:
        yield Datasets(workspace.context)
