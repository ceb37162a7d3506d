"""Each result has two keys, by the normal form of its code and by its text as written: a hit on either is a hit."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest
from sample_pipelines import graph_of
from scripted_executor import Bench

from nbpipe.model import FrozenModule
from nbpipe.planning.fingerprint import NORMALISER, PinnedInputs, fixed_components, key_of, raw_key_of

HELPER = "def f(x):\n    return x + 1"
STEP = "%%step s -o a:json\na = f(1)"


def keys(*sources: str, module: str = "X = 1\n") -> tuple[str, str]:
    """Get both keys of step ``s`` of these cells."""
    graph = graph_of(*sources)
    around = PinnedInputs("CPython 3.11.7 linux", modules=(FrozenModule("m", "/m.py", module),))
    components = fixed_components(graph.steps["s"], graph.pipeline.code["s"], around)
    return key_of(components), raw_key_of(components)


SAME = {
    "comment in the step": (HELPER, STEP + "  # why"),
    "layout of the step": (HELPER, STEP.replace("f(1)", "f( 1 )")),
    "comment in a helper": (HELPER + "  # why", STEP),
}


@pytest.mark.parametrize("sources", SAME.values(), ids=SAME)
def test_what_does_not_matter_changes_the_second_key_only(sources):
    normal, raw = keys(HELPER, STEP)
    other_normal, other_raw = keys(*sources)

    assert other_normal == normal
    assert other_raw != raw


def test_a_comment_in_a_module_changes_the_second_key_only():
    normal, raw = keys(HELPER, STEP)
    other_normal, other_raw = keys(HELPER, STEP, module="X = 1  # why\n")

    assert (other_normal == normal, other_raw == raw) == (True, False)


def test_declarations_and_other_cells_change_neither(tmp_path):
    both = keys(HELPER, STEP)

    assert keys("import os", HELPER, STEP) == both
    assert keys(HELPER, "%%step s --retries 2 -o a:json\na = f(1)") == both
    assert keys(HELPER, "#| step: s\n#| out: a:json\na = f(1)") == both


@pytest.mark.parametrize("changed", [(HELPER, STEP.replace("1", "2")), (HELPER.replace("1", "2"), STEP)])
def test_what_matters_changes_both(changed):
    assert not set(keys(*changed)) & set(keys(HELPER, STEP))


def test_the_normal_form_is_tagged_with_who_made_it():
    """Another normaliser may take two texts for one that this one tells apart, so its keys are others."""
    graph = graph_of(HELPER, STEP)
    code = graph.pipeline.code["s"]
    assert NORMALISER.endswith("3.11") or "3." in NORMALISER
    (component, *_) = fixed_components(graph.steps["s"], code, PinnedInputs("python"))
    (tagged, *_) = fixed_components(
        graph.steps["s"], dataclasses.replace(code, normal=f"raw\n{code.normal}"), PinnedInputs("python")
    )
    assert component.digest != tagged.digest


def forget_normal_keys(folder: Path) -> None:
    """Make history what it would be if another normaliser had written it."""
    with sqlite3.connect(folder / ".nbpipe" / "history.db") as connection:
        first = "SELECT min(id) FROM entries GROUP BY attempt"
        connection.execute(f"UPDATE entries SET key = 'k' || id, static_key = 's' || id WHERE id IN ({first})")  # noqa: S608
    connection.close()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, [HELPER, STEP, "%%step t -i a -o b:json\nb = a"])
    made.run()
    yield made
    made.executor.close()


def test_a_result_of_another_normaliser_is_found_by_its_text(bench):
    forget_normal_keys(bench.folder)

    assert {type(each.verdict).__name__ for each in bench.plan().decisions.values()} == {"ReuseVerdict"}
    assert bench.run() == []


def test_a_result_of_another_normaliser_is_not_found_when_the_text_has_changed(bench):
    forget_normal_keys(bench.folder)
    bench.sources[1] = STEP + "  # why"

    assert bench.run()[0] == "s"
