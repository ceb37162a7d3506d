"""The DAG follows from declared names; whatever does not fit together is told, with its place and a cure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_pipelines import graph_of, linked

from nbpipe.errors import BadPipeline, NotSupportedYet
from nbpipe.language.directives import LATER
from nbpipe.model import FileSource, RemoteSource, StepOutput

A = "%%step a -o x\nx = 1"
B = "%%step b -i x -o y\ny = x"


@st.composite
def dags(draw) -> dict[str, list[str]]:
    """Get steps by name with what they need; the order in which they stand says nothing about it."""
    count = draw(st.integers(1, 8))
    needs = {f"s{n}": [f"s{m}" for m in range(n) if draw(st.booleans())] for n in range(count)}
    return {name: needs[name] for name in draw(st.permutations(list(needs)))}


def notebook(needs: dict[str, list[str]]) -> list[str]:
    """Get the cells of a pipeline with these needs."""
    return [
        f"%%step {name} {'-i ' + ', '.join(f'd{need}' for need in needed) if needed else ''} -o d{name}\n"
        f"d{name} = [{', '.join(f'd{need}' for need in needed)}]"
        for name, needed in needs.items()
    ]


@given(dags())
def test_needs_come_first_whatever_the_order_of_cells(needs):
    graph = graph_of(*notebook(needs))

    assert sorted(graph.order) == sorted(needs)
    assert {name: set(found) for name, found in graph.pipeline.needs.items()} == {n: set(m) for n, m in needs.items()}
    assert all(graph.order.index(need) < graph.order.index(name) for name in needs for need in needs[name])


@given(dags(), st.data())
def test_ancestors_and_dependants_are_what_can_be_reached(needs, data):
    graph = graph_of(*notebook(needs))
    name = data.draw(st.sampled_from(sorted(needs)))

    def above(step: str) -> set[str]:
        return {step} | {found for need in needs[step] for found in above(need)}

    assert graph.ancestors([name]) == above(name)
    assert graph.dependants([name]) == {other for other in needs if name in above(other)} - {name}


@given(dags(), st.data())
def test_a_cycle_is_drawn_and_everything_beside_it_keeps_its_order(needs, data):
    """In a kernel the steps that have nothing to do with a cycle can still be run."""
    size = data.draw(st.integers(2, 4))
    ring = [f"%%step ring{n} -i r{(n + 1) % size} -o r{n}\nr{n} = r{(n + 1) % size}" for n in range(size)]
    cells = data.draw(st.permutations([*notebook(needs), *ring]))
    graph, errors = linked(*cells)

    (error,) = errors
    drawn = error.message.removeprefix("the steps form a cycle: ").split(" → ")
    assert drawn[0] == drawn[-1]
    assert sorted(set(drawn)) == sorted(f"`ring{n}`" for n in range(size))
    assert all(graph.order.index(need) < graph.order.index(name) for name in needs for need in needs[name])
    assert graph.ancestors(["s0"]) == {"s0"}


def test_a_very_long_chain_needs_no_deep_stack():
    chain = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(1500)}

    assert graph_of(*reversed(notebook(chain))).order == tuple(chain)


def test_steps_without_needs_keep_the_notebooks_order():
    assert graph_of(*(f"%%step {name} -o d{name}\nd{name} = 1" for name in "cab")).order == ("c", "a", "b")


def test_an_input_is_fed_by_the_one_other_step_that_makes_it():
    graph = graph_of(A, B)

    assert graph.feeds == {"a": {}, "b": {"x": StepOutput("x", "a")}}
    assert graph.pipeline.needs == {"a": (), "b": ("a",)}


def test_a_qualified_input_says_which_step_it_means():
    graph = graph_of(A, "%%step c -o x\nx = 2", "%%step d -i mine=c.x -o z\nz = mine")

    assert graph.feeds["d"] == {"mine": StepOutput("x", "c")}


def test_a_step_that_reads_and_writes_one_name_is_fed_by_the_other_producer():
    graph = graph_of(A, "%%step more -i x -o x\nx = x + 1", "%%step last -i x=more.x -o z\nz = x")

    assert graph.feeds["more"] == {"x": StepOutput("x", "a")}
    assert graph.order == ("a", "more", "last")


def test_files_are_no_needs():
    graph = graph_of("%%step a -i raw=./raw.csv, more=../x/*.parquet -o x\nx = raw, more")

    assert graph.pipeline.needs["a"] == ()
    assert {name: item.source for name, item in graph.files["a"].items()} == {
        "raw": FileSource("./raw.csv"), "more": FileSource("../x/*.parquet"),
    }  # fmt: skip


def test_after_is_a_need_without_data():
    graph = graph_of(A, "%%step later --after a -o y\ny = 1")

    assert graph.pipeline.needs["later"] == ("a",)
    assert graph.feeds["later"] == {}


WRONG = {
    "no such output": ((A, "%%step b -i xx -o y\ny = xx"), "no step has an output `xx`", "`x`"),
    "a file without a slash": (("%%step b -i raw -o y\ny = raw",), "no step has an output `raw`", "./raw.csv"),
    "two producers": (
        (A, "%%step c -o x\nx = 2", B), "`x` is an output of `a` and `c`", "-i x=a.x or -i x=c.x",
    ),
    "only itself": (("%%step a -i x -o x\nx = x",), "by no other step than `a` itself", "rename"),
    "itself by name": (("%%step a -i b=a.x -o x\nx = b",), "a step never feeds itself", "another"),
    "no such step": ((A, "%%step b -i x=aa.x -o y\ny = x"), "there is no step `aa`", "`a`"),
    "no such output of a step": ((A, "%%step b -i x=a.xs -o y\ny = x"), "step `a` has no output `xs`", "`x`"),
    "a step without outputs": (("%%step a\nprint(1)", "%%step b -i x=a.x -o y\ny = x"), "no output `x`", "no outputs"),
    "after nothing": ((A, "%%step b --after aa -o y\ny = 1"), "`after` names `aa`, which is not another step", "`a`"),
    "after itself": (("%%step b --after b -o y\ny = 1",), "`after` names `b`", "other steps"),
    "input and path": ((A, "%%step b -i x -o x:file.txt\nx.write_text('')"), "`x` is an input and a path", "Rename"),
    "one destination twice": (
        ("%%step a -o x=./out/x.json\nx = 1", "%%step b -o y=./out/../out/./x.json\ny = 1"),
        "a destination twice, in `a` and `b`", "{step}",
    ),
    "one destination twice in a step": (
        ("%%step a -o x=./x.json, y=./x.json\nx = y = 1",), "a destination twice, in `a`", "{output-name}",
    ),
    "an unknown placeholder": (("%%step a -o x=./{stepp}.json\nx = 1",), "`{stepp}`", "`step`"),
}  # fmt: skip


@pytest.mark.parametrize("cells, message, hint", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_told_with_its_place_and_a_cure(cells, message, hint):
    _, errors = linked(*cells)

    (error,) = [error for error in errors if message in error.message]
    assert isinstance(error, BadPipeline)
    assert hint in error.hint
    assert error.place.cell == len(cells)
    assert error.place.step is not None
    assert len(errors) == 1


def test_an_unknown_step_of_after_is_pointed_at():
    _, (error,) = linked(A, "%%step b -o y\n#| after: a, \\\n#|   aa\ny = 1")

    assert (error.place.cell, error.place.line, error.place.column) == (2, 3, 6)


def test_destinations_with_placeholders_are_told_apart_and_found_equal():
    apart = ("%%step a -o x=./{step}.json\nx = 1", "%%step b -o x=./{step}.json\nx = 1")
    together = ("%%step a -o x=./{name}.json\nx = 1", "%%step b -o y=./best.json\ny = 1")

    assert linked(*apart)[1] == []
    (error,) = linked(*together, parameters='name = "best"')[1]
    assert "a destination twice" in error.message


@pytest.mark.parametrize(
    "held, source",
    [("./a.csv", FileSource("./a.csv")), ("  '/b c/d.csv' ", FileSource("/b c/d.csv")), ("a.x", StepOutput("x", "a"))],
)
def test_a_parameter_can_hold_an_inputs_source(held, source):
    graph, errors = linked(
        A, "%%step b -i raw=param:where -o y\ny = raw", parameters='where = "./x.csv"', values={"where": held}
    )

    assert errors == []
    assert graph.steps["b"].inputs[0].source == source
    assert graph.pipeline.needs["b"] == (("a",) if isinstance(source, StepOutput) else ())


@pytest.mark.parametrize(
    "parameters, held, message",
    [
        ('where = "./x.csv"', "x.csv", "there is no step `x`"),
        ('where = "./x.csv"', "", "neither"),
        ('where = "./x.csv"', "param:where", "a parameter again"),
        ('where = "./x.csv"', "ftp:x", "not a known kind of source"),
        ('where = "./x.csv"', "nowhere.x", "there is no step `nowhere`"),
        ("where = 3", 3, "holds 3 and not a source"),
        ("where = None", None, "holds None and not a source"),
        ("wher = 3", 3, "comes from `where`, which is not a parameter"),
    ],
)
def test_a_parameter_that_holds_no_source_is_an_error_at_the_input(parameters, held, message):
    name = parameters.partition(" ")[0]
    _, errors = linked("%%step b -i raw=param:where -o y\ny = raw", parameters=parameters, values={name: held})

    (error,) = errors
    assert message in error.message
    assert (error.place.cell, error.place.column) == (2, 13)


def test_a_format_is_not_restated_for_a_step_behind_a_parameter():
    _, errors = linked(
        A, "%%step b -i raw:csv=param:where -o y\ny = raw", parameters='where = "./x.csv"', values={"where": "a.x"}
    )

    (error,) = errors
    assert "its own format" in error.message


VALUES = {"kind": "shell", "map": "item=items", "sweep": "rate=[1,2]"}


@pytest.mark.parametrize("key", LATER)
def test_every_key_that_is_not_built_is_refused_where_it_stands(key):
    """Understood, and never silently ignored."""
    line = f"#| {key}: {VALUES.get(key, '1')}"
    _, errors = linked(f"%%step a -o x\n{line}\nx = 1")

    (error,) = errors
    assert isinstance(error, NotSupportedYet)
    assert f"`{key}`" in error.message
    assert (error.place.cell, error.place.line, error.place.step) == (1, 2, "a")


@pytest.mark.parametrize("source", ["s3://bucket/x.csv"])
def test_every_source_that_is_not_built_is_refused_where_it_stands(source):
    _, errors = linked(f"%%step a -i raw={source} -o x\nx = raw")

    (error,) = errors
    assert isinstance(error, NotSupportedYet)
    assert source in error.message
    assert (error.place.cell, error.place.line, error.place.column) == (1, 1, 13)


@pytest.mark.parametrize("text", ["store:lake/x.csv", "https://host/x.csv", "http://host/x.csv"])
def test_a_source_in_a_datastore_or_on_the_web_is_a_file(text):
    graph, errors = linked(f"%%step a -i raw={text} -o x\nx = raw")

    assert errors == []
    assert graph.files["a"]["raw"].source == RemoteSource(text.partition(":")[0], text)


@pytest.mark.parametrize(
    "keys, expected, column",
    [
        ("#| download: raw", None, 0),
        ("#| mount: raw, model", None, 0),
        ("#| download: rau", "`download` names `rau`, which is not an input of `b`", 14),
        ("#| mount: raw, nope", "`mount` names `nope`, which is not an input of `b`", 16),
        ("#| download: raw\n#| mount: raw", "`raw` is to be copied and to be read in place", 11),
    ],
)
def test_what_is_copied_or_read_in_place_is_an_input(keys, expected, column):
    _, errors = linked("%%step a -o model\nmodel = 1", f"%%step b -i raw=./x.csv, model -o x\n{keys}\nx = raw, model")

    assert [error.message for error in errors] == ([expected] if expected else [])
    assert [error.place.column for error in errors] == ([column] if expected else [])


def test_a_source_that_is_not_built_is_refused_behind_a_parameter_too():
    _, errors = linked("%%step a -i raw=param:w -o x\nx = raw", parameters='w = "s3://bucket/x"')

    assert [type(error) for error in errors] == [NotSupportedYet]


def test_a_destination_that_is_no_path_and_in_no_datastore_is_refused():
    _, errors = linked("%%step a -o x=s3://results/x.csv\nx = 1")

    assert [type(error) for error in errors] == [NotSupportedYet]


def test_everything_wrong_is_told_together():
    _, errors = linked(
        "%%step a -i nothing -o x --env torch\nx = nothing", "%%step b -i x, gone=c.y -o y --after d\ny = x, gone"
    )

    assert len(errors) == 4
