"""More rows of the table of reuse cases, each test named after its row; see test_reuse_cases."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from notebook_author import Author

from nbpipe.errors import NbpipeError
from nbpipe.model import Status

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

TAKE = "%%step take -i a -o b\nb = a + 1"


def stored_names(author: Author) -> set[str]:
    """Get the base names of all that lies in the store."""
    return {path.name for path in (author.folder / ".nbpipe").rglob("objects/*/*/*")}


def test_b5_equal_strings_that_are_other_objects_are_the_same(tmp_path):
    """A pickle of [s, s] differs from one of two equal strings; a key and a stored result do not."""
    author = Author(tmp_path, "p = ['word word', 'word word']", "%%step s -o x\nx = p", "%%step t -i x -o y\ny = x",
                    parameters=0)  # fmt: skip
    author.run()
    author.cells[0] = "p = ['word word', 'word ' 'word']"
    assert author.run() == set()

    author.cells[1] = "%%step s -o x\nx = [p[0], p[0]]"
    assert author.run() == {"s"}, "the same bytes: what takes them is not run again"


def test_c20_upstream_reused_from_another_pipeline_shows_its_origin(tmp_path):
    first = Author(tmp_path, "%%step make -o a\na = 3")
    first.run()
    assert first.report is not None
    other = Author(tmp_path, "%%step produce -o a\na = 3", TAKE)
    other.path = tmp_path / "other.ipynb"
    assert other.run() == {"take"}
    origin = other.step("produce").origin
    assert origin is not None
    assert (origin.run, origin.step) == (first.report.run.id, "make")
    assert other.value("b") == 4
    assert other.run() == set()


def test_d4_another_folder_at_the_same_path_counts_by_its_content(tmp_path):
    for name, text in (("one", "1"), ("two", "2"), ("copy", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(text)
        os.utime(tmp_path / name / "a.txt", (1, 1))
    mounted = tmp_path / "data"
    mounted.symlink_to("one")
    author = Author(tmp_path, "%%step s -i all=./data/ -o x\nx = [p.read_text() for p in sorted(all.iterdir())]")
    author.run()

    mounted.unlink()
    mounted.symlink_to("two")
    assert author.run() == {"s"}
    assert author.value("x") == ["2"]
    assert author.reasons("s") == {"input:all"}

    mounted.unlink()
    mounted.symlink_to("copy")
    assert author.run() == set(), "other files, the same content"
    assert author.value("x") == ["1"]


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "raise ValueError", "os._exit(0)"])
def test_e1_what_a_step_left_half_done_is_never_seen(tmp_path, death):
    """The step writes one output whole and one in part, dies, and is mended."""
    author = Author(
        tmp_path,
        f"%%step s -o whole:file.txt,part:file.txt\nimport os\nwhole.write_text('1')\npart.write_text('ha')\n{death}",
        "%%step t -i whole,part -o x\nx = [whole.read_text(), part.read_text()]",
    )
    author.run()
    assert author.statuses() == {"s": Status.FAILED, "t": Status.SKIPPED}
    assert author.step("s").artifacts == ()
    assert stored_names(author) == set()

    author.cells[0] = author.cells[0].replace("'ha'", "'half'").replace(death, "")
    assert author.run() == {"s", "t"}
    assert author.value("x") == ["1", "half"]
    # The cell displays what its last line returned.
    assert stored_names(author) == {"whole.txt", "part.txt", "x.json", "display.json"}


@pytest.mark.parametrize("left", ["import sys\nsys.exit(0)", "import sys\nsys.exit()", "quit()", "raise SystemExit"])
def test_e2_leaving_before_the_outputs_are_made_fails(tmp_path, left):
    author = Author(tmp_path, f"%%step make -o a\na = 3\n{left}", TAKE)
    author.run()
    assert author.statuses() == {"make": Status.FAILED, "take": Status.SKIPPED}
    assert author.step("make").failure is not None
    assert author.run() == {"make"}, "there is no result to reuse"


@pytest.mark.parametrize(
    "declared, code",
    [
        ("a", "if False:\n    a = 1"), ("a:file.txt", "pass"), ("a:dir", "a.rmdir()"),
        ("a,b", "a = 1\nif False:\n    b = 2"),
    ],
)  # fmt: skip
def test_e3_an_output_that_was_not_made_fails_and_is_named(tmp_path, declared, code):
    author = Author(tmp_path, f"%%step make -o {declared}\n{code}")
    author.run()
    assert author.statuses() == {"make": Status.FAILED}
    failure = author.step("make").failure
    assert failure is not None
    assert f"`{declared.rpartition(',')[2].partition(':')[0]}`" in failure.message
    assert author.step("make").artifacts == ()


def test_e10_a_changed_step_runs_although_its_destination_is_there(tmp_path):
    """What lies at a destination is nobody's record of what was run; on a hit it is filled again."""
    author = Author(tmp_path, "%%step make -o a:json=./a.json\na = 1")
    author.run()
    assert (tmp_path / "a.json").read_text().strip() == "1"
    author.cells[0] = author.cells[0].replace("a = 1", "a = 2")
    assert author.run() == {"make"}
    assert (tmp_path / "a.json").read_text().strip() == "2"

    author.cells[0] = author.cells[0].replace("a = 2", "a = 1")
    assert author.run() == set()
    assert (tmp_path / "a.json").read_text().strip() == "1"


