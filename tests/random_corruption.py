"""A workspace made by a small run, and random damage to its files and to the cells of its database."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import command_in_process
from in_process_executor import InProcess, carry_out
from notebook_author import write_notebook
from stored import path_in

from nbpipe.data.digests import bytes_digest
from nbpipe.data.event_writer import EventFileWriter
from nbpipe.errors import NbpipeError
from nbpipe.execution.attempt.attempt_directory import AttemptDirectory
from nbpipe.execution.attempt.runtime_bundle import write_bundle
from nbpipe.model import (
    AttemptEnded,
    AttemptOutputWritten,
    AttemptStarted,
    Job,
    MetricPoint,
    Outcome,
    Status,
    StepEventKind,
)
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run

CELLS = (
    "factor = 3\n\ndef scaled(x):\n    return [factor * each for each in x]",
    "%%step load -o table\ntable = [1, 2, 3]",
    "%%step fit -i table -o model,report:dir --retries 1\nmodel = scaled(table)\n(report / 'r.txt').write_text('fine')",
    "%%step use -i model -o total\ntotal = sum(model)",
    "%%step broken -i model\nraise ValueError('no')",
)
RIGHT = {"table": [1, 2, 3], "model": [3, 6, 9], "report": "fine", "total": 18}
NOTEBOOK = "work.ipynb"


class Recorded(InProcess):
    """Attempts in this process that leave the files of real ones; the first attempt at ``fit`` fails."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails

    def submit(self, job: Job) -> None:
        """Carry out an attempt, with two metrics and a line of output."""
        self.jobs.append(job)
        self._reports.expect(job.attempt)
        self._reports.put(AttemptStarted(job.attempt, 1_790_000_000.0))
        directory = AttemptDirectory(Path(job.directory))
        directory.claim()
        directory.write_job(job)
        write_bundle(Path(job.store))
        with EventFileWriter(directory.path, wrote=lambda pieces: self._wrote(job.attempt, pieces)) as events:
            events.tell(StepEventKind.METRIC, 1, {"points": [MetricPoint("score", 0.5, None, 1_790_000_000.0, 1)]})
            events.tell(StepEventKind.STREAM, 1, {"name": "stdout", "text": f"{job.step} says\n"})
        _write_executed(directory.notebook, job)
        outcome = replace(self._outcome(job), notebook_digest=bytes_digest(directory.notebook.read_bytes()))
        if outcome.status is Status.SUCCEEDED:
            directory.sign(job, outcome)
        directory.clear()
        self._reports.put(AttemptEnded(outcome))

    def _wrote(self, attempt: str, pieces: int) -> None:
        self._reports.put(AttemptOutputWritten(attempt, pieces))

    def _outcome(self, job: Job) -> Outcome:
        if job.step == "fit" and self.fails:
            self.fails = False
            job = Job(**{**{name: getattr(job, name) for name in job.__slots__}, "notebook": _raising(job.notebook)})
        outcome = carry_out(job)
        values = {name: getattr(outcome, name) for name in outcome.__slots__}
        return Outcome(**{**values, "notebook": "notebook.ipynb"})


def _raising(notebook: str) -> str:
    document = json.loads(notebook)
    document["cells"][-1]["source"] = "raise ValueError('once')"
    return json.dumps(document)


def _write_executed(path: Path, job: Job) -> None:
    document = json.loads(job.notebook)
    for cell in document["cells"]:
        cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": f"{job.step} says\n"}]}
    path.write_text(json.dumps(document), encoding="utf-8")


def make_workspace(folder: Path) -> Path:
    """Run the notebook three times in a new folder: the steps are made, reused, and one of them is accepted."""
    folder.mkdir()
    notebook = write_notebook(folder / NOTEBOOK, CELLS)
    run(folder, Recorded(fails=True))
    run(folder, Recorded())
    for words in (["plan"], ["status"]):
        said(*words, str(notebook))
    return folder


def run(folder: Path, executor: Recorded | None = None, **asked: Any) -> dict[str, Any]:
    """Run the notebook of a folder to its end, and get the values of its outputs."""
    with Workspace.open(folder) as workspace:
        request = request_for(folder / NOTEBOOK, workspace.layout)
        report = execute_run(workspace, request, RunOptions(**asked), None, lambda: executor or Recorded())
    return {
        artifact.name: _value(path_in(folder, artifact)) for step in report.steps for artifact in step.artifacts
    } | {"statuses": {step.step: step.status.value for step in report.steps}}


def _value(path: Path) -> Any:
    return (path / "r.txt").read_text() if path.is_dir() else json.loads(path.read_text())


def said(*words: str) -> tuple[int, str]:
    """Call the command line in this process, and get its exit code and all that it wrote, or a traceback."""
    try:
        return command_in_process.said(*words)
    except BaseException:  # noqa: BLE001  # a traceback is what is looked for
        return -1, traceback.format_exc()


