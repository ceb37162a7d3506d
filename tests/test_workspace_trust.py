"""S22: a workspace that is not this user's own is refused for whatever loads from it, and only read as text."""

from __future__ import annotations

import io
import os
import resource
import shutil
import stat
import subprocess
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from notebook_author import write_notebook
from other_user import STRANGER, as_user, needs_other_users
from scripted_executor import Bench

from nbpipe.cli import main
from nbpipe.cli.command import outcome
from nbpipe.errors import StoreOutOfReach, WorkspaceUntrusted
from nbpipe.history.store import History
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook_codec import encode_notebook
from nbpipe.resolve import parse_cache, signing_key
from nbpipe.resolve.found_workspace import look_up_workspace
from nbpipe.resolve.workspace_layout import find_workspace
from nbpipe.resolve.workspace_trust import accept
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.trust import trust_workspace

SOURCES = ["%%step a -o x\nx = 1", "%%step b -i x -o y\ny = x"]


def ran(folder: Path) -> Bench:
    """Run a notebook of two steps in a folder."""
    folder.mkdir(exist_ok=True)
    bench = Bench(folder, SOURCES)
    write_notebook(folder / bench.notebook, SOURCES)
    assert bench.run() == ["a", "b"]
    return bench


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Get the modes, sizes and times of all that is in a folder."""
    listed = {str(path): path.lstat() for path in [folder, *sorted(folder.rglob("*"))]}
    return {name: (status.st_mode, status.st_size, status.st_mtime_ns) for name, status in listed.items()}


def said(*words: str) -> tuple[int, str]:
    """Call the command line in this process, and get its exit code and all that it wrote."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text), pytest.raises(SystemExit) as ended:
        main(words)
    return int(str(ended.value.code or 0)), text.getvalue()


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Get the folder of a notebook with the workspace that somebody with another key has made."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "theirs"))
    folder = ran(tmp_path / "cloned").folder
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "ours"))
    return folder


def test_s22_a_workspace_that_came_with_a_project_is_refused_and_left_alone(stranger):
    before = tree(stranger)
    with pytest.raises(WorkspaceUntrusted, match="was not made by nbpipe for this user"):
        Workspace.open(stranger)
    for verb in ("run", "accept", "cancel", "verify"):
        words = [verb, str(stranger / "work.ipynb"), *(["a"] if verb == "accept" else [])]
        code, text = said(*words)
        assert (code, "nbpipe trust --workspace" in text) == (2, True), text
    with pytest.raises(WorkspaceUntrusted):
        Workspace.create(stranger)
    assert tree(stranger / ".nbpipe") == {name: each for name, each in before.items() if "/.nbpipe" in name}


def test_a_workspace_is_accepted_by_the_command_that_the_refusal_names(stranger):
    code, text = said("trust", str(stranger / "work.ipynb"))
    assert code == 0
    assert "1 runs, 2 stored outputs" in text
    assert "was not made by nbpipe for this user" in text
    assert Bench(stranger, SOURCES).run() == []
    assert "it was trusted already" in said("trust", str(stranger / "work.ipynb"))[1]


def test_where_there_is_no_workspace_there_is_nothing_to_accept(tmp_path):
    write_notebook(tmp_path / "n.ipynb", SOURCES)
    code, text = said("trust", str(tmp_path / "n.ipynb"))
    assert (code, "there is no workspace" in text) == (2, True)
    assert not (tmp_path / ".nbpipe").exists()


@pytest.mark.parametrize("kept", ["history.db", "store", "runs", "readings"])
def test_s22_each_part_of_a_workspace_is_enough_to_refuse_it(stranger, kept):
    readings = stranger / ".nbpipe" / "readings"
    readings.mkdir(exist_ok=True)
    for path in (stranger / ".nbpipe").iterdir():
        if path.name != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(WorkspaceUntrusted):
        Workspace.open(stranger)


def test_an_empty_folder_becomes_a_workspace(tmp_path):
    (tmp_path / ".nbpipe").mkdir()
    ran(tmp_path)
    assert ran_again(tmp_path) == []


def ran_again(folder: Path) -> list[str]:
    """Run the notebook of :func:`ran` once more."""
    return Bench(folder, SOURCES).run()


def mark_in(folder: Path) -> Path:
    """Get the only mark in a folder's workspace."""
    (mark,) = (folder / ".nbpipe" / "trusted").iterdir()
    return mark


@pytest.mark.parametrize("change", [lambda text: text[1:], lambda text: text.replace("-", "tracked"), lambda _: "x"])
def test_s22_a_mark_that_this_user_s_key_has_not_made_is_none(tmp_path, change):
    mark = mark_in(ran(tmp_path).folder)
    mark.write_text(change(mark.read_text()))
    with pytest.raises(WorkspaceUntrusted):
        Workspace.open(tmp_path)


