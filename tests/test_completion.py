"""What is offered at the cursor: by the grammar alone, and by a real kernel that a front end asks."""

from __future__ import annotations

from typing import Any

import pytest
from magics_kernel import Kernel

from nbpipe.language.completion import CompletionNames, complete
from nbpipe.language.directives import WORKING
from nbpipe.verbs.completion import complete_line
from nbpipe.verbs.syntax import Face
from nbpipe.verbs.table import verbs_in

KNOWN = CompletionNames(
    steps={"clean": ("df", "stats"), "split": ("train", "test", "stats"), "fit": ("model",)},
    parameters=("rate", "depth"),
)


def offered(text: str) -> list[str]:
    """Get the words that may stand where ``|`` stands in a cell."""
    before, _, after = text.partition("‸")
    line, column = before.count("\n"), len(before.rpartition("\n")[2])
    place = (before + after, line, column, KNOWN)
    found = complete_line(*place) or complete(*place)
    return [] if found is None else [found.fragment, *found.words]


@pytest.mark.parametrize(
    "text, words",
    [
        ("%%step new -i ‸", ["", "df", "train", "test", "model", "stats=clean.stats", "stats=split.stats"]),
        ("%%step new -i df, t‸", ["t", "train", "test"]),
        ("%%step new -i df,tr‸ -o x", ["tr", "train"]),
        ("%%step fit -i m‸", []),
        ("%%step new -i x=clean.‸", ["clean.", "clean.df", "clean.stats"]),
        ("%%step new -i x=par‸", ["par", "param:rate", "param:depth"]),
        ("%%step new -o m:js‸", ["js", "json"]),
        ("%%step new -o m:fi‸", ["fi", "figure", "file", "file."]),
        ("%%step new -o ‸\nmodel = 1\nother, x = 2, 3", ["", "model", "other", "x"]),
        ("%%step new -o model,‸\nmodel = 1\nother, x = 2, 3", ["", "other", "x"]),
        ("%%step new -i df --re‸", ["--re", "--retries", "--reuse", "--register"]),
        ("%%step new -i df --reuse ‸", ["", "auto", "never", "keep"]),
        ("%%step new -i df --param r‸", ["r", "rate"]),
        ("%%step new -p r‸", ["r", "rate"]),
        ("%%step new --after c‸", ["c", "clean"]),
        ("%%step new ‸", ["", "-i", "-o", "-p"]),
        ("%%step new --he‸", ["--he", "--here"]),
        ("%%step new \\\n  -i df \\\n  --after sp‸", ["sp", "split"]),
        ("%%nbstep new -i tr‸", ["tr", "train"]),
        ("#| step: new -i tr‸", ["tr", "train"]),
        ("%%step new\n#| ou‸", ["ou", "out: "]),
        ("%%step new\n#| in: df\n# | reuse: k‸", ["k", "keep"]),
        ("#| step: new\n#| in: df, x=fit.‸\nx", ["fit.", "fit.model"]),
        ("%nbpipe wh‸", ["wh", "why"]),
        ("x = 1\n%nbpipe why s‸", ["s", "split"]),
        ("%nbpipe run --ke‸", ["--ke", "--keep-going"]),
        ("%nbpipe run -p ‸", ["", "rate=", "depth="]),
        ("%nbpipe run --to f‸", ["f", "fit"]),
        ("%nbpipe pull clean.‸", ["clean.", "clean.df", "clean.stats"]),
        ("%nbpipe why split ‸", []),
        ("%nbpipe run --force clean s‸", ["s", "split"]),
        ("%nbpipe run --to=f‸", ["--to=f", "--to=fit"]),
        ("%nbpipe run --to --fo‸", []),
        ("%nbpipe runs --status ca‸", ["ca", "cancelled"]),
        ("%nbpipe runs --step sp‸", ["sp", "split"]),
        ("%nbpipe status --follow --fo‸", []),
        ("%nbpipe gc ‸", []),
        ("%nbpipe defaults reu‸", ["reu", "reuse="]),
        ("%nbpipe defaults reuse=n‸", ["reuse=n", "reuse=never"]),
        ("x = cle‸", []),
        ("%%step new -i df\nx = cle‸", []),
        ("%%step new -i df\nx = 1\n#| ou‸", []),
        ("%%time\n%%step new -i ‸", []),
        ("x = 1\n#| in: ‸", []),
    ],
)
def test_what_fits_is_offered(text, words):
    assert offered(text) == words


