"""Versions of datasets as tables: plain lines no wider than the terminal, and JSON objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbpipe.errors import NbpipeError
from nbpipe.model.datasets import (
    ColumnProfile,
    DatasetDifference,
    DatasetKind,
    DatasetMember,
    DatasetQuery,
    DatasetRecipe,
    DatasetVersion,
    TableProfile,
)
from nbpipe.views.terminal_text import fit, one_line
from nbpipe.views.text_tables import Row, lines
from nbpipe.views.wording import duration, size

_LIST_HEADER: Row = ("dataset", "kind", "content", "size", "rows", "labels", "registered")
_SHOWN_FILES = 20

NO_DATASETS = (
    "no datasets: register files with `nbpipe datasets register NAME SOURCE`, or a step's output with a line "
    "`#| register: OUTPUT=NAME`"
)


def list_lines(datasets: Sequence[tuple[DatasetVersion, Sequence[str]]], columns: int, now: float) -> list[str]:
    """Return the newest versions of datasets with their labels as plain lines; ``now`` is a time since the epoch."""
    rows = [
        (
            str(version), version.content.kind.value, _recipe_words(version.content.recipe),
            size(version.content.bytes), _rows(version), one_line(", ".join(labels)), _age(version, now),
        )
        for version, labels in datasets
    ]  # fmt: skip
    return lines(_LIST_HEADER, rows, columns) if rows else [NO_DATASETS]


def version_lines(
    version: DatasetVersion,
    labels: Sequence[str],
    members: Sequence[DatasetMember],
    columns: int,
    now: float,
    *,
    run: int | None = None,
    profile: TableProfile | None = None,
    problem: NbpipeError | None = None,
    earlier: DatasetDifference | None = None,
) -> list[str]:
    """Return a version with its labels, files and profile as plain lines; ``now`` is in seconds since the epoch.

    ``run`` is the number of the run that made it, ``problem`` the reason why there is no profile, and ``earlier`` what
    changed since the version before.
    """
    content, origin = version.content, version.origin
    found = [headline(version)]
    found += [f"  {line}" for line in origin.description.splitlines()]
    found.append(f"  registered {_age(version, now)} {_maker(version, run)}")
    found += [f"  query of {origin.query.store}: {origin.query.query}"] if origin.query else []
    found += [f"  made from {', '.join(origin.parents)}"] if origin.parents else []
    found += [f"  labels: {', '.join(labels)}"] if labels else []
    found += [f"  {key} = {value}" for key, value in origin.tags.items()]
    found.append(f"  digest {content.digest}")
    found += _column_lines(version, profile)
    found += [f"  {line}" for line in str(problem).splitlines()] if problem is not None else []
    found += [f"  {line}" for line in difference_lines(earlier, columns)] if earlier is not None else []
    found += [f"  {_file_words(version, member)}" for member in members[:_SHOWN_FILES]]
    more = len(members) - _SHOWN_FILES
    found += [f"  and {more} more file{'' if more == 1 else 's'}"] if more > 0 else []
    return [_fitted(line, columns) for line in found]


def headline(version: DatasetVersion) -> str:
    """Return a version in a line: where its bytes are, how they are read, their size, and the rows of a table."""
    content = version.content
    facts = [content.kind.value, _recipe_words(content.recipe), size(content.bytes), _rows_words(version)]
    return f"{version}: {', '.join(filter(None, facts))}"


def _column_lines(version: DatasetVersion, profile: TableProfile | None) -> list[str]:
    """Return a line for each column, with its profile if there is one."""
    if profile is None:
        return [f"  column {column.name}: {column.type}" for column in version.content.columns or ()]
    rows = f"  {_count(profile.rows)}{sampled_words(profile)}"
    return [rows, *(f"  {column_words(column)}" for column in profile.columns)]


def sampled_words(profile: TableProfile) -> str:
    """Return how many rows a profile was seen in, in words; empty if it was all."""
    return f", seen in {profile.sampled:,} of them" if profile.sampled < profile.rows else ""


def column_words(column: ColumnProfile) -> str:
    """Return the profile of a column in a line."""
    facts = [column.type]
    facts += [f"{column.nulls:,} missing"] if column.nulls else []
    facts += [f"{column.lowest} … {column.highest}"] if column.lowest is not None else []
    facts += [f"quartiles {', '.join(f'{value:.4g}' for value in column.quantiles)}"] if column.quantiles else []
    facts += [f"{column.distinct:,} distinct"] if column.distinct is not None else []
    frequent = ", ".join(f"{value} ({count:,})" for value, count in column.frequent[:3])
    facts += [f"most often {frequent}"] if frequent else []
    return f"column {column.name}: {', '.join(facts)}"


def profile_object(profile: TableProfile) -> dict[str, Any]:
    """Return a profile as a JSON object."""
    return {
        "rows": profile.rows,
        "sampled": profile.sampled,
        "columns": [
            {
                "name": column.name, "type": column.type, "nulls": column.nulls, "min": column.lowest,
                "max": column.highest, "quantiles": list(column.quantiles), "distinct": column.distinct,
                "top": [{"value": value, "count": count} for value, count in column.frequent],
            }
            for column in profile.columns
        ],
    }  # fmt: skip


def registered_line(version: DatasetVersion, *, is_new: bool, by_size: bool) -> str:
    """Return what was registered, in one line."""
    content = version.content
    what = f"{content.kind.value}, {size(content.bytes)}" if is_new else "the same bytes were registered before"
    what = ", ".join(filter(None, [what, _rows_words(version)]))
    cure = f"; more than 1 GB is not copied: keep a copy with `nbpipe datasets pin {version}`" if by_size else ""
    return f"{version} ({what}){cure}"


def difference_lines(difference: DatasetDifference, columns: int) -> list[str]:
    """Return the files and columns in which two versions differ as plain lines."""
    found = [_difference_words(path, before, after) for path, before, after in difference.files]
    found += [f"column {name}: {was or 'none'} → {now or 'none'}" for name, (was, now) in difference.columns.items()]
    was, now = difference.first.content.rows, difference.second.content.rows
    if was is not None and now is not None and was != now:
        found.append(f"rows: {was:,} → {now:,}")
    head = f"{difference.first} → {difference.second}"
    return [fit(one_line(line), columns) for line in ([head, *found] if found else [f"{head}: the same files"])]


def queries_in_words(queries: Mapping[str, DatasetQuery], now: float) -> dict[str, str]:
    """Return of which query each version is the result, and how old that is, in words."""
    return {
        version: f"query of {query.store}, read {duration(round(max(now - query.read, 0.0)))} ago"
        for version, query in queries.items()
    }


def difference_object(difference: DatasetDifference) -> dict[str, Any]:
    """Return the difference between two versions as a JSON object."""
    return {
        "first": str(difference.first),
        "second": str(difference.second),
        "added": [member_object(each) for each in difference.added],
        "removed": [member_object(each) for each in difference.removed],
        "changed": [
            {"path": now.path, "was": member_object(was), "now": member_object(now)} for was, now in difference.changed
        ],
        "columns": {name: {"was": was, "now": now} for name, (was, now) in difference.columns.items()},
        "rows": {"was": difference.first.content.rows, "now": difference.second.content.rows},
    }


def lineage_lines(
    version: DatasetVersion, run: int | None, children: Sequence[str], readers: Sequence[tuple[int, str]]
) -> list[str]:
    """Return what a version was made from and by, and what from it, as plain lines."""
    found = [str(version), f"  {'made' if version.origin.step else 'registered'} {_maker(version, run)}"]
    found += [f"  from {parent}" for parent in version.origin.parents]
    found += [f"  read by step {step} in run {number}" for number, step in readers]
    found += [f"  became {child}" for child in children]
    return [_indented(line) for line in found]


def _maker(version: DatasetVersion, run: int | None) -> str:
    """Return who made a version, in words; ``run`` is the number of the run, None if it is not recorded any more."""
    origin = version.origin
    if not origin.step:
        return f"by {origin.owner}"
    made_in = f"run {run}" if run is not None else f"run {origin.run}, which is not recorded any more"
    return f"by step {origin.step} in {made_in}, output {origin.output}"


def version_object(version: DatasetVersion, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Return a version as a JSON object."""
    content, origin = version.content, version.origin
    columns = None if content.columns is None else [{"name": each.name, "type": each.type} for each in content.columns]
    return {
        "dataset": str(version), "name": version.name, "version": version.number, "kind": content.kind.value,
        "digest": content.digest, "bytes": content.bytes, "recipe": recipe_object(content.recipe), "columns": columns,
        "rows": content.rows, "skipped": content.skipped, "created": origin.created, "by": origin.owner,
        "run": origin.run or None, "step": origin.step or None, "output": origin.output or None,
        "parents": list(origin.parents), "description": origin.description, "tags": dict(origin.tags),
        "labels": list(labels),
        "query": {"store": origin.query.store, "query": origin.query.query} if origin.query else None,
    }  # fmt: skip


