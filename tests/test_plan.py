"""Verdicts: what runs, what is reused, what waits, and that each says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_pipelines import Notebook, artifact, reasons, same

from nbpipe.model import KeyComponent, Reason
from nbpipe.planning.plan import differences

MAKE = "%%step make -o a\na = 3"
DOUBLE = "%%step double -i a -o b\nb = a * 2"
ADD = "%%step add -i b -o c\nc = b + 1"
ASIDE = "%%step aside -o z\nz = 1"


def chain() -> Notebook:
    """Get three steps in a row, one aside."""
    return Notebook([MAKE, DOUBLE, ADD, ASIDE])


def test_a_first_plan_runs_everything_for_lack_of_a_result():
    planned = chain().plan()

    assert list(planned) == ["make", "double", "add", "aside"]
    assert [list(reasons(decision)) for decision in planned.values()] == [["first run"]] * 4


def test_an_unchanged_notebook_is_reused_with_its_origin():
    notebook = chain()
    notebook.carry_out()
    planned = notebook.plan()

    assert {type(decision.verdict).__name__ for decision in planned.values()} == {"ReuseVerdict"}
    assert planned["add"].verdict.hit.origin.run == "r1"
    assert reasons(planned["add"])["unchanged"].now == "r1"


def test_decisions_come_in_notebook_order_whatever_the_needs():
    assert list(Notebook([ADD, MAKE, DOUBLE]).plan()) == ["add", "make", "double"]


def test_what_is_behind_a_step_that_runs_depends_on_what_that_makes():
    """Its own code is as it was, so a result for it may exist."""
    notebook = chain()
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "4")

    assert notebook.words() == {"make": "run", "double": "depends", "add": "depends", "aside": "reuse"}
    assert reasons(notebook.plan()["double"]) == {"upstream:make": Reason("upstream:make", None, "not known yet")}


def test_what_has_changed_itself_runs_whatever_its_inputs_become():
    notebook = chain()
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "4")
    notebook.sources[1] = DOUBLE.replace("2", "5")

    assert notebook.words() == {"make": "run", "double": "run", "add": "depends", "aside": "reuse"}
    assert list(reasons(notebook.plan()["double"])) == ["code"]


def test_equal_bytes_upstream_stop_the_wave():
    """Early cutoff: a step is known by what it is given, never by who made it."""
    notebook = chain()
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "1 + 2")

    assert notebook.carry_out() == {"make": "run", "double": "reuse", "add": "reuse", "aside": "reuse"}


def test_other_bytes_upstream_run_what_reads_them_and_say_so():
    notebook = chain()
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "4")
    assert notebook.carry_out(lambda step, output: f"new {step}") == {
        "make": "run", "double": "run", "add": "run", "aside": "reuse",
    }  # fmt: skip


def test_a_change_taken_back_finds_the_older_result():
    notebook = chain()
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "4")
    notebook.carry_out(lambda step, output: f"new {step}")
    notebook.sources[0] = MAKE

    assert set(notebook.words().values()) == {"reuse"}


def test_a_forced_step_runs_and_what_is_behind_it_waits():
    notebook = chain()
    notebook.carry_out()
    notebook.forced = ("make",)

    assert notebook.words() == {"make": "run", "double": "depends", "add": "depends", "aside": "reuse"}
    assert list(reasons(notebook.plan()["make"])) == ["forced"]
    assert notebook.carry_out() == {"make": "run", "double": "reuse", "add": "reuse", "aside": "reuse"}


def test_a_step_that_always_runs_does_not_take_others_along():
    notebook = Notebook([MAKE.replace("-o a", "-o a --reuse never"), DOUBLE])
    notebook.carry_out()

    assert notebook.words() == {"make": "run", "double": "depends"}
    assert notebook.carry_out() == {"make": "run", "double": "reuse"}
    assert reasons(notebook.plan()["make"])["policy"].now == "reuse: never"


def test_a_step_without_outputs_always_runs():
    """It is there for what it does, not for what it makes."""
    notebook = Notebook([MAKE, "%%step tell -i a\nprint(a)"])
    notebook.carry_out()

    assert notebook.words() == {"make": "reuse", "tell": "run"}
    assert "no outputs" in (reasons(notebook.plan()["tell"])["result"].now or "")


def test_a_step_without_outputs_may_say_that_once_is_enough():
    notebook = Notebook(["%%step tell --reuse keep\nprint(1)"])
    assert notebook.words() == {"tell": "run"}
    notebook.carry_out()

    assert notebook.words() == {"tell": "reuse"}


def test_keep_takes_the_newest_result_whatever_changed():
    notebook = Notebook([MAKE, DOUBLE.replace("-o b", "-o b --reuse keep")])
    notebook.carry_out()
    notebook.sources = [MAKE.replace("3", "4"), notebook.sources[1].replace("2", "5")]

    assert notebook.words() == {"make": "run", "double": "reuse"}
    assert reasons(notebook.plan()["double"])["policy"].now == "reuse: keep"


def test_keep_runs_when_the_newest_result_lacks_an_output():
    notebook = Notebook(["%%step make -o a --reuse keep\na = 3"])
    notebook.carry_out()
    notebook.sources = ["%%step make -o a, b --reuse keep\na = b = 3"]

    assert notebook.words() == {"make": "run"}


def test_forcing_is_stronger_than_keeping():
    notebook = Notebook(["%%step make -o a --reuse keep\na = 3"])
    notebook.carry_out()
    notebook.forced = ("make",)

    assert notebook.words() == {"make": "run"}


def test_a_false_condition_skips_the_step_and_all_that_needs_it():
    notebook = Notebook(
        [MAKE.replace("-o a", '-o a --when "depth > 3"'), DOUBLE, ADD, ASIDE, "%%step later --after make -o w\nw = 1"],
        parameters="depth = 3",
    )
    planned = notebook.plan()

    assert notebook.words() == {"make": "skip", "double": "skip", "add": "skip", "aside": "run", "later": "skip"}
    assert reasons(planned["make"])["when"].now == "depth > 3 is false"
    assert reasons(planned["add"]) == {"upstream:double": Reason("upstream:double", None, "skipped")}
    assert planned["make"].key is None


def test_a_condition_decides_whether_never_what():
    notebook = Notebook([MAKE.replace("-o a", '-o a --when "depth > 3"')], parameters="depth = 4")
    notebook.carry_out()
    notebook.values = {"depth": 9}

    assert notebook.words() == {"make": "reuse"}


def test_a_forced_step_with_a_false_condition_is_skipped():
    notebook = Notebook([MAKE.replace("-o a", '-o a --when "depth > 3"')], parameters="depth = 3", forced=("make",))

    assert notebook.words() == {"make": "skip"}


def test_after_orders_steps_but_does_not_tie_their_fates():
    """No data flow between them, so a result stands although what came before runs again."""
    notebook = Notebook([MAKE, "%%step later --after make -o w\nw = 1"])
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "4")

    assert notebook.words() == {"make": "run", "later": "reuse"}


def test_only_selected_steps_are_decided():
    assert list(chain().plan("make", "double")) == ["make", "double"]


def test_each_changed_component_is_a_reason_and_nothing_else():
    notebook = Notebook(["def f(x):\n    return x", "%%step use -o a\na = f(rate)"], parameters="rate = 1")
    notebook.carry_out()
    notebook.values = {"rate": 2}
    notebook.sources[0] = "def f(x):\n    return x + 1"
    notebook.python = "CPython 3.12.1 linux"
    found = reasons(notebook.plan()["use"])

    assert set(found) == {"definition:f", "parameter:rate", "python"}
    assert (found["parameter:rate"].was, found["parameter:rate"].now) == ("1", "2")


def test_a_component_that_is_new_or_gone_is_a_reason_too():
    notebook = Notebook(["%%step use --salt one -o a\na = rate"], parameters="rate = 1")
    notebook.carry_out()
    notebook.sources[0] = "%%step use -o a\na = 1"
    found = reasons(notebook.plan()["use"])

    assert {name: (reason.was, reason.now) for name, reason in found.items() if name != "code"} == {
        "parameter:rate": ("1", None), "salt": ("one", None),
    }  # fmt: skip


def test_a_result_that_was_not_kept_is_a_reason():
    """Its files changed while it ran, say: everything is as it was, and still it must run."""
    notebook = Notebook([MAKE])
    notebook.memory.put(notebook.plan()["make"], artifact("a"), offered=False)
    found = notebook.plan()["make"]

    assert notebook.words() == {"make": "run"}
    assert "not kept for reuse" in (reasons(found)["result"].now or "")


def test_an_equal_step_under_another_name_is_reused():
    notebook = Notebook([MAKE])
    notebook.carry_out()
    notebook.sources = [MAKE.replace("step make", "step produce")]

    assert notebook.words() == {"produce": "reuse"}
    assert notebook.plan()["produce"].verdict.hit.origin.step == "make"


def test_a_changed_notebook_is_planned_without_a_lookup_per_step():
    """Where no result was ever made from a step's components there is none under its key: asked once for all."""
    notebook = Notebook(["def f(x):\n    return x"] + [f"%%step s{n} -o d{n}\nd{n} = f({n})" for n in range(20)])
    notebook.carry_out()
    notebook.memory.lookups.clear()
    notebook.sources[0] = "def f(x):\n    return x + 1"

    assert set(notebook.words().values()) == {"run"}
    assert notebook.memory.lookups == []


