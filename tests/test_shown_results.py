"""What a step displayed, printed and measured belongs to its result: every face shows it again when it is reused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_in_process import said
from notebook_author import Author

from nbpipe.data.stored_display import DISPLAYED, PRINTED, display_text
from nbpipe.model import AttemptLog, Status
from nbpipe.views.log_text import text_of_log
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

SHOWS = """\
%%step look
#| shows: true
import nbpipe
from IPython.display import HTML, display
print("printed")
display(HTML("<b>bold</b>"))
nbpipe.log_metric("loss", 0.5)
"""
MAKES = '%%step make -o x\nprint("made")\nx = 1'


def objects(author: Author) -> list[Path]:
    """Return the files of the stored displays."""
    return sorted((author.folder / ".nbpipe" / "store").rglob("display.json"))


def shown(author: Author, step: str) -> AttemptLog:
    """Return what the last run shows of a step."""
    with Workspace.open(author.folder) as workspace:
        return workspace.results.shown_again(author.step(step))


def media(log: AttemptLog) -> list[set[str]]:
    """Return the media types of each display, those of records left out."""
    outputs = [out for cell in log.notebook_json["cells"] for out in cell["outputs"] if "data" in out]
    return [set(out["data"]) for out in outputs if not any("nbpipe" in kind for kind in out["data"])]


def test_a_step_that_shows_is_reused_and_shows_what_it_displayed(tmp_path):
    author = Author(tmp_path, SHOWS)
    assert author.run() == {"look"}
    assert author.run() == set()
    assert author.statuses() == {"look": Status.REUSED}
    again = shown(author, "look")
    assert media(again) == [{"text/html", "text/plain"}]
    assert "printed" in text_of_log(again)
    assert again.origin is not None
    with Workspace.open(tmp_path) as workspace:
        run, steps, metrics = workspace.runs.recorded("2")
    assert [(metric.name, metric.value, metric.run) for metric in metrics] == [("loss", 0.5, run.id)]
    assert steps[0].origin is not None


def test_a_step_with_neither_outputs_nor_shows_always_runs_and_says_why(tmp_path):
    author = Author(tmp_path, '%%step look\nprint("x")')
    assert [author.run(), author.run()] == [{"look"}, {"look"}]
    assert "shows: true" in (author.step("look").reasons[0].now or "")


def test_what_shows_nothing_is_reused_as_well(tmp_path):
    author = Author(tmp_path, "%%step look --shows true\nfor _ in range(3):\n    pass")
    assert [author.run(), author.run()] == [{"look"}, set()]
    assert text_of_log(shown(author, "look")) == ""


@pytest.mark.parametrize("outputs", ["", " -o x"])
def test_a_result_made_without_shows_is_not_reused_with_it(tmp_path, outputs):
    author = Author(tmp_path, f"%%step look{outputs}\nx = 1\nprint(x)")
    author.run()
    author.cells = [f"%%step look{outputs} --shows true\nx = 1\nprint(x)"]
    assert author.run() == {"look"}
    assert author.reasons("look") == {"shows"}
    author.cells = [f"%%step look{outputs} --shows false\nx = 1\nprint(x)"]
    assert author.run() == ({"look"} if not outputs else set())


def test_the_display_survives_without_the_executed_notebook(tmp_path):
    author = Author(tmp_path, MAKES)
    author.run()
    shutil.rmtree(tmp_path / ".nbpipe" / "runs")
    assert author.run() == set()
    assert text_of_log(shown(author, "make")) == "made"
    code, text = said("logs", str(author.path), "make")
    assert (code, text) == (0, "make was reused: this is the output of run 1\nmade\n")


def test_a_damaged_display_is_a_note_and_never_shown(tmp_path):
    author = Author(tmp_path, MAKES)
    author.run()
    (display,) = objects(author)
    display.chmod(0o600)
    display.write_text(display.read_text().replace("made", "fake"))
    assert author.run() == set()
    log = shown(author, "make")
    assert log.notebook_json == {}
    assert "what the step displayed is damaged" in log.problem
    code, text = said("logs", str(author.path), "make")
    assert (code, text) == (0, "make was reused: this is the output of run 1\nmade\n"), "of the executed notebook"


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_step_that_shows_runs_again_when_its_display_is_not_whole(tmp_path, harm):
    author = Author(tmp_path, SHOWS)
    author.run()
    (display,) = objects(author)
    display.parent.chmod(0o700)
    display.chmod(0o600)
    if harm == "missing":
        display.unlink()
    else:
        display.write_text("{}")
    report = verify_workspace(tmp_path, full=True)
    assert any("what the step displayed" in problem.said for problem in report.problems)
    assert author.run() == {"look"}
    assert author.run() == set()
    assert "printed" in text_of_log(shown(author, "look"))


def test_verify_repairs_a_damaged_display_by_withdrawing_its_result(tmp_path):
    author = Author(tmp_path, MAKES)
    author.run()
    (display,) = objects(author)
    display.chmod(0o600)
    display.write_text("{}")
    code, text = said("verify", str(author.path), "--full", "--repair")
    assert code == 0
    assert "what the step displayed" in text
    assert author.run() == {"make"}
    assert said("verify", str(author.path), "--full")[0] == 0


def test_a_lost_history_is_rebuilt_with_the_displays(tmp_path):
    author = Author(tmp_path, SHOWS)
    author.run()
    (tmp_path / ".nbpipe" / "history.db").unlink()
    assert said("verify", str(author.path), "--repair")[0] in (0, 1)
    assert author.run() == set()
    assert "printed" in text_of_log(shown(author, "look"))


def test_show_says_from_which_run_a_metric_is(tmp_path):
    author = Author(tmp_path, SHOWS)
    author.run()
    author.run()
    assert "look: loss = 0.5 (from run 1)" in said("show", "2", "--workspace", str(tmp_path / ".nbpipe"))[1]
    assert "look: loss = 0.5 (from run 1)" in said("status", str(author.path))[1]
    _, text = said("logs", str(author.path), "look", "--json")
    assert json.loads(text)["origin"]["step"] == "look"


def test_accept_needs_the_display_of_a_step_that_shows(tmp_path):
    author = Author(tmp_path, "%%step look -o x\nx = 1")
    author.run()
    author.cells = ["%%step look -o x --shows true\nx = 1"]
    author.write()
    code, text = said("accept", str(author.path), "look")
    assert code == 2
    assert "was not stored" in text


def notebook(*outputs: dict[str, Any]) -> dict[str, Any]:
    """Return an executed notebook with one cell of a step."""
    return {"cells": [{"metadata": {"nbpipe": {"role": "step"}}, "outputs": list(outputs)}]}


def kept(*outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is stored of these outputs."""
    found: list[dict[str, Any]] = json.loads(display_text(notebook(*outputs)) or "")["cells"][0]["outputs"]
    return found


def test_of_much_printed_text_the_end_is_kept_and_the_rest_counted():
    line = "a" * 99 + "\n"
    first, second = kept(
        {"output_type": "stream", "name": "stdout", "text": line * 10},
        {"output_type": "stream", "name": "stderr", "text": line * (PRINTED // 100)},
    )
    assert first["text"] == "[nbpipe left out 10 lines (1,000 characters)]\n"
    assert second["text"] == line * (PRINTED // 100)


def test_of_many_displays_those_beyond_the_limit_are_named_with_their_size():
    big = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "x" * (DISPLAYED // 2 + 1)}}
    small = {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "y"}}
    first, second, third = kept(big, big, small)
    assert len(first["data"]["image/png"]) > DISPLAYED // 2
    assert second["data"] == {"text/plain": f"[nbpipe left out image/png: {DISPLAYED // 2 + 18:,} bytes]"}
    assert third == small


def test_a_cell_without_output_stores_nothing():
    assert display_text(notebook()) is None