def test_s22_a_mark_is_not_read_through_a_link(tmp_path):
    ran(tmp_path / "mine")
    mark = mark_in(ran(tmp_path / "other").folder)
    mark.unlink()
    mark.symlink_to(mark_in(tmp_path / "mine"))
    with pytest.raises(WorkspaceUntrusted):
        Workspace.open(tmp_path / "other")


def test_s22_marks_are_not_written_through_a_link(stranger, tmp_path):
    shutil.rmtree(stranger / ".nbpipe" / "trusted")
    (tmp_path / "elsewhere").mkdir()
    (stranger / ".nbpipe" / "trusted").symlink_to(tmp_path / "elsewhere")
    trust_workspace(stranger)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert ran_again(stranger) == []


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_whatever_stands_where_the_marks_belong_is_no_obstacle(stranger, make):
    shutil.rmtree(stranger / ".nbpipe" / "trusted")
    make(stranger / ".nbpipe" / "trusted")
    trust_workspace(stranger)
    assert ran_again(stranger) == []


def test_a_mark_that_cannot_be_written_is_told(stranger):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    try:
        with pytest.raises(StoreOutOfReach, match="mark cannot be written"):
            accept(stranger / ".nbpipe")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def committed(folder: Path, *paths: str) -> None:
    """Put files into a git repository in a folder."""
    for words in (["init", "-q"], ["add", "-f", "--", *paths]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)


def test_s22_a_workspace_that_git_tracks_is_refused_until_it_is_accepted(tmp_path):
    ran(tmp_path)
    committed(tmp_path, ".nbpipe/history.db")
    with pytest.raises(WorkspaceUntrusted, match="git tracks it"):
        Workspace.open(tmp_path)
    assert "git tracks it" in said("trust", str(tmp_path / "work.ipynb"))[1]
    assert ran_again(tmp_path) == []


def test_a_workspace_in_a_repository_that_does_not_track_it_is_used(tmp_path):
    ran(tmp_path)
    committed(tmp_path, "work.ipynb")
    assert ran_again(tmp_path) == []


def test_s22_a_workspace_that_everybody_may_write_is_refused_until_it_is_closed(tmp_path):
    ran(tmp_path)
    (tmp_path / ".nbpipe").chmod(0o777)
    with pytest.raises(WorkspaceUntrusted, match="everybody may write"):
        Workspace.open(tmp_path)
    assert said("trust", str(tmp_path / "work.ipynb"))[0] == 0
    assert stat.S_IMODE((tmp_path / ".nbpipe").stat().st_mode) & stat.S_IRWXO == 0
    assert ran_again(tmp_path) == []


@needs_other_users
def test_s22_a_workspace_of_another_user_is_refused_until_it_is_accepted(tmp_path):
    ran(tmp_path)
    os.chown(tmp_path / ".nbpipe", STRANGER.number, STRANGER.number)
    with pytest.raises(WorkspaceUntrusted, match=f"it belongs to user {STRANGER.number}"):
        Workspace.open(tmp_path)
    trust_workspace(tmp_path)
    assert ran_again(tmp_path) == []


@needs_other_users
def test_s22_a_folder_for_a_group_counts_for_its_members_only(tmp_path):
    ran(tmp_path)
    os.chown(tmp_path / ".nbpipe", STRANGER.number, STRANGER.number)
    (tmp_path / ".nbpipe").chmod(0o2770)
    with pytest.raises(WorkspaceUntrusted, match="belongs to"):
        Workspace.open(tmp_path)
    os.chown(tmp_path / ".nbpipe", STRANGER.number, os.getegid())
    (tmp_path / ".nbpipe").chmod(0o2770)
    assert ran_again(tmp_path) == []


def test_an_untrusted_workspace_is_read_and_left_as_it_is(stranger):
    before, notebook, target = tree(stranger), str(stranger / "work.ipynb"), stranger.parent / "pulled"
    workspace = str(stranger / ".nbpipe")
    about = [["status"], ["runs"], ["lint"], ["why", "a"], ["pull", "b.y", "--to", str(target)]]
    for words in ([verb, notebook, *more] for verb, *more in about):
        code, text = said(*words, "--workspace", workspace)
        assert (words, code, "Traceback" in text) == (words, 0, False), text
    for words in (["show", "1"], ["compare", "1", "1"]):
        code, text = said(*words, "--workspace", workspace)
        assert (words, code, "Traceback" in text) == (words, 0, False), text
    code, text = said("plan", notebook)
    assert (code, "is not trusted" in text) == (0, True)
    assert target.is_file()
    assert tree(stranger) == before


def test_s22_the_inputs_of_a_step_are_not_loaded_from_an_untrusted_workspace(stranger):
    code, text = said("debug", str(stranger / "work.ipynb"), "b")
    assert (code, "is not trusted" in text) == (2, True)