# Damage to one file.


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 8)) if content else ():
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    _rewrite(path, bytes(content))


def _truncate(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    _rewrite(path, content[: chance.randrange(len(content) or 1)])


def _empty(path: Path, _chance: random.Random) -> None:
    _rewrite(path, b"")


def _delete(path: Path, _chance: random.Random) -> None:
    path.unlink()


def _garble(path: Path, chance: random.Random) -> None:
    _rewrite(path, chance.randbytes(chance.randint(1, 5000)))


def _make_folder(path: Path, _chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _fill_folder(path: Path, _chance: random.Random) -> None:
    _make_folder(path, _chance)
    (path / "inner").write_text("x")


def _link_nowhere(path: Path, _chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(_outside(path) / "created-through-a-link")


def _link_elsewhere(path: Path, _chance: random.Random) -> None:
    target = _outside(path) / f"linked-{path.name}"
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


def _rewrite(path: Path, content: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def _outside(path: Path) -> Path:
    workspace = next(above for above in path.parents if above.name == ".nbpipe")
    outside = workspace.parent.parent / "outside"
    outside.mkdir(exist_ok=True)
    return outside


FILE_DAMAGE: tuple[Callable[[Path, random.Random], None], ...] = (
    _flip, _truncate, _empty, _delete, _garble, _make_folder, _fill_folder, _link_nowhere, _link_elsewhere,
)  # fmt: skip


# Damage to one folder.


def _remove_folder(path: Path, _chance: random.Random) -> None:
    shutil.rmtree(path)


def _file_for_folder(path: Path, chance: random.Random) -> None:
    shutil.rmtree(path)
    path.write_bytes(chance.randbytes(10))


def _link_for_folder(path: Path, _chance: random.Random) -> None:
    target = _outside(path) / f"linked-{path.name}"
    shutil.move(path, target)
    path.symlink_to(target)


def _loose_link_for_folder(path: Path, _chance: random.Random) -> None:
    shutil.rmtree(path)
    path.symlink_to(_outside(path) / "nothing")


FOLDER_DAMAGE = (_remove_folder, _file_for_folder, _link_for_folder, _loose_link_for_folder)


# Damage to one cell, or one row, of the database.

_VALUES: tuple[Callable[[random.Random], object], ...] = (
    lambda _: None,
    lambda _: "",
    lambda _: "garbage",
    lambda _: "../../outside",
    lambda _: "/etc/passwd",
    lambda _: b"\xff\x00blob",
    lambda _: -1,
    lambda _: 0,
    lambda _: 7,
    lambda _: 2**62,
    lambda _: -(2**63),
    lambda _: 1.5,
    lambda _: 1e300,
    lambda _: float("inf"),
    lambda _: "[1, {}]",
    lambda _: "{}",
    lambda _: "[" * 3000,
    lambda _: "nul\0and\x1b[31m\u202e",
    lambda _: "succeeded",
    lambda chance: chance.randbytes(20),
)  # fmt: skip


def damage_cell(database: Path, chance: random.Random) -> str:
    """Change a random cell of a random table to something random, or delete its row; return what was done."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        schema = _allow_null(connection)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        done = _change(connection, chance)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("UPDATE sqlite_master SET sql = ? WHERE name = ?", schema)
    return done


def _allow_null(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Take NOT NULL out of the schema's text, as a damaged row does not heed it; return the text of each table."""
    tables = "type = 'table' AND name != 'events'"
    schema = connection.execute(f"SELECT sql, name FROM sqlite_master WHERE {tables}").fetchall()  # noqa: S608
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(f"UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE {tables}")  # noqa: S608
    return schema


def _change(connection: sqlite3.Connection, chance: random.Random) -> str:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}  # noqa: S608
    table = chance.choice([name for name in names if counts[name]])
    layout = connection.execute(f"PRAGMA table_info({table})").fetchall()
    keys = ", ".join(column[1] for column in layout if column[5])
    row = chance.choice(connection.execute(f"SELECT {keys} FROM {table}").fetchall())  # noqa: S608
    where = " AND ".join(f"{key} IS ?" for key in keys.split(", "))
    if chance.random() < 0.15:
        connection.execute(f"DELETE FROM {table} WHERE {where}", row)  # noqa: S608
        return f"{table} {row}: deleted"
    column, value = chance.choice(layout)[1], chance.choice(_VALUES)(chance)
    if column == "value" and isinstance(value, int):
        # The version of another nbpipe is no damage.
        value = float(value)
    try:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *row))  # noqa: S608
    except sqlite3.IntegrityError as error:
        return f"{table}.{column} {row}: not {value!r:.40} ({error})"
    return f"{table}.{column} {row}: {value!r:.40}"


# The whole.


@dataclass(slots=True)
class Result:
    """What became of one damaged workspace."""

    damage: str
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    forever: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    repaired: bool = False


def damage(folder: Path, chance: random.Random) -> str:
    """Damage one random thing in the workspace of a folder; return what was done."""
    root = folder / ".nbpipe"
    every = sorted(root.rglob("*"))
    kind = chance.random()
    if kind < 0.5:
        return damage_cell(root / "history.db", chance)
    if kind < 0.6:
        path = chance.choice([path for path in every if path.is_dir()])
        action = chance.choice(FOLDER_DAMAGE)
    else:
        files = [path for path in every if path.is_file()]
        path = root / "history.db" if kind < 0.65 else _of_random_kind(files, chance)
        action = chance.choice(FILE_DAMAGE)
    action(path, chance)
    return f"{path.relative_to(root)}: {action.__name__.strip('_')}"


def _of_random_kind(files: Sequence[Path], chance: random.Random) -> Path:
    """Return a file such that every kind of file is as likely."""
    kinds: dict[str, list[Path]] = {}
    for path in files:
        part = path.relative_to(next(above for above in path.parents if above.name == ".nbpipe")).parts
        kind = part[0] if len(part) == 1 else f"{part[0]}/{part[1] if part[0] == 'store' else path.name[:12]}"
        kinds.setdefault("runs/_texts" if "_texts" in part else kind, []).append(path)
    return chance.choice(kinds[chance.choice(sorted(kinds))])


def verbs(folder: Path) -> dict[str, tuple[int, str]]:
    """Call every verb that reads, and get each one's exit code and text."""
    notebook, workspace = str(folder / NOTEBOOK), ("--workspace", str(folder / ".nbpipe"))
    listed = {
        "status": ["status", notebook], "runs": ["runs", notebook], "show": ["show", "1"], "plan": ["plan", notebook],
        "why": ["why", notebook, "use"], "logs": ["logs", notebook, "fit"], "broken": ["logs", notebook, "broken"],
        "compare": ["compare", "1", "2"], "debug": ["debug", notebook, "use", "--json"],
    }  # fmt: skip
    return {name: said(*words, *workspace) for name, words in listed.items()}


def attack(base: Path, folder: Path, seed: int) -> Result:
    """Damage a copy of a workspace, use it, repair it, use it again; get what went wrong."""
    shutil.copytree(base, folder, symlinks=True)
    chance = random.Random(seed)  # noqa: S311  # damage, not a secret
    result = Result(damage(folder, chance))
    before = _tree(folder.parent / "outside")
    _look(folder, result, first=True)
    _run(folder, result)
    verify = ("verify", "--workspace", str(folder / ".nbpipe"))
    code, text = said(*verify)
    _checked(result, "verify", code, text)
    if code == 2 and "trusted" in result.damage and "nbpipe trust" in text:
        # A damaged mark is none: whoever made the workspace has to accept it again.
        _checked(result, "trust", *said("trust", "--workspace", str(folder / ".nbpipe")))
    code, text = said(*verify, "--repair")
    _checked(result, "repair", code, text)
    result.repaired = code == 0
    if code != 0:
        result.forever.append(f"repair {code}: {text}")
    code, text = said(*verify, "--full")
    if code != 0:
        result.forever.append(f"verify after repair {code}: {text}")
    _look(folder, result, first=False)
    _run(folder, result, last=True)
    if _tree(folder.parent / "outside") != before:
        result.wrong.append("something outside of the workspace has changed")
    return result


def _look(folder: Path, result: Result, *, first: bool) -> None:
    for name, (code, text) in verbs(folder).items():
        _checked(result, name, code, text)
        if code == 3 and not first:
            result.forever.append(f"{name} {code}: {text}")
        elif code == 3 and "--repair" not in text and name != "debug":
            result.forever.append(f"{name} does not name the repair: {text}")


def _checked(result: Result, name: str, code: int, text: str) -> None:
    if code < 0 or "Traceback (most recent" in text:
        result.tracebacks.append(f"{name}: {text}")
    elif code == 3:
        result.refused.append(f"{name}: {text}")


def _run(folder: Path, result: Result, *, last: bool = False) -> None:
    try:
        values = run(folder)
    except NbpipeError as error:
        result.refused.append(f"run: {error}")
        if last:
            result.forever.append(f"run: {error}")
    except BaseException:  # noqa: BLE001  # a traceback is what is looked for
        result.tracebacks.append(f"run: {traceback.format_exc()}")
    else:
        statuses = values.pop("statuses")
        ended = {name: status in ("succeeded", "reused") for name, status in statuses.items()}
        if values != RIGHT or ended != {"load": True, "fit": True, "use": True, "broken": False}:
            result.wrong.append(f"{'last run' if last else 'run'}: {values} {statuses}")


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }
