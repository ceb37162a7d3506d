"""Keys and digests never change by accident: an earlier nbpipe's results are found by a later one.

The vectors are data, made once. Where one of them must change, so must the schema of the key or the version of the
normaliser, for every result that was made before is then computed anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sample_pipelines import artifact, cells

from nbpipe.data.digests import NoDigestCache, content_digest, file_digest, tree_digest
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import FrozenModule, KeyComponent, PinnedFiles
from nbpipe.planning.fingerprint import PinnedInputs, fixed_components, key_of, raw_key_of, upstream_component
from nbpipe.planning.graph import build_graph

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("golden_keys.json").read_text(encoding="utf-8"))

STEP = """\
%%step train -i features, raw:csv=./raw.csv, photos=./photos/, texts=./texts/*.txt -o model, report:json, log:file.txt \
--hash ./extra.txt --salt a --envvar MODE
import tools
log.write_text("done")
model = report = scaled(features) + rate  # the one parameter
"""
OTHERS = (
    "def scaled(x):\n    # a remark\n    return x * FACTOR",
    "FACTOR = 2",
    "#| shared\nSEEN = []\nSEEN.append(1)",
    "#| shared\nimport random\nrandom.seed(1)",
    "%%step prepare -o features\nfeatures = 1",
)


def everything() -> tuple[KeyComponent, ...]:
    """Get one component of every kind, at least."""
    values = {"rate": {"list": [1, 1.0, True, None, "é"], "big": 2**70}}
    reading = parse_cells(cells(*OTHERS, STEP, parameters="rate = {}"))
    graph, errors = build_graph(reading, values, "python3")
    assert [*reading.errors, *errors] == []
    photos = (("a.png", 20, "blake3:aa"), ("b/c.png", 1, "blake3:bc"))
    texts = (("a.txt", 1, "blake3:a"),)
    around = PinnedInputs(
        python="CPython 3.11.7 linux-x86_64",
        values=values,
        variables={"LANG": "C.UTF-8", "TZ": None, "MODE": ""},
        files={
            "raw": PinnedFiles("file", ("/data/raw.csv",), "blake3:01", 10, (("raw.csv", 10, "blake3:01"),)),
            "photos": PinnedFiles("dir", ("/data/photos",), tree_digest(photos), 21, photos),
            "texts": PinnedFiles("glob", ("/data/texts/a.txt",), tree_digest(texts), 1, texts),
        },
        hashes={
            "./extra.txt": PinnedFiles("file", ("/data/extra.txt",), "blake3:03", 1, (("extra.txt", 1, "blake3:03"),))
        },
        modules=(FrozenModule("tools", "/src/tools.py", "def f():\n    return 1  # one\n", is_package=True),),
        packages=("a==1", "b==2.0"),
    )
    step = graph.steps["train"]
    return (*fixed_components(step, graph.pipeline.code["train"], around), *FED)


FED = (
    upstream_component("features", artifact("features", "f")),
    upstream_component("table", artifact("table", "t", format="arrow")),
    upstream_component("file", artifact("file", "x", format="file", basename="file.txt")),
    upstream_component("folder", artifact("folder", "y", format="dir", basename="folder")),
)
CODE = ("code", "definition", "module", "shared order")


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: str(len(vector["components"])))
def test_the_key_over_components_never_changes(vector):
    found = [KeyComponent(name, digest, "", raw=raw) for name, digest, raw in vector["components"]]

    assert [key_of(found), raw_key_of(found)] == [vector["key"], vector["raw"]]


def test_the_second_digest_of_every_component_never_changes():
    """What is made from text as written depends on no version of anything."""
    found = {component.name: component.raw or component.digest for component in everything()}

    assert found == VECTORS["as written"]


def test_the_first_digest_of_every_component_that_is_no_code_never_changes():
    found = {c.name: c.digest for c in everything() if c.name.partition(":")[0] not in CODE}

    assert found == {name: d for name, d in VECTORS["as written"].items() if name.partition(":")[0] not in CODE}


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="another Python has other syntax trees, and says so in the key"
)
def test_the_normal_form_of_code_never_changes():
    found = {c.name: c.digest for c in everything() if c.name.partition(":")[0] in CODE}

    assert found == VECTORS["normal form"]


def test_the_vectors_hold_every_kind_of_component():
    """What has no vector could change unseen."""
    kinds = {name.partition(":")[0] for name in VECTORS["as written"]}

    assert kinds == {"code", "definition", "shared order", "module", "parameter", "input", "outputs", "python",
                     "packages", "envvar", "salt", "hash"}  # fmt: skip


@pytest.mark.parametrize("text, digest", VECTORS["files"].items())
def test_the_digest_of_a_file_never_changes(tmp_path, text, digest):
    (tmp_path / "file").write_bytes(text.encode())

    assert file_digest(tmp_path / "file") == digest


@pytest.mark.parametrize("tree", VECTORS["trees"], ids=lambda tree: str(len(tree["files"])))
def test_the_digest_of_a_folder_never_changes(tmp_path, tree):
    """The same by its members and by what lies on disk, in whatever order."""
    for name, text in tree["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    members = [(name, len(text.encode()), file_digest(tmp_path / name)) for name, text in tree["files"].items()]

    assert tree_digest(members) == tree_digest(reversed(members)) == tree["digest"]
    assert content_digest(tmp_path, NoDigestCache())[0] == tree["digest"]
