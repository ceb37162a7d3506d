"""S22: verbs that read change nothing, create nothing, and need no more than the permission to read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from notebook_author import write_notebook
from other_user import User, as_user, needs_other_users
from random_corruption import CELLS, NOTEBOOK, make_workspace, said

from nbpipe.data.datastores import LocalStore
from nbpipe.errors import HistoryOutOfReach, StoreOutOfReach
from nbpipe.history.store import History
from nbpipe.model import Artifact, ObjectReference
from nbpipe.workspace.trust import trust_workspace

GROUP = 1710
READER = User(1711, (GROUP,))
VERBS = {
    "status": ("NOTEBOOK",), "runs": ("NOTEBOOK",), "runs --all": (), "show": ("1",), "compare": ("1", "2"),
    "plan": ("NOTEBOOK",), "why": ("NOTEBOOK", "use"), "logs": ("NOTEBOOK", "fit"), "debug --json": ("NOTEBOOK", "use"),
    "lint": ("NOTEBOOK",), "verify": (), "verify --full": (),
}  # fmt: skip
NEEDS_A_RUN = {"status", "show", "compare", "logs", "debug --json"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace in which two runs were made."""
    return make_workspace(tmp_path_factory.mktemp("base") / "project")


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Path:
    """Return a copy of such a folder."""
    shutil.copytree(base, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


@pytest.fixture
def ground() -> Iterator[Path]:
    """Make a folder that all users may enter: the one that pytest gives is root's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def read_only(project: Path) -> Iterator[Path]:
    """Return the folder where it is mounted read-only."""
    mounted = project.parent / "mounted"
    mounted.mkdir()
    if subprocess.run(["mount", "--bind", project, mounted], capture_output=True, check=False).returncode:
        pytest.skip("SKIPPED LOUDLY: only root can mount, where that is allowed")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mounted], check=True)
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Get all that is in a folder: its owners, modes, sizes and times."""
    every = ((path, path.lstat()) for path in [folder, *sorted(folder.rglob("*"))])
    return {str(path): (at.st_uid, at.st_gid, at.st_mode, at.st_size, at.st_mtime_ns) for path, at in every}


def call(folder: Path, verb: str) -> tuple[int, str]:
    """Call a verb about the notebook of a folder."""
    words = [str(folder / NOTEBOOK) if word == "NOTEBOOK" else word for word in VERBS[verb]]
    return said(*verb.split(), *words, "--workspace", str(folder / ".nbpipe"))


def call_at_home(folder: Path, verb: str) -> tuple[int, str]:
    """Call a verb in a process whose home is that of its user."""
    os.environ["HOME"] = tempfile.gettempdir()
    return call(folder, verb)


def killed_writer(folder: Path) -> None:
    """Have a process die in the middle of a run: the database's log stays beside it, and the run was not ended."""
    child = os.fork()
    if child == 0:
        history = History.open(folder / ".nbpipe" / "history.db")
        with history.database.writing() as connection:
            connection.exec_driver_sql("UPDATE runs SET status = 'running', owner = 'gone' WHERE number = 2")
        os._exit(0)
    os.waitpid(child, 0)
    assert (folder / ".nbpipe" / "history.db-wal").stat().st_size > 0


def kept(folder: Path) -> dict[str, tuple[int, ...]]:
    """Get all files but those of the database and of the cache of parsed notebooks."""
    every = tree(folder).items()
    return {
        name: at for name, at in every if Path(name).is_file() and "history.db" not in name and "readings" not in name
    }


def rows(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Get all that the database says, without its cache of digests."""
    with closing(sqlite3.connect(f"file:{folder}/.nbpipe/history.db?mode=ro", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        said = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}  # noqa: S608  # ours
    del said["remembered"]
    return said


def test_only_caches_are_written_for_the_owner(project: Path) -> None:
    # Cells and files that no cache has yet.
    write_notebook(project / NOTEBOOK, [*CELLS, "1 + 1"])
    before = kept(project), rows(project)
    for verb in VERBS:
        code, text = call(project, verb)
        assert (verb, code) == (verb, 0), text
        assert (kept(project), rows(project)) == before, verb


@pytest.mark.parametrize("made", [(), (".nbpipe",)], ids=["", "empty"])
def test_no_workspace_and_no_key_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    folder = tmp_path / "new"
    folder.mkdir()
    write_notebook(folder / NOTEBOOK, CELLS)
    for name in made:
        (folder / name).mkdir()
    before = tree(folder)
    for verb in VERBS:
        code, text = call(folder, verb)
        assert (verb, code, "Traceback" in text) == (verb, 2 if verb in NEEDS_A_RUN else 0, False), text
    assert tree(folder) == before
    assert not (tmp_path / "home").exists()


def test_a_mount_that_is_read_only_is_enough(read_only: Path) -> None:
    for verb in VERBS:
        code, text = call(read_only, verb)
        assert (verb, code) == (verb, 0), text


@pytest.mark.kernel
def test_the_verbs_of_a_kernel_write_nothing(read_only: Path, project: Path) -> None:
    from magics_kernel import Kernel

    before = tree(project)
    lab = Kernel(read_only, JPY_SESSION_NAME=NOTEBOOK)
    try:
        for number, source in enumerate(["%load_ext nbpipe", "%nbpipe defaults run=manual", *CELLS]):
            lab.run(f"cell-{number}", source)
        for verb, words in VERBS.items():
            rest = " ".join(word for word in words if word != "NOTEBOOK")
            _, error = lab.run(verb, f"%nbpipe {verb.removesuffix(' --json')} {rest}")
            assert error == "", verb
        lab.run("pull", "%nbpipe pull use.total")
        assert lab.run("total", "total")[0] == "18"
    finally:
        lab.close()
    assert tree(project) == before


@needs_other_users
@pytest.mark.parametrize("broken_off", [False, True])
def test_the_permission_to_read_is_enough(base: Path, ground: Path, broken_off: bool) -> None:  # noqa: FBT001
    project = ground / "project"
    shutil.copytree(base, project, symlinks=True)
    for verb in VERBS:
        # Another user may not be able to read where Python lies, so all modules are loaded before.
        call(project, verb)
    if broken_off:
        killed_writer(project)
    for path in [project, *project.rglob("*")]:
        os.chown(path, 0, GROUP, follow_symlinks=False)
        path.chmod(0o2750 if path.is_dir() else 0o440)
    before = tree(project)
    for verb in VERBS:
        code, text = as_user(READER, partial(call_at_home, project, verb))
        assert (verb, code in ((0, 1) if broken_off else (0,)), "Traceback" in text) == (verb, True, False), text
        assert "running" not in text
    assert tree(project) == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / ".nbpipe"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "history.db")) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("PRAGMA user_version = 7")
        connection.execute("CREATE TABLE songs (name TEXT)")
        connection.commit()
    trust_workspace(tmp_path)
    before, content = tree(folder), (folder / "history.db").read_bytes()
    for open_ in (History.open, History.read):
        with pytest.raises(HistoryOutOfReach, match="not a history of nbpipe"):
            open_(folder / "history.db")
    for verb in (["verify"], ["verify", "--repair"], ["runs"]):
        code, text = said(*verb, "--workspace", str(folder))
        assert (verb, code, "not a history of nbpipe" in text) == (verb, 3, True), text
    assert (folder / "history.db").read_bytes() == content
    after = {name: each for name, each in tree(folder).items() if "history.db" in name}
    assert after == {name: each for name, each in before.items() if "history.db" in name}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_nothing_is_stored_or_found_through_a_link(tmp_path: Path, depth: int) -> None:
    store, staged, outside = LocalStore(tmp_path / "store"), tmp_path / "staged", tmp_path / "outside"
    staged.write_bytes(b"data")
    outside.mkdir()
    output = Artifact("x", "json", ObjectReference("default", f"blake3:{'ab' * 32}", "x.json", 4))
    link = tmp_path.joinpath("store", *("objects", "ab", "ab" * 32)[: depth + 1])
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    for use in (lambda: store.put(staged, output), lambda: store.locate(output)):
        with pytest.raises(StoreOutOfReach, match=r"is a link(.|\n)*verify --repair"):
            use()
    assert list(outside.iterdir()) == []
