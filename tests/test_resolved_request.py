"""What is pinned at submit: which steps, which values, files, modules and variables; what is wrong is told together."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_pipelines import cells, graph_of, no_datastores

from nbpipe.data.digests import NoDigestCache
from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.errors import BadUsage, NbpipeError, Refusals, Refused
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Cell
from nbpipe.resolve.resolved_request import (
    PipelineRequest,
    ResolvedRequest,
    files_unchanged,
    resolve_request,
    select_steps,
)
from nbpipe.resolve.workspace_layout import EnvironmentPolicy, WorkspaceLayout

CHAIN = (
    "%%step a -o x\nx = 1",
    "%%step b -i x -o y\ny = x",
    "%%step c -i y -o z\nz = y",
    "%%step side -i x -o w\nw = x",
    "%%step alone -o v\nv = 1",
)


def memory() -> PersistentDigestCache:
    """Get a memory of digests that forgets everything at its end."""
    return PersistentDigestCache(lambda paths: {}, lambda entries: None, lambda: 0.0)


def request(folder: Path, *sources: str, parameters: str = "", **asked: object) -> PipelineRequest:
    """Get the request for these cells."""
    reading = parse_cells(cells(*sources, parameters=parameters))
    return PipelineRequest(str(folder / "n.ipynb"), reading, folder, **asked)


def surveyed(folder: Path, *sources: str, environ: dict[str, str] | None = None, **asked: object) -> ResolvedRequest:
    """Get the situation of these cells."""
    return resolve_request(
        request(folder, *sources, **asked), WorkspaceLayout(folder / ".nbpipe"), environ or {}, memory(), no_datastores
    )


def refused(folder: Path, *sources: str, **asked: object) -> list[Refused]:
    """Get everything that is refused."""
    with pytest.raises(NbpipeError) as caught:
        surveyed(folder, *sources, **asked)
    assert caught.value.exit_code == 2
    return list(caught.value.errors) if isinstance(caught.value, Refusals) else [caught.value]


EVERY = {"a", "b", "c", "side", "alone"}

SELECTIONS = {
    "all": ({}, EVERY, set()),
    "a step and what it needs": ({"steps": ("b",)}, {"a", "b"}, set()),
    "several": ({"steps": ("b", "side")}, {"a", "b", "side"}, set()),
    "from: it and all after it, forced, and what they need": ({"start": "b"}, {"a", "b", "c"}, {"b", "c"}),
    "from the first": ({"start": "a"}, {"a", "b", "c", "side"}, {"a", "b", "c", "side"}),
    "from and to": ({"start": "b", "steps": ("b",)}, {"a", "b"}, {"b"}),
    "force all": ({"force": ()}, EVERY, EVERY),
    "force all that is asked for": ({"force": (), "steps": ("b",)}, {"a", "b"}, {"b"}),
    "force one": ({"force": ("b",)}, EVERY, {"b"}),
    "force a need of what is asked for": ({"force": ("a",), "steps": ("c",)}, {"a", "b", "c"}, {"a"}),
    "from, and force another": ({"start": "c", "force": ("a",)}, {"a", "b", "c"}, {"a", "c"}),
}


@pytest.mark.parametrize("asked, selected, forced", SELECTIONS.values(), ids=SELECTIONS)
def test_which_steps_are_meant(tmp_path, asked, selected, forced):
    assert select_steps(graph_of(*CHAIN), request(tmp_path, *CHAIN, **asked)) == (selected, forced)


@pytest.mark.parametrize("asked", [{"steps": ("bb",)}, {"start": "bb"}, {"force": ("bb",)}])
def test_a_step_that_is_not_there_is_answered_with_the_nearest(tmp_path, asked):
    (error,) = refused(tmp_path, *CHAIN[:3], **asked)

    assert isinstance(error, BadUsage)
    assert "there is no step `bb`" in error.message
    assert "`b`" in error.hint


def test_a_step_that_is_like_none_is_answered_with_all(tmp_path):
    (error,) = refused(tmp_path, *CHAIN[:2], steps=("something",))

    assert error.hint == "There are: a, b."


def test_a_forced_step_that_is_not_part_of_the_run_is_refused(tmp_path):
    """Forcing it would do nothing, without a word."""
    (error,) = refused(tmp_path, *CHAIN, steps=("b",), force=("alone",))

    assert "`alone` is forced but not part of this run" in error.message


def test_everything_wrong_is_told_together_and_names_its_place(tmp_path):
    errors = refused(
        tmp_path,
        "%%step one -i raw=./missing.csv -o x:json\nx = raw",
        "%%step two -i nothing -o y --env torch\ny = nothing",
        "%%step three -o z\nz = unknown",
        "%%step four -o w, v\nw = 1",
        parameters="depth = 3",
        kernel="no-such-kernel",
        texts={"depth": "deep", "rate": "1"},
    )

    assert sorted(error.code for error in errors) == sorted(
        ["file-missing", "bad-pipeline", "not-supported-yet", "undeclared-name", "bad-pipeline", "bad-parameter",
         "bad-parameter", "environment-unavailable"]
    )  # fmt: skip
    assert {error.place.cell for error in errors if error.place.step} == {2, 3, 4, 5}


def test_no_step_at_all_is_refused(tmp_path):
    (error,) = refused(tmp_path, "x = 1")

    assert "n.ipynb has no step" in error.message


def test_a_missing_file_is_told_at_the_input_that_names_it(tmp_path):
    (error,) = refused(tmp_path, "%%step one -i raw=./missing.csv, more=./missing.csv -o x\nx = raw, more")

    assert (error.code, error.place.cell, error.place.step, error.place.column) == ("file-missing", 1, "one", 15)


def test_a_missing_hash_file_is_told_where_it_stands(tmp_path):
    (tmp_path / "here.txt").write_text("1")
    (error,) = refused(tmp_path, "%%step one -o x\n#| hash: ./here.txt, './gone.txt'\nx = 1")

    assert (error.code, error.place.step, error.place.line, error.place.column) == ("file-missing", "one", 2, 22)


OVERWRITES = {
    "the notebook": ("", "y:json=./n.ipynb", "the notebook `n.ipynb` itself"),
    "the notebook, by a folder": ("", "y:dir=../{here}/", "the notebook `n.ipynb` itself"),
    "an input file": ("-i raw=./in/a.csv", "y:json=./in/../in/a.csv", "`./in/a.csv`, the input `raw` of `first`"),
    "an input by its absolute path": ("-i raw=./in/a.csv", "y:json={base}/in/a.csv", "`./in/a.csv`, the input `raw`"),
    "an input through a link": ("-i raw=./in/a.csv", "y:json=./link/a.csv", "`./in/a.csv`, the input `raw`"),
    "in an input folder": ("-i raw=./in/", "y:json=./in/new.json", "`./in/`, the input `raw`"),
    "a folder that holds an input": ("-i raw=./in/a.csv", "y:dir=./in/", "`./in/a.csv`, the input `raw`"),
    "a match": ("-i raw=./in/*.csv", "y:json=./in/a.csv", "`./in/*.csv`, the input `raw`"),
    "a match to be": ("-i raw=./in/**/*.csv", "y:json=./in/deep/new.csv", "`./in/**/*.csv`, the input `raw`"),
    "a folder that holds a match": ("-i raw=./*/a.csv", "y:dir=./in/", "`./*/a.csv`, the input `raw`"),
    "a hashed file": ("--hash ./in/a.csv", "y:json=./in/a.csv", "`./in/a.csv`, which `first` hashes"),
}


@pytest.mark.parametrize("reads, writes, what", OVERWRITES.values(), ids=OVERWRITES)
def test_a_destination_overwrites_nothing_that_the_pipeline_is_made_from(tmp_path, reads, writes, what):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1")
    (tmp_path / "link").symlink_to("in")
    writes = writes.replace("{base}", str(tmp_path)).replace("{here}", tmp_path.name)
    code = "y.mkdir()" if ":dir" in writes else "y = 1"
    (error,) = refused(tmp_path, f"%%step first {reads} -o x\nx = 1", f"%%step second -o {writes}\n{code}")

    assert (error.code, error.place.step) == ("bad-pipeline", "second")
    assert writes.partition("=")[2] in error.message
    assert f"would overwrite {what}" in error.message


@pytest.mark.parametrize("destination", ["./{name}", "./deep/../{name}", "./link/{name}"])
@pytest.mark.parametrize(
    "value, what",
    [
        (".nbpipe/history.db", "would overwrite the workspace"),
        (".nbpipe/store/objects/x", "would overwrite the workspace"),
        (".nbpipe", "would overwrite the workspace"),
        (".git/hooks/post-checkout", "lies in a git repository's own folder"),
        ("sub/.git/config", "lies in a git repository's own folder"),
        ("nbpipe.toml", "would be settings of nbpipe"),
    ],
)
def test_a_destination_is_nothing_that_nbpipe_or_git_keeps(tmp_path, destination, value, what):
    """Also when it is written out: `-o x:json=./.nbpipe/history.db` lost the history."""
    (tmp_path / "link").symlink_to(tmp_path)
    for written_out in (False, True):
        named = destination.format(name=value) if written_out else destination
        source = f"%%step one -o x:json={named}\nx = 1"
        errors = refused(tmp_path, source, parameters="name = 'fine'", texts={} if written_out else {"name": value})
        assert any(what in error.message for error in errors)


def test_in_a_kernel_a_destination_spares_the_inputs_of_steps_that_are_not_asked_for(tmp_path):
    sources = ("%%step first -i raw=./a.csv -o x\nx = raw", "%%step second -o y:json=./a.csv\ny = 1")
    (error,) = refused(tmp_path, *sources, steps=("second",))

    assert "would overwrite `./a.csv`" in error.message


@pytest.mark.parametrize(
    "first, second",
    [("./o.json", "../{here}/o.json"), ("./o.json", "{base}/o.json"), ("./o/", "./o/a.json"), ("./o/a.json", "./o/")],
)
def test_two_destinations_have_places_of_their_own(tmp_path, first, second):
    first, second = (t.replace("{here}", tmp_path.name).replace("{base}", str(tmp_path)) for t in (first, second))
    (error,) = refused(tmp_path, f"%%step one -o x:json={first}\nx = 1", f"%%step two -o y:json={second}\ny = 1")

    assert (error.code, error.place.step) == ("bad-pipeline", "two")
    assert f"`{first}`" in error.message
    assert f"`{second}`" in error.message


LED_AWAY = {
    "upward": ("./out/{name}.json", "../../x"),
    "upward and back into a sibling": ("./out/{name}.json", "../out2/x"),
    "by an absolute path, with no folder before it": ("{name}/x.json", "/etc"),
    "upward, with no folder before it": ("{name}/x.json", "../elsewhere"),
    "through a link": ("./out/{name}.json", "link/x"),
    "to the folder itself": ("./out/{name}", "."),
    "upward after other placeholders": ("./out/{step}/{name}.json", "../two/x"),
}


@pytest.mark.parametrize("destination, value", LED_AWAY.values(), ids=LED_AWAY)
def test_a_value_leads_no_destination_out_of_the_folder_that_it_names(tmp_path, destination, value):
    """`-p name=../../x` overwrote a file outside."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    source = f"%%step one -o x:json={destination}\nx = 1"
    (error,) = refused(tmp_path, source, parameters="name = 'fine'", texts={"name": value})

    assert (error.code, error.place.step) == ("bad-pipeline", "one")
    assert f"the destination `{destination}` of `x` becomes `" in error.message
    assert "write the folder itself into the declaration" in error.hint


