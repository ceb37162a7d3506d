"""The arguments and options of the verbs, each defined once, and the parsers of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.model import Status
from nbpipe.model.datasets import TABLE_KINDS, RecipeKind
from nbpipe.verbs.syntax import Argument, Arity, Face, Option, ValueKind

RUN_STATUSES = (Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.PARTIAL, Status.CANCELLED, Status.LOST)
_LISTED_RUNS = 20


def _flag(words: Sequence[str]) -> bool:
    return bool(words)


def _text(words: Sequence[str]) -> str:
    return words[0] if words else ""


def _text_or_none(words: Sequence[str]) -> str | None:
    return words[0] if words else None


def _names(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(words)


def _path_or_none(words: Sequence[str]) -> Path | None:
    return Path(words[0]) if words else None


def _paths(words: Sequence[str]) -> tuple[Path, ...]:
    return tuple(map(Path, words))


def _parameter_values(words: Sequence[str]) -> Mapping[str, str]:
    """Return the texts by name; raise BadUsage for an invalid or a repeated name."""
    texts: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise BadUsage(f"`{word}` is not NAME=VALUE", "For example: -p learning_rate=0.05")
        if name in texts:
            raise BadUsage(f"the parameter `{name}` is given twice", "Keep one.")
        texts[name] = value
    return texts


def _tags(words: Sequence[str]) -> Mapping[str, str]:
    tags: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BadUsage(f"the tag `{word}` is not KEY=VALUE", "For example: --tag author=ada")
        if key in tags:
            raise BadUsage(f"the tag `{key}` is given twice", "Keep one.")
        tags[key] = value
    return tags


def _store_options(words: Sequence[str]) -> Mapping[str, str | int | bool]:
    """Return the options of a datastore; numbers, true and false are not texts."""
    return {key: _plain_value(value) for key, value in _pairs(words, "option", "endpoint=https://minio.lab:9000")}


def _plain_value(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def _credentials(words: Sequence[str]) -> Mapping[str, str]:
    return dict(_pairs(words, "credential", "secret_access_key=env:LAKE_SECRET"))


def _pairs(words: Sequence[str], what: str, example: str) -> list[tuple[str, str]]:
    """Return keys and values; an error does not repeat a value, which may be a secret."""
    pairs = [word.partition("=")[::2] for word in words]
    for key, value in pairs:
        if not key.isidentifier() or not value:
            raise BadUsage(f"a value of `--{what}` is not KEY=VALUE", f"For example: --{what} {example}")
        if sum(key == other for other, _ in pairs) > 1:
            raise BadUsage(f"the {what} `{key}` is given twice", "Keep one.")
    return pairs


def _column_types(words: Sequence[str]) -> Mapping[str, str]:
    types: dict[str, str] = {}
    for word in words:
        column, equals, type_ = word.rpartition("=")
        if not equals or not column or not type_:
            raise BadUsage(f"`{word}` is not COLUMN=TYPE", "For example: --type shop=int16")
        if column in types:
            raise BadUsage(f"the column `{column}` is given two types", "Keep one.")
        types[column] = type_
    return types


def _table_kind(words: Sequence[str]) -> RecipeKind | None:
    names = [kind.value for kind in TABLE_KINDS]
    if words and words[0] not in names:
        hint = nearest(words[0], names) or f"A table is read as one of: {', '.join(names)}."
        raise BadUsage(f"no table is read as `{words[0]}`", hint)
    return RecipeKind(words[0]) if words else None


def _delimiter(words: Sequence[str]) -> str:
    return words[0].replace("\\t", "\t") if words else ""


def _forced(words: Sequence[str]) -> tuple[str, ...] | None:
    """Return the forced steps: None if nothing is forced, empty (a bare ``--force``) for all requested steps."""
    return tuple(word for word in words if word) if words else None


def _count(words: Sequence[str]) -> int:
    if not words:
        return _LISTED_RUNS
    text = words[0]
    if not (text.isascii() and text.isdecimal()) or not 0 < len(text.lstrip("0")) <= 9:
        raise BadUsage(f"`--limit {text}` is not a number of runs", "For example: --limit 50")
    return int(text)


def _run_status(words: Sequence[str]) -> Status | None:
    names = [status.value for status in RUN_STATUSES]
    if words and words[0] not in names:
        hint = nearest(words[0], names) or f"A run is one of: {', '.join(names)}."
        raise BadUsage(f"no run has the status `{words[0]}`", hint)
    return Status(words[0]) if words else None


def _argument(metavar: str, kind: ValueKind = ValueKind.TEXT) -> Argument[str]:
    return Argument(metavar, _text, Arity.ONE, kind)


def _switch(name: str, help: str, faces: Face = Face.BOTH) -> Option[bool]:
    return Option("", _flag, Arity.NONE, faces=faces, name=name, help=help)


NOTEBOOK = Argument("NOTEBOOK", _path_or_none, Arity.ONE, ValueKind.PATH, Face.SHELL)
ANY_NOTEBOOK = Argument("NOTEBOOK", _path_or_none, Arity.OPTIONAL, ValueKind.PATH, Face.SHELL)
NOTEBOOKS = Argument("NOTEBOOK", _paths, Arity.SOME, ValueKind.PATH, Face.SHELL)
FOLDER = Argument("FOLDER", _path_or_none, Arity.OPTIONAL, ValueKind.PATH, Face.SHELL)
STEP = _argument("STEP", ValueKind.STEP)
STEPS = Argument("STEP", _names, Arity.MANY, ValueKind.STEP)
OUTPUT = _argument("[STEP.]OUTPUT", ValueKind.OUTPUT)
RUN = _argument("RUN")
OTHER_RUN = _argument("RUN")
DEFAULTS = Argument("KEY=VALUE", _names, Arity.MANY, ValueKind.DEFAULT)

DATASTORE = _argument("NAME", ValueKind.DATASTORE)
ANY_DATASTORE = Argument("NAME", _text_or_none, Arity.OPTIONAL, ValueKind.DATASTORE)
SOME_DATASTORES = Argument("NAME", _names, Arity.MANY, ValueKind.DATASTORE)
COMPUTE_TARGET = _argument("NAME")
SOME_COMPUTE_TARGETS = Argument("NAME", _names, Arity.MANY)
URL = _argument("URL")
STORE_PLACE = _argument("NAME[/PATH]", ValueKind.DATASTORE)
COPIED = _argument("FROM", ValueKind.PATH)
COPY_TARGET = _argument("TO", ValueKind.PATH)

DATASET = _argument("NAME[@VERSION]", ValueKind.DATASET)
OTHER_DATASET = _argument("NAME[@VERSION]", ValueKind.DATASET)
NEW_DATASET = _argument("NAME", ValueKind.DATASET)
SOURCE = _argument("SOURCE", ValueKind.PATH)
LABEL = _argument("LABEL")

PARAM = Option(
    "NAME=VALUE", _parameter_values, Arity.MANY, ValueKind.PARAMETER,
    name="--param", short="-p", help="Set a parameter.",
)  # fmt: skip
TO = Option(
    "STEP", _names, Arity.MANY, ValueKind.STEP,
    name="--to", help="Run this step and the steps it needs.",
)  # fmt: skip
FROM = Option(
    "STEP", _text_or_none, Arity.ONE, ValueKind.STEP,
    name="--from", help="Run this step and the steps after it, forced.",
)  # fmt: skip
FORCE = Option(
    "[STEP...]", _forced, Arity.MANY, ValueKind.STEP,
    name="--force", help="Run again even if there are results.", lists_names=True,
)  # fmt: skip
KEEP_GOING = _switch("--keep-going", "Continue with the steps that do not depend on a failed step.")
DETACH = _switch("--detach", "Return at once; the run continues without its terminal or notebook.")
HERE = _switch("--here", "Run one step in this kernel, and store nothing.", Face.NOTEBOOK)
EXPERIMENT = Option("NAME", _text, Arity.ONE, name="--experiment", help="The experiment that the run belongs to.")
TAG = Option("KEY=VALUE", _tags, Arity.MANY, name="--tag", help="A tag for the run.")
FOLLOW = _switch("--follow", "Show updates until the run has ended.")
LOCALS = _switch("--locals", "Also bind the saved variables of the frame that failed.")
TARGET = Option("FILE", _path_or_none, Arity.ONE, ValueKind.PATH, name="--to", help="The path to write.")
ALL = _switch("--all", "List the runs of all notebooks of the workspace.")
OF_EXPERIMENT = Option("NAME", _text_or_none, Arity.ONE, name="--experiment", help="Only runs of this experiment.")
OF_STATUS = Option(
    "STATUS", _run_status, Arity.ONE, ValueKind.RUN_STATUS,
    name="--status", help=f"Only runs with this status: {', '.join(RUN_STATUSES)}.",
)  # fmt: skip
OF_TAG = Option("KEY=VALUE", _tags, Arity.MANY, name="--tag", help="Only runs with this tag.")
OF_STEP = Option(
    "STEP", _text_or_none, Arity.ONE, ValueKind.STEP, name="--step", help="Only runs in which this step ran."
)
LIMIT = Option("N", _count, Arity.ONE, name="--limit", help=f"At most N runs, newest first; {_LISTED_RUNS} by default.")
APPLY = _switch("--apply", "Collect; without it, only show what would be collected.")
WHY = Option("DIGEST", _text_or_none, Arity.ONE, name="--why", help="Show what keeps the output with this digest.")
FULL = _switch("--full", "Read all bytes again, even of files that look unchanged.")
REPAIR = _switch("--repair", "Invalidate damaged results; rebuild a lost history.")
RUFF = _switch("--ruff", "Run ruff on the notebook, too, with your settings.", Face.SHELL)
FIX = _switch("--fix", "Add missing inputs to the declarations in the notebook file.")
WRITE = _switch("--write", "Write the proposal to the notebook file.")
COMPARE = _switch("--check", "Run the notebook and the pipeline, and compare the results.", Face.SHELL)
CHECK = _switch("--check", "Write nothing; exit with 1 if a notebook would change.")
LONG = _switch("--long", "Write every declaration as `#| key: value` lines.")
SHORT = _switch("--short", "Write every declaration on the first line.")

REPLACE = _switch("--replace", "Replace files and objects that exist already.")
RECURSIVE = _switch("--recursive", "Delete all objects of a folder.")
STORE_OPTION = Option(
    "KEY=VALUE", _store_options, Arity.MANY, name="--option", help="An option, e.g. endpoint=https://minio.lab:9000."
)
CREDENTIAL = Option(
    "KEY=REF", _credentials, Arity.MANY, name="--credential",
    help="A credential by reference: env:NAME, file:PATH or keyring:SERVICE/USER.",
)  # fmt: skip
USES_PROFILE = _switch("--profile", "Take the credentials from the cloud's own configuration.")
READ_ONLY = _switch("--read-only", "Never write to it.")

COPY = _switch("--copy", "Store a copy of the files, however large they are.")
REFERENCE = _switch("--reference", "Leave the files where they are, and compare them whenever they are read.")
DESCRIPTION = Option("TEXT", _text, Arity.ONE, name="--description", help="What the version is.")
DATASET_TAG = Option("KEY=VALUE", _tags, Arity.MANY, name="--tag", help="A tag for the version.")
TABLE_KIND = Option(
    "KIND", _table_kind, Arity.ONE, name="--as", help="Read the files as one table: delimited, parquet or json-lines."
)
COLUMN_TYPE = Option("COLUMN=TYPE", _column_types, Arity.MANY, name="--type", help="The Arrow type of a column.")
DELIMITER = Option("CHARACTER", _delimiter, Arity.ONE, name="--delimiter", help="What is between columns, e.g. ';'.")
NO_HEADER = _switch("--no-header", "The first line is a row, not the names of the columns.")
ENCODING = Option("NAME", _text, Arity.ONE, name="--encoding", help="The encoding of the text, e.g. latin-1.")
PARTITIONS = Option(
    "PATTERN", _text, Arity.ONE, name="--partitions", help="Columns in the names of folders, e.g. {day:date}/."
)
MULTI_LINE = _switch("--multi-line", "Values may hold line breaks.")
ON_ERROR = Option("WORD", _text, Arity.ONE, name="--on-error", help="Rows that do not fit: fail, or count them.")
QUERY = Option("SQL", _text, Arity.ONE, name="--query", help="Register the result of a query; SOURCE is a database.")
QUERY_VERSION = Option(
    "SQL", _text, Arity.ONE, name="--query-version",
    help="A query for one value: while it is the same, the result is not read again.",
)  # fmt: skip
MAX_AGE = Option("TIME", _text, Arity.ONE, name="--max-age", help="A younger result is not read again, e.g. 6h.")

_WORKSPACE_HELP = "Use this workspace folder."


def _workspace(faces: Face) -> Option[Path | None]:
    kind = ValueKind.PATH
    return Option("DIR", _path_or_none, Arity.ONE, kind, faces, name="--workspace", help=_WORKSPACE_HELP)


WORKSPACE = _workspace(Face.SHELL)
# The IPython session that `nbpipe debug` starts gets the workspace as an option of the magic.
DEBUG_WORKSPACE = _workspace(Face.BOTH)
JSON = _switch("--json", "Print one JSON object on standard output.", Face.SHELL)
