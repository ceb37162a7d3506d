"""The metrics of a step that was tried several times are those of its newest attempt; others are told as theirs."""

from __future__ import annotations

import pytest
from notebook_author import Author

from nbpipe.views.json_output import metrics_object
from nbpipe.views.text_tables import metric_lines
from nbpipe.workspace import Workspace

pytestmark = pytest.mark.kernel

FAILS_ONCE = """\
%%step train -o a --retries 1
import pathlib
import nbpipe
mark = pathlib.Path("tried")
for number in range(3):
    nbpipe.log_metric("loss", number)
if not mark.exists():
    mark.touch()
    nbpipe.log_metric("peak", 7)
    raise ValueError("once")
a = 1
"""


def test_the_newest_attempt_counts_and_what_only_an_earlier_one_logged_is_marked(tmp_path):
    author = Author(tmp_path, FAILS_ONCE)
    author.run()
    assert author.step("train").attempts == 2
    with Workspace.open(tmp_path) as workspace:
        run, _, metrics = workspace.runs.recorded("1")
        logged = workspace.context.history.log.metrics(run.id)

    assert [(each.name, each.value, each.earlier_attempt) for each in metrics] == [
        ("loss", 0.0, None), ("loss", 1.0, None), ("loss", 2.0, None), ("peak", 7.0, 1),
    ]  # fmt: skip
    assert len(logged) == 7
    assert metric_lines(metrics) == ["train: loss = 2 (the last of 3 values)", "train: peak = 7 (attempt 1)"]
    told = metrics_object(metrics)["train"]
    assert [point["value"] for point in told["loss"]] == [0.0, 1.0, 2.0]
    assert told["peak"][0]["attempt"] == 1
