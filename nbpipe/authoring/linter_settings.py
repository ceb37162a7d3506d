"""Settings that keep ruff, black and nbQA from breaking step cells, written to the files that these tools read.

ruff does not look into a cell with one of nbpipe's magics: it reports an import that only steps use as unused, and
``ruff check --fix`` would remove it. Existing settings are never changed; conflicting ones are reported instead.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.authoring.notebook_edits import replace_file
from nbpipe.errors import NbpipeError

_MAGICS = ("step", "nbstep")
_TOOLS = ("autoflake", "black", "flake8", "isort", "pylint", "pyupgrade", "ruff", "ruff check")
_RUFF = "ruff does not look into %%step cells: keep imports that only steps use."
_BLACK = "black formats %%step cells like other cells."
_NBQA = "nbQA shows %%step cells to its tools."


@dataclass(frozen=True, slots=True)
class LinterSetting:
    """A key that must contain some values: its table, and a comment that explains it."""

    table: tuple[str, ...]
    key: str
    values: tuple[str, ...]
    why: str

    @property
    def line(self) -> str:
        """Return the setting as TOML."""
        key = self.key if re.fullmatch(r"[\w-]+", self.key) else f'"{self.key}"'
        values = ", ".join(f'"{value}"' for value in self.values)
        return f"{key} = [{values}]"


@dataclass(frozen=True, slots=True)
class LinterSettingsReport:
    """The settings that were written, and those that the author must add because of their own settings."""

    wrote: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def write_linter_settings(folder: Path) -> LinterSettingsReport:
    """Write the linter settings for a folder, each to the file that its tool reads."""
    folder = folder.resolve()
    ruff, black, nbqa = (_file(folder, tool) for tool in ("ruff", "black", "nbqa"))
    above = ("tool", "ruff") if ruff.name == "pyproject.toml" else ()
    required = [
        (ruff, LinterSetting((*above, "lint"), "unfixable", ("F401",), _RUFF)),
        (ruff, LinterSetting((*above, "lint", "per-file-ignores"), "*.ipynb", ("F401", "F821"), _RUFF)),
        (black, LinterSetting(("tool", "black"), "python-cell-magics", _MAGICS, _BLACK)),
        *((nbqa, LinterSetting(("tool", "nbqa", "process_cells"), tool, _MAGICS, _NBQA)) for tool in _TOOLS),
    ]
    wrote: list[str] = []
    missing: list[str] = []
    inside = _boundary(folder)
    for path in dict.fromkeys(path for path, _ in required):
        settings = [setting for where, setting in required if where == path]
        report = _put(path, settings, writable=path.is_relative_to(inside))
        wrote += report.wrote
        missing += report.missing
    return LinterSettingsReport(tuple(wrote), tuple(missing))


def _boundary(folder: Path) -> Path:
    """Return the root folder of the repository, or the folder itself if it is not in a repository."""
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)


def _file(folder: Path, tool: str) -> Path:
    """Return the file that a tool reads its settings from: a new, nearer file would hide all settings in it."""
    names = (".ruff.toml", "ruff.toml", "pyproject.toml") if tool == "ruff" else ("pyproject.toml",)
    there = [above / name for above in (folder, *folder.parents) for name in names if (above / name).is_file()]
    for path in there:
        if path.name != "pyproject.toml" or tool in _tools(path):
            return path
    inside = _boundary(folder)
    project = next((path for path in there if path.is_relative_to(inside)), None)
    return project or folder / "pyproject.toml"


def _tools(path: Path) -> Mapping[str, Any]:
    try:
        tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return {}
    return tools if isinstance(tools, dict) else {}


def _put(path: Path, settings: Sequence[LinterSetting], *, writable: bool) -> LinterSettingsReport:
    """Add settings to a file; report those that conflict with its content, and all if it is not ``writable``."""
    try:
        content = path.read_bytes() if path.is_file() else None
        text = (content or b"").decode("utf-8")
        tomllib.loads(text)
    except (OSError, ValueError) as error:
        return LinterSettingsReport(
            missing=(f"{path} cannot be read ({error}); see docs/linting.md for the settings that it needs",)
        )
    fresh, missing = text, list[str]()
    done: dict[str, None] = {}
    for setting in settings:
        holds = _holding(tomllib.loads(fresh), setting)
        if holds is True:
            continue
        extended = _added(fresh, setting) if holds is None and writable else None
        if extended is None:
            missing.append(f"add to [{_name(setting.table)}] in {path}: {setting.line}")
        else:
            fresh = extended
            done[f"[{_name(setting.table)}]"] = None
    if fresh == text:
        return LinterSettingsReport(missing=tuple(missing))
    try:
        replace_file(path, fresh.encode(), expected=content)
    except NbpipeError as error:
        return LinterSettingsReport(missing=(error.message,))
    return LinterSettingsReport((f"wrote linter settings for step cells to {path}: {', '.join(done)}",), tuple(missing))


def _holding(document: Mapping[str, Any], setting: LinterSetting) -> bool | None:
    """Return whether the values are present; None if the key is absent."""
    table: Any = document
    for part in setting.table:
        table = table.get(part, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        return False
    value = table.get(setting.key)
    if value is None:
        return None
    return isinstance(value, list) and set(setting.values) <= set(value)


def _added(text: str, setting: LinterSetting) -> str | None:
    """Return the text with a setting added, under its table's header or in a new table; None if neither is possible."""
    expected = _with(tomllib.loads(text), setting)
    ending = "\r\n" if "\r\n" in text else "\n"
    why = "" if f"# {setting.why}" in text else f"# {setting.why}{ending}"
    block = f"{why}{setting.line}{ending}"
    header = re.search(_header(setting), text, re.MULTILINE)
    gap = "" if not text else ending if text.endswith("\n") else ending * 2
    candidates = [f"{text}{gap}[{_name(setting.table)}]{ending}{block}"]
    if header is not None:
        head = text[: header.end()]
        candidates.insert(0, f"{head}{'' if head.endswith(chr(10)) else ending}{block}{text[header.end() :]}")
    return next((candidate for candidate in candidates if _reads(candidate) == expected), None)


def _header(setting: LinterSetting) -> str:
    """Return a pattern for a table's header and nbpipe's comment under it."""
    parts = r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in setting.table)
    return rf"^[ \t]*\[[ \t]*{parts}[ \t]*\][ \t]*(?:#[^\n]*)?(?:\r?\n(?:# {re.escape(setting.why)}\r?\n)?|\Z)"


def _with(document: dict[str, Any], setting: LinterSetting) -> dict[str, Any]:
    table = document
    for part in setting.table:
        table = table.setdefault(part, {})
    table[setting.key] = list(setting.values)
    return document


def _reads(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _name(table: Sequence[str]) -> str:
    return ".".join(table)
