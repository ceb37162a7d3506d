"""Control characters of any origin are shown on a terminal, in a notebook and in JSON, and never obeyed."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebook_author import write_notebook

from nbpipe.views.terminal_text import harmless_json, harmless_lines

CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")
EVIL = {
    "escape": "\x1b]0;title\x07\x1b[2J",
    "C1": "\x9b2J",
    "delete": "a\x7fb",
    "carriage return": "fine\rEVIL",
    "backspace": "ab\b\bEV",
    "bidi": "\u202etxt.exe\u2066",
    "line separator": "a\u2028b",
    "tag": "a\U000e0041b",
}


def controls(text: str, but: str = "") -> set[str]:
    """Return the control characters in a text."""
    return {character for character in text if unicodedata.category(character) in CONTROL} - set(but)


@given(st.text())
def test_no_control_character_is_left_in_lines_but_their_ends_and_tabs(text):
    assert controls(harmless_lines(text), "\n\t") == set()


@given(st.text("äb \t\n☃Ж語", max_size=30))
def test_what_steers_nothing_stays(text):
    assert harmless_lines(text) == text


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_without_control_characters_holds_the_same_value(value):
    text = harmless_json(json.dumps(value, ensure_ascii=False))
    assert controls(text) == set()
    assert json.loads(text) == value


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_a_character_is_shown_as_its_escape(evil):
    shown = harmless_lines(evil)
    for character in controls(evil):
        assert f"{ord(character):02x}" in shown


def output(folder, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nbpipe", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.kernel
@pytest.mark.parametrize("evil", [EVIL["escape"] + EVIL["C1"] + EVIL["delete"], EVIL["bidi"] + EVIL["tag"]])
def test_no_command_obeys_what_a_name_an_error_or_a_log_holds(tmp_path, evil):
    name = f"n{evil}.ipynb"
    steps = [
        f"%%step good -o x\nprint({evil!r})\nx = {evil!r}",
        f"%%step bad -i x -o y\ny = x\nraise ValueError({evil!r})",
    ]
    write_notebook(tmp_path / name, steps)
    done = [
        output(tmp_path, *words)
        for words in (
            ("run", name), ("run", "--json", name), ("status", name), ("show", "1"), ("logs", name, "good"),
            ("logs", name, "bad"), ("why", name, "bad"), ("plan", f"gone{name}"), ("plan", "--json", f"gone{name}"),
            ("runs",), ("runs", "--json"), (evil,), ("run", f"--{evil}", name), ("pull", name, f"good.{evil}"),
        )
    ]  # fmt: skip
    for one in done:
        assert controls(one.stdout + one.stderr, "\n\t") == set()
    assert json.loads(done[1].stdout)["status"] == "failed"
    # A terminal's colours are taken from what an error says.
    assert json.loads(done[1].stdout)["steps"][1]["error"]["evalue"] == evil.replace("\x1b[2J", "")