def test_s22_runs_that_broke_off_are_not_recovered_in_an_untrusted_workspace(stranger):
    with Workspace.read(stranger) as opened:
        assert opened.context.history.is_private
        opened.context.recover()
        with pytest.raises(WorkspaceUntrusted):
            opened.context.require_trust()


def test_s22_a_planted_reading_of_a_notebook_is_not_believed(stranger):
    path, layout = stranger / "work.ipynb", find_workspace(stranger)
    cells = read_notebook(path).cells
    name = parse_cache._name(cells, time.time() + 60, {})
    relative = os.fsencode(os.path.relpath(path, layout.readings))
    entry = layout.readings / f"{parse_cache.short_digest(parse_cache.bytes_digest(relative), 32)}.txt"
    parse_cache._remember(entry, name, encode_notebook(parse_cells([*cells[:1]])))

    assert [step.name for step in request_for(path, layout).reading.steps] == ["a", "b"]
    trust_workspace(stranger)
    assert [step.name for step in request_for(path, layout).reading.steps] == ["a"]


@pytest.mark.kernel
def test_s22_a_kernel_reads_an_untrusted_workspace_and_binds_nothing_of_it(stranger):
    from magics_kernel import Kernel

    lab = Kernel(stranger, JPY_SESSION_NAME="work.ipynb")
    try:
        assert lab.run("load", "%load_ext nbpipe") == ("", "")
        assert "run 1" in lab.run("verb", "%nbpipe status")[0]
        for source in ("%nbpipe pull b.y", "%nbpipe debug b", "%%step c -o z\nz = 1", "%nbpipe run"):
            assert "is not trusted" in " ".join(lab.run(source, source)), source
        assert lab.run("verb", "'y' in dir()")[0] == "False"
        assert "from now on" in lab.run("verb", "%nbpipe trust")[0]
        assert "is not trusted" not in lab.run("verb", "%nbpipe pull b.y")[1]
    finally:
        lab.close()


def test_the_key_is_made_once_and_is_this_user_s_alone(tmp_path):
    path, start, keys = tmp_path / "nbpipe" / "key", threading.Barrier(8), set()

    def make() -> None:
        start.wait()
        keys.add(signing_key._stored_key(path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_no_folder_above_the_key_is_open_to_others_whatever_the_umask(tmp_path):
    """Whoever may write to `~/.local` decides what the user's programs load from it."""
    before = os.umask(0)
    try:
        signing_key._stored_key(tmp_path / "home" / ".local" / "share" / "nbpipe" / "key")
    finally:
        os.umask(before)
    folders = [path for path in (tmp_path / "home").rglob("*") if path.is_dir()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in folders] == [0o700] * 3


def test_a_key_that_others_may_read_is_closed_and_a_damaged_one_is_made_anew(tmp_path):
    path = tmp_path / "nbpipe" / "key"
    key = signing_key._stored_key(path)
    path.chmod(0o644)
    assert signing_key._stored_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    assert signing_key._stored_key(path) not in (key, b"short")


@needs_other_users
def test_a_key_of_another_user_is_not_used(tmp_path):
    path = tmp_path / "nbpipe" / "key"
    key = signing_key._stored_key(path)
    os.chown(path, STRANGER.number, STRANGER.number)
    assert signing_key._key_of(0, tmp_path) == signing_key._derived_key(0) != key


@needs_other_users
def test_without_a_home_the_key_is_derived_from_the_user():
    keys = {as_user(STRANGER, signing_key.signing_key), signing_key._derived_key(STRANGER.number)}
    assert len(keys) == 1
    assert signing_key._derived_key(0) not in keys


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_command_asks_git_once_for_a_workspace(tmp_path, verb, monkeypatch):
    """The request and the opening of the workspace go by one answer."""
    real, asked, bench = shutil.which("git"), tmp_path / "asked", ran(tmp_path / "project")
    assert real is not None
    subprocess.run([real, "init", "-q", bench.folder], check=True)
    subprocess.run([real, "-C", bench.folder, "add", bench.notebook], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    assert outcome([verb, str(bench.folder / bench.notebook)]) == 0

    assert asked.read_text().count("ls-files") == 1


def test_opening_a_trusted_workspace_costs_next_to_nothing(tmp_path):
    folder = ran(tmp_path).folder
    begin = time.perf_counter()
    for _ in range(100):
        look_up_workspace(folder).require_trust()
    assert (time.perf_counter() - begin) / 100 < 0.005


def test_a_history_alone_is_no_word_of_its_user(tmp_path):
    (tmp_path / ".nbpipe").mkdir()
    History.open(tmp_path / ".nbpipe" / "history.db").close()
    with pytest.raises(WorkspaceUntrusted):
        Workspace.open(tmp_path)