def test_imports_that_share_a_name_are_compared_together():
    """`import a.b` and `import a.c` both bind `a`."""
    before = [KeyComponent("definition:a", "1", "import a.b"), KeyComponent("definition:a", "2", "import a.c")]
    now = [KeyComponent("definition:a", "3", "import a.d"), KeyComponent("definition:a", "2", "import a.c")]

    assert differences(before, now) == (Reason("definition:a", "import a.b; import a.c", "import a.d; import a.c"),)
    assert differences(before, before[::-1]) == ()


EDITS = {
    "code": lambda text: text.replace("= [", "= [0, "),
    "comment": lambda text: text.replace("\n", "\n# why\n", 1),
    "retries": lambda text: text.replace(" -o", " --retries 1 -o", 1),
}


@st.composite
def edited(draw):
    """Get a random pipeline, and the edits that are made to some of its steps."""
    count = draw(st.integers(1, 7))
    needs = [[m for m in range(n) if draw(st.booleans())] for n in range(count)]
    cells = [
        f"%%step s{n} {'-i ' + ', '.join(f'd{m}' for m in needed) if needed else ''} -o d{n}\n"
        f"d{n} = [{n}, {', '.join(f'd{m}' for m in needed)}]"
        for n, needed in enumerate(needs)
    ]
    return cells, draw(st.dictionaries(st.integers(0, count - 1), st.sampled_from(sorted(EDITS)), max_size=3))


