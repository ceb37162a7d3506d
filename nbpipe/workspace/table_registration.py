"""Tables as datasets: files that are read as one table, and the results of queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from nbpipe.data import dataset_tables
from nbpipe.data.dataset_edits import TableEdit, edited
from nbpipe.data.partition_patterns import PartitionPattern, arrow_type
from nbpipe.data.stores.opening import DATABASES
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadData, BadDirective, BadUsage
from nbpipe.language.option_values import duration
from nbpipe.language.source_text import line_span, nearest
from nbpipe.model.datasets import Column, DatasetQuery, DatasetRecipe, OnError, RecipeKind
from nbpipe.workspace.dataset_sources import DatasetSource
from nbpipe.workspace.datasets import (
    Datasets,
    Keeping,
    RegisteredVersion,
    TableFacts,
    Transfer,
    no_transfer,
    require_name,
)

# Loaded by their names: few call them.
_READ_TABLE = "nbpipe.data.database_queries:read_table"
_READ_VALUE = "nbpipe.data.database_queries:read_value"

_STORE = "store:"


@dataclass(frozen=True, slots=True)
class QuerySource:
    """A query of a database, read again unless ``version`` or ``max_age`` seconds say that its result is known."""

    store: str
    query: str
    version: str = ""
    max_age: float | None = None

    @classmethod
    def of(cls, store: str, query: str, version: str = "", max_age: str = "") -> QuerySource:
        """Return a query of a datastore, as ``NAME`` or ``store:NAME``; ``max_age`` is a time such as ``6h``."""
        try:
            age = duration(line_span(max_age, 0, 0)) if max_age else None
        except BadDirective as error:
            raise BadUsage(error.message, error.hint) from None
        return cls(store.removeprefix(_STORE).rstrip("/"), query, version, age)

    def now(self, datasets: Datasets) -> DatasetQuery:
        """Return the query as it is read now."""
        state = self._ask(datasets, _READ_VALUE, self.version) if self.version else ""
        return DatasetQuery(self.store, self.query, self.version, state, datasets.context.clock())

    def table(self, datasets: Datasets, edits: tuple[TableEdit, ...] = ()) -> Any:
        """Return the edited result as an Arrow table."""
        return edited(self._ask(datasets, _READ_TABLE, self.query), "", edits)

    def _ask(self, datasets: Datasets, call: str, query: str) -> Any:
        configuration = datasets.bytes.datastores().configuration(self.store)
        if urlsplit(configuration.url).scheme not in DATABASES:
            hint = f"Read its files: Dataset.from_files('store:{self.store}/…')"
            raise BadUsage(f"the datastore `{self.store}` is no database", hint)
        return load_entry_point(call)(configuration, datasets.context.environ, query)


def delimited(
    *,
    types: Mapping[str, str] | None = None,
    delimiter: str = ",",
    header: bool = True,
    encoding: str = "utf-8",
    partitions: str = "",
    multi_line: bool = False,
    on_error: str = OnError.FAIL.value,
) -> DatasetRecipe:
    """Return how delimited text files are read as a table; raise BadUsage or BadData for what there is not."""
    if len(delimiter) != 1:
        raise BadUsage(f"{delimiter!r} is not a delimiter", "It is one character, for example ';'.")
    choices = [choice.value for choice in OnError]
    if on_error not in choices:
        raise BadUsage(f"`on_error` is {on_error!r}", nearest(on_error, choices) or f"It is {' or '.join(choices)}.")
    recipe = DatasetRecipe(
        RecipeKind.DELIMITED, delimiter=delimiter, header=header, encoding=encoding, types=types or {},
        partitions=partitions, multi_line=multi_line, on_error=OnError(on_error),
    )  # fmt: skip
    return _checked(recipe)


def parquet(*, partitions: str = "") -> DatasetRecipe:
    """Return how Parquet files are read as a table; raise BadData for a wrong pattern."""
    return _checked(DatasetRecipe(RecipeKind.PARQUET, partitions=partitions))


def json_lines(
    *,
    types: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    partitions: str = "",
    multi_line: bool = False,
) -> DatasetRecipe:
    """Return how files of JSON objects are read as a table; raise BadUsage or BadData for what there is not."""
    recipe = DatasetRecipe(
        RecipeKind.JSON_LINES, encoding=encoding, types=types or {}, partitions=partitions, multi_line=multi_line
    )
    return _checked(recipe)


def facts_of(datasets: Datasets, source: DatasetSource, recipe: DatasetRecipe) -> TableFacts:
    """Read all files of a table, and return what they are together; raise BadData, naming the file, if one is not."""
    try:
        scanned = dataset_tables.scan(datasets.found(source, recipe).files, recipe)
    except BadData as error:
        raise BadData(f"{error.message} (in {source.place})", error.hint) from error
    columns = tuple(Column(field.name, str(field.type)) for field in scanned.schema)
    return TableFacts(columns, scanned.rows, dataset_tables.schema_to_text(scanned.schema), scanned.skipped)


def register_table_files(
    datasets: Datasets,
    name: str,
    source: DatasetSource,
    recipe: DatasetRecipe,
    keeping: Keeping = Keeping.BY_SIZE,
    *,
    transfer: Transfer = no_transfer,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """Register files as one table, once all of them have been read."""
    require_name(name)
    found = replace(source, is_folder=True)
    return datasets.register_files(
        name, found, recipe, keeping, transfer=transfer, description=description, tags=tags,
        facts=facts_of(datasets, found, recipe),
    )  # fmt: skip


def register_query(
    datasets: Datasets,
    name: str,
    source: QuerySource,
    edits: tuple[TableEdit, ...] = (),
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """Return the version with a query's edited result, which is read only if it is not known."""
    require_name(name)
    text = source.query + "".join(f"\n-- {edit!r}" for edit in edits)
    asked = replace(source.now(datasets), query=text)
    version = datasets.result_of(name, asked, source.max_age)
    if version is not None:
        return RegisteredVersion(version, is_new=False)
    table = source.table(datasets, edits)
    return datasets.register_table(name, table, description=description, tags=tags, query=asked)


def _checked(recipe: DatasetRecipe) -> DatasetRecipe:
    try:
        # Some codecs are not of text.
        "".encode(recipe.encoding)
    except LookupError:
        raise BadUsage(f"there is no encoding `{recipe.encoding}`", "For example: utf-8, latin-1, utf-16") from None
    PartitionPattern.of(recipe.partitions)
    for type_ in recipe.types.values():
        arrow_type(type_)
    return recipe