@pytest.mark.parametrize("value", ["x", "deep/x", "a..b", "deep/../x", "ü ☃"])
def test_a_value_names_what_is_in_the_folder(tmp_path, value):
    source = "%%step one -o x:json=./out/{name}.json\nx = 1"
    assert surveyed(tmp_path, source, parameters="name = 'fine'", texts={"name": value}).values == {"name": value}


def test_destinations_beside_the_inputs_are_fine(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1")
    source = (
        "%%step one -i raw=./in/*.csv -o x:json=./in/x.json, y:json=./in/deep/y.csv, z:json=./in.json, "
        "v:json=./o/{run-id}.json, w:json=./o/{date}.json\nx = y = z = v = w = raw"
    )

    assert surveyed(tmp_path, source).selected == {"one"}


def test_a_broken_local_module_is_refused(tmp_path):
    (tmp_path / "tools.py").write_text("def broken(:\n")
    other = "%%step two -o y\nimport json\ny = tools.f(json)"
    (error,) = refused(tmp_path, "import tools", "%%step one -o x\nx = tools.f()", other)

    assert (error.code, error.place.cell, error.place.step) == ("bad-code", 2, "one")
    assert "tools.py" in error.message


def test_in_a_kernel_only_what_the_asked_steps_need_must_be_right(tmp_path):
    """A broken cell further down stops nobody from running this one."""
    sources = [*CHAIN[:2], "%%step broken -i nothing, raw=./missing.csv -o q --gpu 1\nq = nothing, raw"]
    ring = ["%%step r1 -i s2 -o s1\ns1 = s2", "%%step r2 -i s1 -o s2\ns2 = s1"]
    situation = surveyed(tmp_path, *reversed([*sources, *ring]), steps=("b",))

    assert situation.selected == {"a", "b"}
    assert situation.graph.order.index("a") < situation.graph.order.index("b")
    assert {error.place.step for error in refused(tmp_path, *sources, steps=("broken",))} == {"broken"}


def test_values_come_from_defaults_then_papermill_then_values_then_texts(tmp_path):
    injected = Cell(9, "q = 2\nr = 2\ns = 2", tags=frozenset({"injected-parameters"}))
    declared = cells("%%step a -o x\nx = p, q, r, s", parameters="p = 1\nq = 1\nr = 1\ns = 1")
    asked = PipelineRequest(
        "n", parse_cells([*declared, injected]), tmp_path, texts={"s": "4"}, values={"r": 3, "s": 3}
    )

    assert resolve_request(asked, WorkspaceLayout(asked.base / ".nbpipe"), {}, memory(), no_datastores).values == {
        "p": 1,
        "q": 2,
        "r": 3,
        "s": 4,
    }


def test_files_modules_and_variables_are_pinned_as_they_are(tmp_path):
    (tmp_path / "raw.csv").write_text("1")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").write_text("2")
    (tmp_path / "tools.py").write_text("def f():\n    return 1\n")
    source = (
        "%%step one -i raw=./raw.csv, all=./more/, texts=./more/*.txt --hash ./raw.csv --envvar TOKEN,GONE -o x\n"
        "x = tools.f(), raw, all, texts"
    )
    around = surveyed(tmp_path, "import tools", source, environ={"TOKEN": "t", "LANG": "C", "HOME": "/h"}).circumstances

    assert {name: content.kind for name, content in around["one"].files.items()} == {
        "raw": "file", "all": "dir", "texts": "glob",
    }  # fmt: skip
    assert around["one"].hashes["./raw.csv"].digest == around["one"].files["raw"].digest
    assert around["one"].variables == {"LANG": "C", "TZ": None, "TOKEN": "t", "GONE": None}
    assert [module.name for module in around["one"].modules] == ["tools"]


def test_a_parameter_chooses_the_file(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(name)
    source = "%%step one -i raw=param:where -o x\nx = raw"
    found = [
        surveyed(tmp_path, source, parameters='where = "./a.csv"', texts={"where": f"./{name}.csv"}) for name in "ab"
    ]

    assert [Path(each.circumstances["one"].files["raw"].paths[0]).name for each in found] == ["a.csv", "b.csv"]


def touched(path: Path) -> None:
    """Give a file another time and the bytes that it had."""
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    "change, same",
    [
        (lambda folder: None, True),
        (lambda folder: touched(folder / "raw.csv"), True),
        (lambda folder: (folder / "raw.csv").write_text("2"), False),
        (lambda folder: (folder / "raw.csv").unlink(), False),
        (lambda folder: (folder / "all" / "b.txt").write_text("new"), False),
        (lambda folder: (folder / "all" / "a.txt").rename(folder / "all" / "c.txt"), False),
        (lambda folder: (folder / "extra.txt").write_text("2"), False),
        (lambda folder: (folder / "unrelated.txt").write_text("2"), True),
    ],
    ids=["nothing", "touched", "edited", "removed", "added in a folder", "renamed in a folder", "hashed", "another"],
)
def test_whether_a_steps_files_are_still_what_they_were(tmp_path, change, same):
    (tmp_path / "all").mkdir()
    for name in ("raw.csv", "all/a.txt", "extra.txt"):
        (tmp_path / name).write_text("1")
    situation = surveyed(tmp_path, "%%step one -i raw=./raw.csv, all=./all/ --hash ./extra.txt -o x\nx = raw, all")
    change(tmp_path)

    assert files_unchanged(situation, "one", NoDigestCache()) is same


@st.composite
def requests(draw):
    """Get a random pipeline and a random wish."""
    count = draw(st.integers(1, 6))
    names = [f"s{n}" for n in range(count)]
    needs = {name: [other for other in names[:place] if draw(st.booleans())] for place, name in enumerate(names)}
    sources = [
        f"%%step {name} {'-i ' + ', '.join(f'd{n}' for n in needs[name]) if needs[name] else ''} -o d{name}\n"
        f"d{name} = [{', '.join(f'd{n}' for n in needs[name])}]"
        for name in names
    ]
    wish = {
        "steps": tuple(draw(st.lists(st.sampled_from(names), max_size=2))),
        "start": draw(st.none() | st.sampled_from(names)),
        "force": draw(st.none() | st.lists(st.sampled_from(names), max_size=2).map(tuple)),
    }
    return sources, needs, wish


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests())
def test_a_selection_is_closed_under_needs_and_forces_only_what_it_holds(tmp_path, drawn):
    sources, needs, wish = drawn
    graph = graph_of(*sources)
    wish["force"], force = None, wish["force"]
    selected, _ = select_steps(graph, request(tmp_path, *sources, **wish))
    wish["force"] = (force and tuple(name for name in force if name in selected)) or None
    again, forced = select_steps(graph, request(tmp_path, *sources, **wish))

    assert again == selected
    assert set(wish["force"] or ()) <= forced <= selected
    assert all(set(needs[name]) <= selected for name in selected)
    if wish["start"] is None:
        assert set(wish["steps"]) <= selected
    elif not wish["steps"]:
        assert {wish["start"], *graph.dependants([wish["start"]])} <= forced
    if not wish["steps"] and wish["start"] is None:
        assert selected == set(needs)


