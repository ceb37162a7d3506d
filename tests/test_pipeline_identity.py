"""A pipeline is known by an id: its notebook may be renamed, moved and edited; where two fit, nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nbpipe.model import PipelineRecord
from nbpipe.planning.pipeline_identity import IdentifiedPipeline, NotebookTraits, after_a_move, at_its_place, identify

WORDS = st.text("abcdef", min_size=1, max_size=2)
SETS = st.frozensets(WORDS, max_size=6)
PLACES = st.sampled_from(["n.ipynb", "m.ipynb", "sub/n.ipynb", "/elsewhere/n.ipynb"])
TRAITS = st.builds(NotebookTraits, PLACES, SETS, SETS)
CELLS = frozenset({"c1", "c2", "c3", "c4"})
STEPS = frozenset({"load", "train"})
KNOWN = PipelineRecord("p1", "n.ipynb", CELLS, STEPS)


def traits(notebook: str, cells: Iterable[str] = CELLS, steps: Iterable[str] = STEPS) -> NotebookTraits:
    return NotebookTraits(notebook, frozenset(cells), frozenset(steps))


def found(
    notebook: NotebookTraits,
    *known: PipelineRecord,
    there: Iterable[str] = (),
    strangers: Iterable[NotebookTraits] = (),
) -> IdentifiedPipeline:
    """Identify a notebook; ``there`` are the places at which known pipelines still have their notebooks."""
    return identify(
        notebook,
        known,
        exists=frozenset(there).__contains__,
        strangers=lambda: [notebook, *strangers],
        new_id=lambda: "new",
    )


def is_new(identified: IdentifiedPipeline, notebook: NotebookTraits) -> bool:
    """Return whether a notebook got a pipeline of its own."""
    fresh = PipelineRecord("new", notebook.notebook, notebook.cells, notebook.steps)
    return identified.pipeline == fresh and not identified.known


# At its place


def test_a_notebook_at_its_place_is_its_pipeline_whatever_is_in_it():
    edited = traits("n.ipynb", ["other"], ["other"])

    assert at_its_place(edited, KNOWN) == IdentifiedPipeline(
        replace(KNOWN, cells=frozenset({"other"}), steps=frozenset({"other"})), known=True
    )


def test_a_kernel_whose_notebook_has_moved_away_is_known_by_the_cells_that_it_ran():
    moved = replace(KNOWN, notebook="m.ipynb")
    ran = traits("n.ipynb", ["c1", "c2"], ["load"])
    other = PipelineRecord("p2", "other.ipynb", frozenset({"d1"}), STEPS)

    assert after_a_move(ran, [other, moved]) == moved
    assert after_a_move(ran, [other]) is None
    assert after_a_move(ran, [moved, replace(moved, id="p3")]) is None
    assert after_a_move(traits("n.ipynb", [], ["load"]), [moved]) is None


@pytest.mark.parametrize("cells, steps", [((), STEPS), (CELLS, ()), ((), ())])
def test_what_a_kernel_does_not_tell_stays_known(cells, steps):
    assert at_its_place(traits("n.ipynb", cells, steps), KNOWN) == IdentifiedPipeline(KNOWN, known=True)


def test_notebooks_that_have_swapped_their_names_keep_the_histories_of_their_names_and_one_says_so():
    other = PipelineRecord("p2", "m.ipynb", frozenset({"d1", "d2"}), frozenset({"plot"}))
    first = at_its_place(traits("n.ipynb", other.cells, other.steps), KNOWN, lambda: [KNOWN, other])
    second = at_its_place(traits("m.ipynb"), other, lambda: [first.pipeline, other])

    assert first.note == "n.ipynb has the cells of m.ipynb: it continues the history of the notebook with this name"
    assert (first.pipeline.id, second.pipeline.id, second.note) == ("p1", "p2", "")
    assert at_its_place(traits("n.ipynb", ["new"]), KNOWN, lambda: [KNOWN, other]).note == ""


# Moved and renamed


@pytest.mark.parametrize("place", ["renamed.ipynb", "sub/n.ipynb", "sub/deep/renamed.ipynb", "/elsewhere/n.ipynb"])
def test_a_notebook_that_was_renamed_or_moved_goes_on_with_its_history(place):
    identified = found(traits(place), KNOWN)

    assert identified.pipeline == replace(KNOWN, notebook=place)
    assert identified.known
    assert identified.note == f"{place} is n.ipynb, moved or renamed: its history continues"


@pytest.mark.parametrize("cells", [["c1", "c2", "c3", "c4", "new"], ["c1", "c2"], ["c1", "c2", "c3", "x", "y", "z"]])
def test_a_notebook_that_was_renamed_and_edited_goes_on_with_its_history(cells):
    """As long as half of the cells are the same."""
    identified = found(traits("m.ipynb", cells, ["load", "other"]), KNOWN)

    assert identified.known
    assert identified.pipeline == PipelineRecord("p1", "m.ipynb", frozenset(cells), frozenset({"load", "other"}))


@pytest.mark.parametrize("cells", [["c1"], ["c1", "c2", "c3", "x", "y", "z", "w"], ["x", "y"]])
def test_a_notebook_with_too_few_of_the_cells_is_another_one_though_its_steps_are_the_same(cells):
    notebook = traits("m.ipynb", cells)
    identified = found(notebook, KNOWN)

    assert is_new(identified, notebook)
    assert identified.note == ""


def test_a_pipeline_that_lay_outside_of_the_workspace_can_be_moved_in():
    outside = replace(KNOWN, notebook="/elsewhere/n.ipynb")

    assert found(traits("n.ipynb"), outside).pipeline == KNOWN


# Copied


def test_a_copy_has_a_history_of_its_own():
    notebook = traits("copy.ipynb")
    identified = found(notebook, KNOWN, there=["n.ipynb"])

    assert is_new(identified, notebook)
    assert identified.note == ("copy.ipynb is a copy of n.ipynb: it has its own history and reuses results")


def test_a_copy_of_a_copy_that_is_gone_is_the_copy_moved():
    """The one that is still there has its own notebook, so this must be the other one's."""
    copy = replace(KNOWN, id="p2", notebook="copy.ipynb")
    identified = found(traits("m.ipynb"), KNOWN, copy, there=["n.ipynb"])

    assert identified.pipeline == replace(copy, notebook="m.ipynb")


