"""Two runs side by side: what differs is told, what is the same is not."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from sample_pipelines import artifact

from nbpipe.model import ExecutionRecord, GitState, KeyComponent, Metric, RunRecord, Status
from nbpipe.views.run_comparison import ComparedRun, comparison_html, comparison_lines, comparison_object, pairs

RUN = RunRecord("r1", 3, "p1", "/n.ipynb", "n", Status.SUCCEEDED, 0.0, 4.0, {"rate": 0.1, "depth": 3}, {}, None, "me")
AGAIN = dataclasses.replace(
    RUN, id="r2", number=5, parameters={"rate": 0.2, "depth": 3}, git=GitState("", "main", "abcdef0123456", dirty=True)
)
CODE = KeyComponent("code", "c1", "2 lines", "# %%step fit\nx = rate")
RATE = KeyComponent("parameter:rate", "p1", "0.1")
FILES = KeyComponent("input:raw", "i1", "1 files", "a.csv\t3\tblake3:11111111aa")


def fit(run: str, *components: KeyComponent, **changes: Any) -> ExecutionRecord:
    """Get a step's record in a run."""
    told = {
        "attempts": 1,
        "seconds": 2.5,
        "artifacts": (artifact("model"), artifact("report")),
        "status": Status.SUCCEEDED,
    }
    told |= {"saved_seconds": 0.0, "reasons": (), "key": "k", "origin": None, "notebook": None, "failure": None}
    return ExecutionRecord(f"{run}-fit", run, "fit", 0, components=components, **{**told, **changes})


def metric(run: str, name: str, value: float) -> Metric:
    """Get a number that the step logged."""
    return Metric(run, "fit", "a", 1, name, value, None, 0.0)


BEFORE = ComparedRun(RUN, [fit("r1", CODE, RATE, FILES)], [metric("r1", "loss", 3.0), metric("r1", "loss", 0.5)])
AFTER = ComparedRun(
    AGAIN,
    [
        fit(
            "r2",
            dataclasses.replace(CODE, digest="c2", text="# %%step fit\nx = rate * 2"),
            dataclasses.replace(RATE, digest="p2", summary="0.2"),
            dataclasses.replace(FILES, digest="i2", text="a.csv\t4\tblake3:22222222aa"),
            artifacts=(artifact("model", "2"), artifact("report")),
        ),
        dataclasses.replace(fit("r2"), step="extra", status=Status.SKIPPED, attempts=0, artifacts=()),
    ],
    [metric("r2", "loss", 0.25), metric("r2", "score", float("nan"))],
)


def test_the_lines_tell_all_that_differs():
    text = "\n".join(comparison_lines(BEFORE, AFTER, 200))

    assert "parameter rate  0.1" in text
    assert "parameter depth" not in text
    assert "abcdef01 (main) with changes" in text
    assert "the step's code changed" in text
    assert "parameter rate: 0.1 → 0.2" in text
    assert "outputs that differ: model; the same: report" in text
    assert "+x = rate * 2" in text
    assert "~ a.csv (3 bytes, 11111111 → 4 bytes, 22222222)" in text
    assert "only in one run" in text
    assert "fit: loss   0.5    0.25   -0.25" in text


def test_the_object_has_values_side_by_side_and_is_json():
    told = json.loads(json.dumps(comparison_object(BEFORE, AFTER), allow_nan=False))

    assert [run["number"] for run in told["runs"]] == [3, 5]
    assert told["parameters"] == {"rate": [0.1, 0.2], "depth": [3, 3]}
    (first, second) = told["steps"]
    assert (first["name"], second["name"], second["status"]) == ("fit", "extra", [None, "skipped"])
    assert [item["component"] for item in first["differences"]] == ["code", "parameter:rate", "input:raw"]
    assert {name: item["same"] for name, item in first["outputs"].items()} == {"model": False, "report": True}
    assert first["metrics"] == {"loss": [0.5, 0.25], "score": [None, "nan"]}


def test_what_only_an_earlier_attempt_logged_is_marked():
    first = dataclasses.replace(metric("r1", "only_first", 7.0), earlier_attempt=1)
    left, right = dataclasses.replace(BEFORE, metrics=[first]), dataclasses.replace(AFTER, metrics=())
    (told, _) = comparison_object(left, right)["steps"]

    assert "fit: only_first  7 (attempt 1)  –" in "\n".join(comparison_lines(left, right, 200))
    assert (told["metrics"], told["metric_attempts"]) == ({"only_first": [7.0, None]}, {"only_first": [1, None]})
    assert comparison_object(BEFORE, AFTER)["steps"][0]["metric_attempts"] == {}
    again = dataclasses.replace(AFTER, metrics=[metric("r2", "only_first", 8.0)])
    assert "fit: only_first  7 (attempt 1)  8\n" in "\n".join([*comparison_lines(left, again, 200), ""])


def test_a_run_compared_with_itself_differs_in_nothing():
    (pair,) = pairs(BEFORE, BEFORE)

    assert pair.differences == ()
    assert "the same outputs" in "\n".join(comparison_lines(BEFORE, BEFORE, 200))


def test_the_html_shows_the_same_and_escapes_it():
    wild = dataclasses.replace(AFTER, run=dataclasses.replace(AGAIN, parameters={"rate": "<b>", "depth": 3}))
    html = comparison_html(BEFORE, wild).text

    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "+x = rate * 2" in html
    assert html.count("<table") == html.count("</table>") == 3


def test_the_lines_fit_a_narrow_terminal():
    assert max(map(len, comparison_lines(BEFORE, AFTER, 60))) <= 160
