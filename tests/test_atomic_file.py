"""A file is written whole or not at all, whatever happens to whoever writes it."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nbpipe.data.atomic_file import create_file, draft_beside, flush, put_in_place, write_file

WRITER = """
import sys
from pathlib import Path
from nbpipe.data.atomic_file import write_file
sys.stdout.write("begun\\n")
sys.stdout.flush()
number = 0
while True:
    number += 1
    write_file(Path(sys.argv[1]), bytes([number % 256]) * 3_000_000, durable=sys.argv[2] == "durable")
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path, durable):
    for content in (b"one", b"", b"three"):
        write_file(tmp_path / "x", content, durable=durable)
        assert (tmp_path / "x").read_bytes() == content

    assert names(tmp_path) == ["x"]


def test_a_file_is_its_owner_s_unless_a_mode_is_given_from_which_the_umask_takes(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "plain", b"", mode=0o666, durable=False)
        write_file(tmp_path / "own", b"", durable=False)
    finally:
        os.umask(before)

    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "own")] == [0o640, 0o600]


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path):
    write_file(tmp_path / ("x" * 255), b"1", durable=True)

    assert names(tmp_path) == ["x" * 255]


def test_a_file_that_is_there_is_not_created_again(tmp_path):
    create_file(tmp_path / "x", b"mine", durable=True)
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "x", b"theirs", durable=False)

    assert (tmp_path / "x").read_bytes() == b"mine"


@pytest.mark.parametrize("durable", ["durable", "quick"])
def test_a_reader_finds_one_content_or_the_other_also_when_the_writer_is_killed(tmp_path, durable):
    target = tmp_path / "x"
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(target), durable]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            ends = time.monotonic() + 0.2
            while time.monotonic() < ends or not target.exists():
                if target.exists():
                    content = target.read_bytes()
                    assert (len(content), len(set(content))) == (3_000_000, 1)
            writer.send_signal(signal.SIGKILL)
        content = target.read_bytes()
        assert (len(content), len(set(content))) == (3_000_000, 1)


def test_a_file_that_does_not_fit_leaves_what_was_there(tmp_path):
    write_file(tmp_path / "x", b"before", durable=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(tmp_path / "x", b"y" * 100_000, durable=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)

    assert (names(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"before")


def test_a_draft_that_is_given_up_is_gone(tmp_path):
    (tmp_path / "x").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        give_up(tmp_path / "x")

    assert (names(tmp_path), (tmp_path / "x").read_text()) == (["x"], "before")


def give_up(target: Path) -> None:
    with draft_beside(target) as draft:
        draft.mkdir()
        (draft / "part").write_text("")
        raise KeyboardInterrupt


def place(target: Path, kind: str, content: str) -> None:
    with draft_beside(target) as draft:
        if kind == "folder":
            draft.mkdir()
            (draft / content).write_text(content)
        else:
            draft.write_text(content)
        flush(draft)
        put_in_place(draft, target, durable=True)


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
@pytest.mark.parametrize("after", ["file", "folder"])
def test_a_file_or_folder_takes_the_place_of_whatever_is_there(tmp_path, before, after):
    target = tmp_path / "x"
    if before != "nothing":
        place(target, before, "old")
    place(target, after, "new")

    assert names(tmp_path) == ["x"]
    assert (names(target) if after == "folder" else target.read_text()) == (["new"] if after == "folder" else "new")


def test_a_folder_that_has_come_meanwhile_may_stay(tmp_path):
    place(tmp_path / "x", "folder", "theirs")
    with draft_beside(tmp_path / "x") as draft:
        draft.mkdir()
        (draft / "mine").write_text("")
        put_in_place(draft, tmp_path / "x", durable=True, keep=lambda: True)

    assert (names(tmp_path), names(tmp_path / "x")) == (["x"], ["theirs"])


def test_what_cannot_be_put_in_place_leaves_what_was_there(tmp_path):
    place(tmp_path / "x", "folder", "old")
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "no draft", tmp_path / "x", durable=True)
    assert names(tmp_path / "x") == ["old"]
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        write_file(tmp_path / "file" / "x", b"", durable=True)

    assert names(tmp_path) == ["file", "x"]


def test_many_at_once_put_whole_folders(tmp_path):
    failures: list[BaseException] = []

    def put(number: int) -> None:
        try:
            for _ in range(20):
                with draft_beside(tmp_path / "x") as draft:
                    draft.mkdir()
                    for part in "abc":
                        (draft / part).write_text(str(number))
                    put_in_place(draft, tmp_path / "x", durable=False, keep=lambda: True)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert failures == []
    assert len({(tmp_path / "x" / part).read_text() for part in "abc"}) == 1
    assert names(tmp_path) == ["x"]