@pytest.mark.parametrize("policy, parts", [("patch", 3), ("minor", 2)])
def test_d1_python_counts_up_to_the_release_that_the_policy_names(tmp_path, policy, parts):
    place = WorkspaceLayout(tmp_path / ".nbpipe", policy=EnvironmentPolicy(python=policy))
    circumstances = resolve_request(
        request(tmp_path, "%%step s -o a\na = 1"), place, {}, memory(), no_datastores
    ).circumstances["s"]

    assert circumstances.python.split(" ")[1] == ".".join(platform.python_version().split(".")[:parts])


@pytest.mark.parametrize(
    "sources",
    [
        ("%%step a -o x --retry 3\nx = 1", "%%step b -i x -o y\ny = x"),
        ("%%step a -o x:jsn\nx = 1", "%%step b -i v=a.x -o y\ny = v", "%%step c -o z\n#| after: a\nz = 1"),
        ("%%step a -o x --retry 3\nx = 1", "%%step a --append -o y\ny = 1"),
        ("# note\n#| step: a\n#| out: x\nx = 1", "%%step b -i x -o y\ny = x"),
        ("%%step a -o x\nx = 1", "%%step a --append -o y --bad\ny = 1", "%%step b -i v=a.y -o z\nz = v"),
        ("import os\nlimit = (1", "%%step a -o x\nx = os.sep, limit"),
    ],
)
def test_a_cell_that_is_wrong_is_told_once_not_again_by_all_that_need_it(tmp_path, sources):
    assert len(refused(tmp_path, *sources)) == 1


def test_what_no_wrong_cell_speaks_of_is_told_beside_it(tmp_path):
    said = [error.message for error in refused(tmp_path, "%%step a -o x --bad\nx = 1", "%%step b -i v -o y\ny = w + v")]
    assert said[1:] == ["`w` is used but never defined", "no step has an output `v`"]


def test_in_a_kernel_a_wrong_cell_hides_no_error_of_the_step_that_is_asked_for(tmp_path):
    sources = ("%%step a -o x --bad\nx = 1", "%%step b -i x -o y\ny = x")
    said = [error.message for error in refused(tmp_path, *sources, steps=("b",))]
    assert said == ["there is no option `--bad`"]
