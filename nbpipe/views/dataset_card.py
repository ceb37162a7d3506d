"""The version of a dataset that an output is, on cards: its size, what changed, and the profile of a table."""

from __future__ import annotations

from nbpipe.model.datasets import ColumnProfile, TableProfile, VersionDescription
from nbpipe.views.dataset_tables import column_words, difference_lines, headline, sampled_words
from nbpipe.views.html import Html, element
from nbpipe.views.html_tables import table_html
from nbpipe.views.terminal_text import fit, one_line
from nbpipe.views.text_tables import Row

_COLUMNS = 120
_SHOWN_COLUMNS = 30
_SHOWN_CHANGES = 12
_VALUE_COLUMNS = 40

_PROFILE_HEADER: Row = ("column", "type", "missing", "range", "quartiles", "distinct", "most often")
_LINE = "margin:2px 0"
_WIDE = "overflow-x:auto"


def description_html(described: VersionDescription) -> Html:
    """Return a version, the changes since the one before, and the profile of a table, with inline styles only."""
    lines = [headline(described.version), *_change_lines(described)]
    parts = [element("div", Html.line(line), style=_LINE) for line in lines]
    if described.profile is not None:
        parts.append(element("div", _profile_table(described.profile), style=_WIDE))
    return Html.join(parts)


def description_lines(described: VersionDescription) -> list[str]:
    """Return the same facts as plain lines."""
    lines = [headline(described.version), *_change_lines(described)]
    if described.profile is not None:
        columns, more = _shown(described.profile)
        lines += [*map(column_words, columns), *more]
    return [fit(one_line(line), _COLUMNS) for line in lines]


def _change_lines(described: VersionDescription) -> list[str]:
    if described.earlier is None:
        return []
    head, *changes = difference_lines(described.earlier, _COLUMNS)
    more = len(changes) - _SHOWN_CHANGES
    return [head, *changes[:_SHOWN_CHANGES], *([f"and {more} more changes"] if more > 0 else [])]


def _profile_table(profile: TableProfile) -> Html:
    columns, more = _shown(profile)
    caption = f"Profile{sampled_words(profile)}{''.join(f', {line}' for line in more)}"
    return table_html(_PROFILE_HEADER, map(_row, columns), caption)


def _shown(profile: TableProfile) -> tuple[tuple[ColumnProfile, ...], list[str]]:
    """Return the columns that are shown, and a line about the others."""
    more = len(profile.columns) - _SHOWN_COLUMNS
    words = [f"{more} more column{'' if more == 1 else 's'} not shown"] if more > 0 else []
    return profile.columns[:_SHOWN_COLUMNS], words


def _row(column: ColumnProfile) -> Row:
    has_range = column.lowest is not None
    frequent = ", ".join(f"{_value(value)} ({count:,})" for value, count in column.frequent[:3])
    return (
        fit(one_line(column.name), _VALUE_COLUMNS), column.type, f"{column.nulls:,}" if column.nulls else "",
        f"{_value(column.lowest)} … {_value(column.highest)}" if has_range else "",
        ", ".join(f"{value:.4g}" for value in column.quantiles),
        "" if column.distinct is None else f"{column.distinct:,}", frequent,
    )  # fmt: skip


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return fit(one_line(text), _VALUE_COLUMNS)