def test_all_keys_are_offered_once():
    assert offered("%%step new\n#| ‸") == ["", *(f"{key}: " for key in WORKING)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("%%step s -i x=ds:la", ("ds:labels", "ds:lake")),
        ("%%step a\n#| register: x=lab", ("labels",)),
        ("%%step a\n#| register: ", ("x=",)),
    ],
)
def test_datasets_are_offered(text, words):
    names = CompletionNames(steps={"a": ("x",)}, datasets=("labels", "lake"))
    lines = text.split("\n")
    found = complete(text, len(lines) - 1, len(lines[-1]), names)

    assert found is not None
    assert found.words == words


@pytest.mark.parametrize("verb", verbs_in(Face.NOTEBOOK), ids=lambda verb: verb.name)
def test_every_verb_and_its_options_are_offered(verb):
    *group, name = verb.name.split()
    assert name in offered(" ".join(["%nbpipe", *group, "‸"]))[1:]
    names = [option.name for option in verb.options_in(Face.NOTEBOOK)]
    assert [name for name in names if name not in offered(f"%nbpipe {verb.name} -‸")[1:]] == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Kernel(tmp_path_factory.mktemp("lab"))
    lab.run("load", "%load_ext nbpipe")
    lab.run("rate", "#| parameters\nrate = 0.5")
    lab.run("manual", "%nbpipe defaults run=manual")
    lab.run("make", "%%step clean -o df, features\ndf, features = 1, 2")
    yield lab
    lab.close()


@pytest.mark.kernel
@pytest.mark.parametrize(
    "text, word, start",
    [
        ("%%step train -i fea‸", "features", 16),
        ("%%step train \\\n  -i fea‸\nx = 1", "features", 20),
        ("%%step train -i x=clean.d‸", "clean.df", 18),
        ("%%step train\n#| in: fea‸\nx = 1", "features", 20),
        ("%%step train --ret‸", "--retries", 13),
        ("%nbpipe pl‸", "plan", 8),
        ("%nbpipe run --kee‸", "--keep-going", 12),
        ("%nbpipe why cl‸", "clean", 12),
        ("%nbpipe run -p ra‸", "rate=", 15),
    ],
)
def test_a_front_end_gets_them_from_the_kernel(lab, text, word, start):
    before, _, after = text.partition("‸")
    told: dict[str, Any] = lab.ask("complete", code=before + after, cursor_pos=len(before))
    assert (told["matches"], told["cursor_start"], told["cursor_end"]) == ([word], start, len(before))


@pytest.mark.kernel
def test_ordinary_code_is_completed_as_ever(lab):
    lab.run("ordinary", "feature_list = [1]")
    told = lab.ask("complete", code="%%step x -i df\ny = feature_l", cursor_pos=28)
    assert "feature_list" in told["matches"]


@pytest.mark.kernel
def test_files_beside_the_notebook_are_offered(lab):
    (lab.folder / "data" / "raw").mkdir(parents=True)
    (lab.folder / "data" / "rates.csv").write_text("")
    (lab.folder / "data" / "with space.csv").write_text("")
    told = lab.ask("complete", code="%%step x -i d=./data/ra", cursor_pos=23)
    assert told["matches"] == ["./data/rates.csv", "./data/raw/"]
    told = lab.ask("complete", code="%%step x -i d=./nowhere/", cursor_pos=24)
    assert "./nowhere/" not in told["matches"]


@pytest.mark.kernel
def test_unloading_takes_it_back(tmp_path):
    lab = Kernel(tmp_path)
    try:
        count = "len(get_ipython().Completer.custom_matchers)"
        before = lab.run("count", count)[0]
        lab.run("load", "%load_ext nbpipe")
        lab.run("unload", "%unload_ext nbpipe")
        assert lab.run("count", count)[0] == before
        assert lab.ask("complete", code="%%step x -i d --ret", cursor_pos=19)["matches"] == []
    finally:
        lab.close()
