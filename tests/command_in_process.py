"""The command line, called in the process of a test."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

from nbpipe.cli import main


def said(*words: str) -> tuple[int, str]:
    """Call the command line in this process, and get its exit code and all that it wrote."""
    text = io.StringIO()
    try:
        with redirect_stdout(text), redirect_stderr(text):
            main(words)
    except SystemExit as ended:
        return int(str(ended.code or 0)), text.getvalue()
    raise AssertionError("it never returns")
