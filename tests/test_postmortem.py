"""What is kept of a failing frame: values, within bounds, and no secrets."""

from __future__ import annotations

import stat
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbpipe.data import postmortem


def failed(work: Any) -> Exception:
    """Get the error that a function raises."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError(work)


def recalled(folder: Any, **held: Any) -> dict[str, Any]:
    """Get what is kept of a function's frame that holds these values."""
    lines = [
        "def work(_held):",
        *(f"    {name} = _held[{name!r}]" for name in held),
        "    del _held",
        "    raise ValueError",
    ]
    space: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<cell>", "exec"), space)  # noqa: S102 - a frame with names of the test's choice
    postmortem.keep_postmortem(failed(lambda: space["work"](held)), folder, lambda file: file == "<cell>")
    kept = postmortem.read_postmortem(folder)
    assert kept is not None
    assert (kept.function, kept.line) == ("work", len(lines))
    return dict(kept.held)


def test_plain_values_arrays_and_tables_come_back(tmp_path):
    plain = {"a": [1, (2.5, None)], "b": {"x": {3}}, "c": b"z", "d": True}
    kept = recalled(tmp_path, **plain, array=np.arange(6).reshape(2, 3), table=pd.DataFrame({"q": [1, 2]}))

    assert {name: kept[name] for name in plain} == plain
    assert kept["array"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert kept["table"].to_dict("list") == {"q": [1, 2]}


def test_everything_else_is_a_text(tmp_path):
    class Odd:
        def __repr__(self) -> str:
            return "odd" * 5_000

    class Broken:
        def __repr__(self) -> str:
            raise OSError

    kept = recalled(tmp_path, odd=Odd(), broken=Broken(), nan=float("nan"), fine=1)

    assert kept["odd"].startswith("oddodd")
    assert len(kept["odd"]) <= 2_000
    assert "OSError" in kept["broken"]
    assert (kept["nan"], kept["fine"]) == ("nan", 1)


def test_a_table_that_its_format_does_not_hold_is_a_text(tmp_path):
    kept = recalled(tmp_path, table=pd.DataFrame({"q": [1, object(), "x"]}), after=1)

    assert kept["table"].split()[0] == "q"
    assert kept["after"] == 1


def test_what_is_too_large_is_a_text(tmp_path):
    kept = recalled(tmp_path, large=np.zeros(10_000_000), long="x" * 40_000_000)

    assert isinstance(kept["large"], postmortem.ValueText)
    assert len(kept["long"]) <= 2_000


def test_secrets_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE", "postgres://me:hush-hush@host")
    held = {"api_token": "abc", "url": ["postgres://me:hush-hush@host"], "my_password": "y", "plain": "fine"}
    kept = recalled(tmp_path, **held)

    text = (tmp_path / "postmortem" / "frame.json").read_text()
    assert "hush-hush" not in text
    assert "abc" not in text
    assert "left out" in kept["my_password"]
    assert kept["plain"] == "fine"


def test_files_are_their_owners(tmp_path):
    recalled(tmp_path, array=np.arange(3))

    folder = tmp_path / "postmortem"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})


def test_a_value_that_takes_for_ever_to_show_holds_nobody_up(tmp_path):
    class Slow:
        def __repr__(self) -> str:
            time.sleep(3_600)
            return ""

    kept = recalled(tmp_path, first=1, slow=Slow(), last=2)

    assert kept == {"first": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_nothing_is_kept_where_the_end_was_no_failure_of_the_code(tmp_path, error):
    postmortem.keep_postmortem(error(), tmp_path, lambda _file: True)

    assert postmortem.read_postmortem(tmp_path) is None
    assert postmortem.names_kept(tmp_path) == ()