@pytest.mark.parametrize("second", ["./out/a.json", "out/a.json", "./out/../out/a.json", "./{step}/a.json", "./out/"])
def test_e13_two_steps_with_one_destination_are_refused(tmp_path, second):
    author = Author(tmp_path, "%%step one -o a:json=./out/a.json\na = 1", f"%%step out -o b:json={second}\nb = 2")
    with pytest.raises(NbpipeError, match="destination") as caught:
        author.run()
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("moment", ["before it is read", "after it was read"])
def test_c8_an_input_that_others_change_before_or_after_it_is_read_is_doubtful(tmp_path, moment):
    """Whichever bytes the step has seen, nobody can tell: its result serves this run only."""
    data, started, changed = tmp_path / "data.txt", tmp_path / "started", tmp_path / "changed"
    data.write_text("one")
    wait = (
        "pathlib.Path('started').write_text('')\n"
        "while not pathlib.Path('changed').exists():\n    time.sleep(0.02)\n"
    )  # fmt: skip
    read = "n = raw.read_text()\n"
    body = wait + read if moment == "before it is read" else read + wait
    author = Author(
        tmp_path, f"%%step s -i raw=./data.txt -o n\nimport pathlib, time\n{body}", "%%step t -i n -o m\nm = n"
    )

    def edit() -> None:
        while not started.exists():
            time.sleep(0.02)
        data.write_text("two")
        changed.write_text("")

    other = threading.Thread(target=edit)
    other.start()
    assert author.run() == {"s", "t"}
    other.join()
    assert author.statuses() == {"s": Status.SUCCEEDED, "t": Status.SUCCEEDED}
    assert author.value("m") == ("two" if moment == "before it is read" else "one")

    for text in ("one", "two"):
        Path(data).write_text(text)
        assert author.plan().decisions["s"].verdict.__class__.__name__ == "RunVerdict", text


def test_d8_a_declared_seed_counts_and_without_one_a_result_is_reused_all_the_same(tmp_path):
    author = Author(
        tmp_path,
        "seed = 1",
        "%%step seeded -o a\nimport random\na = random.Random(seed).random()",
        "%%step unseeded -o b\nimport random\nb = random.random()",
        parameters=0,
    )
    author.run()
    before = author.value("b")
    assert author.run() == set()
    assert author.run(texts={"seed": "2"}) == {"seeded"}
    assert author.value("b") == before
