"""How the options of `datasets register` say that files, or a query, are a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbpipe.errors import BadUsage
from nbpipe.model.datasets import DatasetRecipe, RecipeKind
from nbpipe.verbs import options
from nbpipe.verbs.syntax import Invocation, Option
from nbpipe.workspace.table_registration import QuerySource, delimited, json_lines, parquet

_TEXT: Mapping[str, Option[Any]] = {
    "types": options.COLUMN_TYPE,
    "encoding": options.ENCODING,
    "partitions": options.PARTITIONS,
    "multi_line": options.MULTI_LINE,
}
_NOTHING: Mapping[str, Option[Any]] = {}
_DELIMITED: Mapping[str, Option[Any]] = {
    **_TEXT,
    "delimiter": options.DELIMITER,
    "header": options.NO_HEADER,
    "on_error": options.ON_ERROR,
}

# What files are read as: the function that says how, and its arguments with the options that give them.
_KINDS: Mapping[RecipeKind, tuple[Callable[..., DatasetRecipe], Mapping[str, Option[Any]]]] = {
    RecipeKind.DELIMITED: (delimited, _DELIMITED),
    RecipeKind.PARQUET: (parquet, {"partitions": options.PARTITIONS}),
    RecipeKind.JSON_LINES: (json_lines, _TEXT),
}


def table_reading(invocation: Invocation) -> DatasetRecipe | QuerySource | None:
    """Return how files are read as a table, or the query that gives one; None for files as they are.

    Raise BadUsage for an option that says nothing about it.
    """
    kind, query = invocation[options.TABLE_KIND], invocation[options.QUERY]
    call, arguments = _KINDS[kind] if kind is not None else (None, _NOTHING)
    for option in _DELIMITED.values():
        if invocation[option] and option not in arguments.values():
            _refuse(option, kind)
    for option in (options.QUERY_VERSION, options.MAX_AGE):
        if invocation[option] and not query:
            raise BadUsage(f"`{option.name}` is about a query", "Give one: --query SQL")
    if query:
        source = invocation[options.SOURCE]
        return QuerySource.of(source, query, invocation[options.QUERY_VERSION], invocation[options.MAX_AGE])
    given = {name: invocation[option] for name, option in arguments.items() if invocation[option]}
    if "header" in given:
        given["header"] = False
    return None if call is None else call(**given)


def _refuse(option: Option[Any], kind: RecipeKind | None) -> None:
    fitting = [each.value for each, (_, arguments) in _KINDS.items() if option in arguments.values()]
    what = "files that are read as a table" if kind is None else f"files that are read as {' or '.join(fitting)}"
    raise BadUsage(f"`{option.name}` is about {what}", f"Say so: --as {fitting[0]}")