@given(edited())
def test_plan_and_run_agree_and_every_verdict_has_a_reason(drawn):
    """What a plan says will run or be reused is so; what depends ends as one of the two."""
    cells, edits = drawn
    notebook = Notebook(cells)
    notebook.carry_out()
    for place, edit in edits.items():
        notebook.sources[place] = EDITS[edit](notebook.sources[place])
    planned = notebook.plan()
    words = notebook.words()
    done = notebook.carry_out()

    assert all(decision.verdict.reasons for decision in planned.values())
    assert {name for name in words if words[name] not in ("depends", done[name])} == set()
    assert {done[name] for name in words if words[name] == "depends"} <= {"run", "reuse"}
    assert {name for name in done if done[name] == "run"} == {
        f"s{place}" for place, edit in edits.items() if edit == "code"
    }


@pytest.mark.parametrize("content", [same, lambda step, output: f"other {step}"])
def test_planning_again_after_a_run_reuses_all(content):
    notebook = chain()
    notebook.carry_out()
    notebook.sources[0] = MAKE.replace("3", "4")
    notebook.carry_out(content)

    assert set(notebook.words().values()) == {"reuse"}


def test_a_step_that_had_a_result_is_never_said_to_be_new():
    """All results are gone, and its inputs are not known yet: it has run before all the same."""
    notebook = Notebook([MAKE, DOUBLE])
    notebook.carry_out()
    notebook.memory.offered.clear()
    notebook.memory.static.clear()

    assert {name: list(reasons(decision)) for name, decision in notebook.plan().items()} == {
        "make": ["result"], "double": ["result"],
    }  # fmt: skip
