"""Cells that IPython runs are read, and what it refuses is refused: asked of a real shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from sample_cells import code_of, fine, read, shared_names

from nbpipe.errors import BadCode, SourceLocation
from nbpipe.language.ipython_syntax import check_cell, parse_cell

STEP = "%%step a -o x\nx = 1"

RUN = (
    *(";", "; ;", "  ;", ";\n;", "\n\n;\n", "# c\n;", "x = 1;", "x = 1;\n;", "x = 1\n;\ny = 2", ";\r\nx = 1"),
    *("if 1:\n    ;\n    x = 1", "def f():\n    x = 1\n    ;\n", "class A:\n    x = 1;\n    ;", "; a 'b"),
    *(",", ", str a b", "; str a b", "/str 3", "?", "print?", "?print", "print??", "*int*?", "x = 1; x?", "x = 1\n?"),
    *("", "\n\n", "# only", "  # c\n  x = 1", "\tx = 1\n\ty = 2", "\n  \n  x = 1\n  y = 2", "\x0cx = 1", "\x0b x = 1"),
    *(">>> x = 1\n>>> y = 2\n", ">>> if 1:\n...     x = 1\n", "In [1]: x = 1\n   ...: y = 2", "s = '''\n>>> q\n'''"),
    *("import os\nfrom __future__ import annotations", "x = 1\nglobal x", "def f(): pass\nawait_ = 1\nglobal f"),
    *("a = %pwd", "a = !true", "!true", "!", "!!true", "for i in []:\n    !true", "try:\n    %pwd\nfinally: pass"),
    *("ls", "ls /", "cd /", "pinfo print", "hist 1", "less /dev/null", "who", "who int", "mkdir -p /"),
    *("%%capture\nx = 1", "%%capture\n    x = 1", "%%capture\n\n%%time\n;", "%%time\n;\nx = 1", "%%bash\n'"),
    *("%%capture\n%%sx\n'", "%%sx\n'", "%%capture c\nx = 1\n;"),
)  # fmt: skip
REFUSED = (
    *("x = 1;;", "x = 1; ; y = 2", "x = 1 ;\n  ;", "1 +\n;", "x = (1,\n ;\n)", "/", "/ str", "print ?", "'a'?", "f()?"),
    *("  x = 1\ny = 2", "# c\n  x = 1", "... x", "x = 1; %pwd", "x += !true", "return", "x = %", "ls -l 'a'\nx = 1"),
    *("x = 1\nnonlocal x", "\ufeffx = 1", "x = \u037e", "nosuchmagic of mine", "def f():\n    x = 1\n    global x"),
)  # fmt: skip


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """Make the one shell of a process, as a kernel has it: it replaces ``__main__``, and its cells change directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        patch.chdir(Path.cwd())
        yield InteractiveShell.instance()
        InteractiveShell.clear_instance()


def _result(shell: InteractiveShell, source: str, capsys: pytest.CaptureFixture[str]) -> ExecutionResult:
    shell.reset(new_session=False)  # type: ignore[no-untyped-call]
    result = shell.run_cell(source)
    capsys.readouterr()
    return result


@pytest.mark.parametrize("source", RUN)
def test_what_ipython_runs_does_not_stop_a_plan(
    shell: InteractiveShell, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _result(shell, source, capsys)
    assert result.error_before_exec is None
    assert not isinstance(result.error_in_exec, SyntaxError)
    fine(source, STEP)


@pytest.mark.parametrize("source", REFUSED)
def test_what_ipython_refuses_is_refused(
    shell: InteractiveShell, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _result(shell, source, capsys)
    assert isinstance(result.error_before_exec or result.error_in_exec, SyntaxError)
    (error,) = read(source, STEP).errors
    assert isinstance(error, BadCode)
    assert error.place.cell == 1


@pytest.mark.parametrize(
    "source", [";", "x = 1\n;", "if 1:\n    ;\n    x = 1", "x = 1;\n; ;", "import os\nglobal os\nx = 1"]
)
def test_a_step_may_hold_what_ipython_runs(source: str) -> None:
    fine(f"%%step a -o x\nx = 0\n{source}")


def test_definitions_beside_a_semicolon_are_shared() -> None:
    code = code_of(";\nlimit = 3;\ndef f():\n    return limit;\n;", "%%step a -o x\nx = f()")
    assert shared_names(code) == ["f", "limit"]


@pytest.mark.parametrize(
    "source, text",
    [
        ("    # why\n    limit = 3  # three", "limit = 3  # three"),
        (">>> limit = 3  # three", "limit = 3  # three"),
        ("limit = '''\n>>> a\n'''", "limit = '''\na\n'''"),
        ("%%capture\n    limit = 3", "limit = 3"),
        ("%%time\n%%capture\nlimit = 3;", "limit = 3;"),
    ],
)
def test_a_definition_is_what_ipython_makes_of_its_cell(source: str, text: str) -> None:
    code = code_of(source, "%%step a -o x\nx = limit")
    assert [item.source for item in code.definitions] == [text]


def test_an_error_is_told_with_its_line_below_blank_lines() -> None:
    with pytest.raises(BadCode) as caught:
        parse_cell("\n\n%pwd\nx = )", SourceLocation(1))
    assert caught.value.place.line == 4
    with pytest.raises(BadCode) as caught:
        check_cell("\n;\nreturn", SourceLocation(1))
    assert caught.value.place.line == 3
