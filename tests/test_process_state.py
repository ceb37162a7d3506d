"""What a process has once and a cell or step replaces: streams, modules, built-in functions, the working folder."""

from __future__ import annotations

import pytest
from sample_cells import fine


def told(*sources: str) -> list[str]:
    """Get the messages about changes that no declaration hands over."""
    return [warned.message for warned in fine(*sources).warnings if warned.code == "hidden-change"]


@pytest.mark.parametrize(
    "change, expected",
    [
        ("import io, sys\nsys.stdout = io.StringIO()", "replaces `sys.stdout`, and `b` starts with"),
        ("import sys\nsys.stderr = open('log.txt', 'w')", "replaces `sys.stderr`"),
        ("import sys\ndef quiet():\n    sys.stdout = None\nquiet()", "replaces `sys.stdout`"),
        ("import sys\nsys.displayhook = print", "replaces `sys.displayhook`"),
        ("import sys\nsys.modules['json'] = None", "changes `json`, which `b` gets as it is defined"),
        ("import os\ndef enter():\n    os.chdir('data')\nenter()", "changes the working folder"),
        ("import builtins\nbuiltins.print = None", "rebinds `print`, which `b` gets as Python defines it"),
    ],
)  # fmt: skip
def test_what_a_process_has_once_counts_however_it_is_replaced(change: str, expected: str):
    use = "%%step b -o y\nimport json\nprint(1)\ny = json.dumps(1)"
    for cell in (change, f"%%step a -o n\n{change}\nn = 1"):
        assert expected in " ".join(told(cell, use))


@pytest.mark.parametrize(
    "harmless",
    [
        "import io, sys\nold = sys.stdout\nsys.stdout = io.StringIO()\nsys.stdout = old",
        "import io, sys\nsys.stdout = io.StringIO()\nsys.stdout = sys.__stdout__",
        "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n    print(1)",
        "import sys\ndef catch():\n    old = sys.stdout\n    sys.stdout = None\n    sys.stdout = old\ncatch()",
    ],
)  # fmt: skip
def test_a_stream_that_is_put_back_is_not_told(harmless: str):
    assert told(f"%%step a -o n\n{harmless}\nn = 1", "%%step b -o y\nprint(1)\ny = 1") == []