def recipe_object(recipe: DatasetRecipe) -> dict[str, Any]:
    """Return how a version is read as a JSON object."""
    found: dict[str, Any] = {"kind": recipe.kind.value}
    if recipe.format:
        found["format"] = recipe.format
    if recipe.is_table:
        found |= {
            "delimiter": recipe.delimiter, "header": recipe.header, "encoding": recipe.encoding,
            "types": dict(recipe.types), "partitions": recipe.partitions, "multi_line": recipe.multi_line,
            "on_error": recipe.on_error.value,
        }  # fmt: skip
    return found


def member_object(member: DatasetMember) -> dict[str, Any]:
    """Return a file of a version as a JSON object."""
    return {
        "path": member.path, "uri": member.uri, "bytes": member.size, "digest": member.digest,
        "etag": member.etag or None, "version": member.version or None,
    }  # fmt: skip


def _fitted(line: str, columns: int) -> str:
    return fit(_indented(line), columns)


def _indented(line: str) -> str:
    """Return a line as harmless text that keeps its indentation."""
    return f"{line[: len(line) - len(line.lstrip(' '))]}{one_line(line)}"


def _difference_words(path: str, before: DatasetMember | None, after: DatasetMember | None) -> str:
    if before is None and after is not None:
        return f"added   {path} ({size(after.size)})"
    if before is not None and after is None:
        return f"removed {path} ({size(before.size)})"
    if before is None or after is None:
        return path
    sizes = size(after.size) if before.size == after.size else f"{size(before.size)} → {size(after.size)}"
    return f"changed {path} ({sizes})"


def _file_words(version: DatasetVersion, member: DatasetMember) -> str:
    where = f" in {member.uri}" if version.content.kind is DatasetKind.REFERENCED else ""
    return f"{member.path} ({size(member.size)}){where}"


def _recipe_words(recipe: DatasetRecipe) -> str:
    return recipe.format or recipe.kind.value


def _rows(version: DatasetVersion) -> str:
    return "" if version.content.rows is None else f"{version.content.rows:,}"


def _rows_words(version: DatasetVersion) -> str:
    """Return the number of rows, and of those that do not fit the table, in words; empty if there is no table."""
    content = version.content
    if content.rows is None:
        return ""
    left_out = f", {_count(content.skipped)} left out" if content.skipped else ""
    return f"{_count(content.rows)}{left_out}"


def _count(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def _age(version: DatasetVersion, now: float) -> str:
    seconds = max(now - version.origin.created, 0.0)
    return f"{duration(round(seconds))} ago"