# Where several fit


def test_of_two_that_look_like_one_that_is_gone_neither_is_taken_for_it():
    notebook = traits("b.ipynb")
    identified = found(notebook, KNOWN, strangers=[traits("a.ipynb", ["c1", "c2", "c3"])])

    assert is_new(identified, notebook)
    assert identified.note == (
        "b.ipynb and a.ipynb both look like n.ipynb, which no longer exists: "
        "it starts its own history and reuses results by content"
    )


def test_a_notebook_that_shares_a_cell_with_one_that_is_gone_is_no_rival():
    identified = found(traits("m.ipynb"), KNOWN, strangers=[traits("other.ipynb", ["c1", "x", "y"])])

    assert identified.pipeline.id == "p1"


def test_a_notebook_that_looks_like_two_that_are_gone_is_taken_for_neither():
    notebook = traits("m.ipynb")
    identified = found(notebook, replace(KNOWN, id="p2", notebook="z.ipynb"), KNOWN)

    assert is_new(identified, notebook)
    assert identified.note.startswith("m.ipynb looks like n.ipynb and z.ipynb, which no longer exist: it starts")


# Without ids


def test_where_neither_tells_ids_the_steps_decide():
    """Old notebooks have none, and a kernel may tell none."""
    old = replace(KNOWN, cells=frozenset())

    assert found(traits("m.ipynb", ()), old).pipeline == replace(old, notebook="m.ipynb")
    assert found(traits("m.ipynb", ()), KNOWN).pipeline.id == "p1"
    assert found(traits("m.ipynb"), old).pipeline == replace(KNOWN, notebook="m.ipynb")
    assert found(traits("m.ipynb", (), ["load"]), old).pipeline.id == "new"


def test_where_neither_tells_ids_a_copy_beside_it_is_a_rival_too():
    old = replace(KNOWN, cells=frozenset())
    notebook = traits("b.ipynb", ())
    identified = found(notebook, old, strangers=[traits("a.ipynb", ())])

    assert is_new(identified, notebook)
    assert "b.ipynb and a.ipynb both look like n.ipynb" in identified.note


@pytest.mark.parametrize("there", [[], ["other.ipynb"]])
def test_equal_names_of_steps_say_nothing_where_cells_do(there):
    """Many notebooks have a step ``load``."""
    other = replace(KNOWN, id="p2", notebook="other.ipynb", cells=frozenset())

    assert found(traits("m.ipynb"), other, KNOWN, there=there).pipeline == replace(KNOWN, notebook="m.ipynb")
    copied = found(traits("m.ipynb"), other, KNOWN, there=["n.ipynb", *there])
    assert "is a copy of n.ipynb" in copied.note


def test_an_empty_notebook_is_like_no_other():
    notebook = traits("m.ipynb", (), ())
    for known in (KNOWN, replace(KNOWN, cells=frozenset(), steps=frozenset())):
        assert is_new(found(notebook, known), notebook)


def test_a_pipeline_of_a_lost_run_has_no_notebook_that_could_be_moved():
    unknown = PipelineRecord("unknown-r", "", CELLS, STEPS)

    assert found(traits("m.ipynb"), unknown).note == ""
    assert found(traits("m.ipynb"), unknown, KNOWN).pipeline.id == "p1"


# All of it


@given(notebook=TRAITS, known=st.lists(st.builds(PipelineRecord, WORDS, WORDS, SETS, SETS), max_size=4), data=st.data())
def test_a_known_pipeline_is_given_only_to_one_notebook_that_fits_when_its_own_is_gone(notebook, known, data):
    there = data.draw(st.sets(st.sampled_from([each.notebook for each in known]))) if known else set()
    strangers = data.draw(st.lists(TRAITS, max_size=3))
    ids = {each.id for each in known}
    assume("new" not in ids)

    identified = found(notebook, *known, there=there, strangers=strangers)

    assert identified.pipeline.notebook == notebook.notebook
    assert (identified.pipeline.cells, identified.pipeline.steps) == (notebook.cells, notebook.steps)
    if not identified.known:
        assert is_new(identified, notebook)
        return
    assert identified.note
    owners = [each for each in known if each.id == identified.pipeline.id and each.notebook not in there]
    assert any(
        each.cells & notebook.cells or (each.steps == notebook.steps and not (each.cells and notebook.cells))
        for each in owners
    )


@given(notebook=TRAITS, cells=SETS, steps=SETS)
def test_what_is_there_is_never_taken_from_its_notebook(notebook, cells, steps):
    known = PipelineRecord("p", "there.ipynb", cells, steps)

    assert not found(notebook, known, there=["there.ipynb"]).known
