"""An input that is changed in ways the text does not show is found when the step ends, and told from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from notebook_author import Author

from nbpipe.data import formats
from nbpipe.execution.kernel_runtime.input_watch import InputWatch
from nbpipe.model import Status

MAKE = (
    "%%step make -o rows, table, numbers\nimport numpy as np\nimport pandas as pd\nrows = [1, [2, 3]]\n"
    "table = pd.DataFrame({'x': [1.0, None]})\nnumbers = np.arange(3)"
)
HIDDEN = (
    "%%step use -i rows, table, numbers -o n\ngetattr(table, 'insert')(0, 'y', 1)\nexec('rows[1].append(4)')\n"
    "n = len(numbers)"
)
NOTE = "the input `{}` is changed in place, which no other step sees"


def loaded(folder: Path, value: Any, began: float = -100.0) -> tuple[InputWatch, Any]:
    """Get a stored value as a step has loaded it."""
    folder.mkdir()
    saved = formats.save(value, name="v", format=None, folder=folder)
    path = folder / saved.basename
    watch, again = InputWatch(), formats.load(path, saved.format)
    watch.began += began
    watch.loaded("v", saved.format, path, again)
    return watch, again


def test_values_that_stay_as_they_were_are_not_told(tmp_path):
    values = [
        [1, float("nan"), "a"],
        {"a": [1]},
        np.array([1.0, np.nan]),
        pd.DataFrame({"x": [1.0, None], "y": ["a", None]}),
    ]
    for at, value in enumerate(values):
        watch, again = loaded(tmp_path / str(at), value)
        assert watch.changed([]) == [], again


def test_changed_values_are_told_except_outputs(tmp_path):
    watch, rows = loaded(tmp_path / "a", [1, [2]])
    rows[1].append(3)
    assert watch.changed([]) == ["v"]
    watch, table = loaded(tmp_path / "b", pd.DataFrame({"x": [1.0]}))
    table["y"] = 1
    assert watch.changed(["v"]) == []
    watch, numbers = loaded(tmp_path / "c", np.arange(3))
    numbers = numbers if numbers.flags.writeable else None
    if numbers is not None:
        numbers[0] = 9
        assert watch.changed([]) == ["v"]


def test_a_step_that_is_too_short_for_its_inputs_is_not_slowed_down(tmp_path):
    watch, rows = loaded(tmp_path / "a", list(range(100_000)), began=0.0)
    rows[0] = 5
    assert watch.changed([]) == []


@pytest.mark.kernel
@pytest.mark.slow
def test_what_only_a_run_shows_is_a_note_then_and_a_warning_afterwards(tmp_path):
    author = Author(tmp_path, MAKE, HIDDEN)
    assert [item for item in author.plan().warnings if item.code == "changed-input"] == []
    author.run()
    assert set(author.step("use").notes) == {NOTE.format("rows"), NOTE.format("table")}
    for _ in range(2):
        told = [item.message for item in author.plan().warnings if item.code == "changed-input"]
        assert told == [NOTE.format("rows"), NOTE.format("table")]
        author.run()
        assert author.statuses()["use"] is Status.REUSED

    author.cells[1] = HIDDEN.replace("getattr(table", "getattr(table.copy()").replace(
        "exec('rows[1].append(4)')", "pass"
    )
    assert [item for item in author.plan().warnings if item.code == "changed-input"] == []
