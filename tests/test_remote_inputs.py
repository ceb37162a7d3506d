"""Inputs in datastores: pinned by content, read once, reused while the bytes are the same, refused when gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_in_process import said
from hypothesis import given, settings
from hypothesis import strategies as st
from object_servers import KEY, SECRET, make_bucket, moto_server

from nbpipe.data.file_pinning import PersistentDigestCache, pin_files
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.errors import BadUsage, FileMissing, NbpipeError, ObjectChanged
from nbpipe.history.store import History
from nbpipe.model import PinnedKind
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.remote_inputs import RemoteInputs, cache_folder, open_remote_inputs
from nbpipe.resolve.workspace_layout import find_workspace


class Counted:
    """A datastore of which the downloads are counted."""

    def __init__(self, store: ObjectStore, downloads: list[str]) -> None:
        self._store, self._downloads = store, downloads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def download(self, key: str, *rest: Any, **more: Any) -> Any:
        """Count a download."""
        self._downloads.append(key)
        return self._store.download(key, *rest, **more)


@pytest.fixture
def lake(tmp_path):
    folder = tmp_path / "lake"
    for path, text in {"t.csv": "x,y\n1,2\n", "img/a/1.txt": "A", "img/b/2.txt": "B", "img/b/.hidden": "h"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (tmp_path / "nbpipe.toml").write_text('[datastores.lake]\nurl = "./lake"\n')
    return folder


@pytest.fixture
def history(tmp_path):
    with History.open(tmp_path / "history.db") as opened:
        yield opened


def opened(lake: Path, history: History, downloads: list[str] | None = None) -> RemoteInputs:
    """Get what a new process has."""
    datastores = OpenDatastores.of(find_workspace(lake.parent), {})
    remote = RemoteInputs(datastores, history.object_digests, ObjectCache(lake.parent / "cache"))
    if downloads is not None:
        datastores._opened["lake"] = Counted(datastores.store("lake"), downloads)
    return remote


def digests() -> PersistentDigestCache:
    return PersistentDigestCache(lambda _paths: {}, lambda _entries: None, lambda: 0.0)


@pytest.mark.parametrize(
    "text, pattern, kind",
    [
        ("store:lake/t.csv", "./lake/t.csv", PinnedKind.FILE),
        ("store:lake/img", "./lake/img", PinnedKind.DIR),
        ("store:lake/img/", "./lake/img/", PinnedKind.DIR),
        ("store:lake/img/*/1.txt", "./lake/img/*/1.txt", PinnedKind.GLOB),
        ("store:lake/img/**/*.txt", "./lake/img/**/*.txt", PinnedKind.GLOB),
        ("store:lake/img/[ab]/?.txt", "./lake/img/[ab]/?.txt", PinnedKind.GLOB),
        ("store:lake/*.csv", "./lake/*.csv", PinnedKind.GLOB),
    ],
)
def test_an_input_has_the_identity_that_it_would_have_on_the_disk(lake, history, text, pattern, kind):
    remote = opened(lake, history)
    pinned, local = remote.pin(text), pin_files(pattern, lake.parent, digests())
    assert (pinned.kind, local.kind) == (kind, kind)
    assert (pinned.digest, pinned.bytes, pinned.members) == (local.digest, local.bytes, local.members)
    remote.stage(text)
    assert [Path(path).name for path in pinned.paths] == [Path(path).name for path in local.paths]
    contents = [[file.read_text() for file in sorted(Path(path).rglob("*")) if file.is_file()] for path in pinned.paths]
    assert contents == [
        [file.read_text() for file in sorted(Path(path).rglob("*")) if file.is_file()] for path in local.paths
    ]


def test_what_has_not_changed_is_not_read_again(lake, history):
    downloads: list[str] = []
    first = opened(lake, history, downloads).pin("store:lake/img/")
    assert sorted(downloads) == ["img/a/1.txt", "img/b/.hidden", "img/b/2.txt"]
    downloads.clear()
    remote = opened(lake, history, downloads)
    assert remote.pin("store:lake/img/") == first
    remote.stage("store:lake/img/")
    assert downloads == []
    (lake / "img/a/1.txt").write_text("other")
    assert opened(lake, history, downloads).pin("store:lake/img/").digest != first.digest
    assert downloads == ["img/a/1.txt"]


def test_copies_that_were_removed_are_read_again_and_checked(lake, history):
    downloads: list[str] = []
    opened(lake, history).pin("store:lake/t.csv")
    remote = opened(lake, history, downloads)
    pinned = remote.pin("store:lake/t.csv")
    Path(pinned.paths[0]).unlink()
    remote.stage("store:lake/t.csv")
    assert downloads == ["t.csv"]
    assert Path(pinned.paths[0]).read_text() == "x,y\n1,2\n"
    Path(pinned.paths[0]).unlink()
    (lake / "t.csv").write_text("x,y\n9,9\n")
    assert not remote.is_unchanged("store:lake/t.csv")
    with pytest.raises(ObjectChanged, match="has changed since the run was submitted"):
        remote.stage("store:lake/t.csv")
    assert not Path(pinned.paths[0]).exists()


@pytest.mark.parametrize(
    "text, kind, expected",
    [
        ("store:lake/nope.csv", FileMissing, "is not there"),
        ("store:lake/*.parquet", FileMissing, "matches no object"),
        ("store:lak/t.csv", BadUsage, "Did you mean `lake`?"),
        ("store:lake/../secret", BadUsage, "is not the path of an object"),
        ("store:", BadUsage, "is not a place in a datastore"),
    ],
)
def test_what_is_wrong_is_told(lake, history, text, kind, expected):
    with pytest.raises(NbpipeError) as caught:
        opened(lake, history).pin(text)
    assert isinstance(caught.value, kind)
    assert expected in str(caught.value)


@settings(max_examples=30)
@given(
    edits=st.lists(
        st.tuples(st.sampled_from(["a", "b/c", "b/d"]), st.sampled_from([None, "1", "22", "33"])), max_size=6
    )
)
def test_after_any_edits_the_identity_is_that_of_the_bytes(tmp_path_factory, edits):
    base = tmp_path_factory.mktemp("edits")
    (base / "nbpipe.toml").write_text('[datastores.lake]\nurl = "./lake"\n')
    (base / "lake/b").mkdir(parents=True)
    (base / "lake/keep").write_text("k")
    with History.open(base / "history.db") as history:
        for path, text in edits:
            (base / "lake" / path).unlink(missing_ok=True) if text is None else (base / "lake" / path).write_text(text)
            pinned = opened(base / "lake", history).pin("store:lake")
            assert pinned.digest == pin_files("./lake/", base, digests()).digest


def test_old_copies_are_removed_above_the_limit(lake, history, tmp_path):
    remote = opened(lake, history)
    pinned = remote.pin("store:lake/img/")
    remote.stage("store:lake/img/")
    cache = ObjectCache(tmp_path / "cache")
    files = list((tmp_path / "cache/objects").glob("*/*/*"))
    cache.trim(limit=0)
    assert all(file.exists() for file in files)
    for file in files:
        os.utime(file, (1, 1))
    os.utime(pinned.paths[0], (1, 1))
    cache.trim(limit=0)
    assert not any(file.exists() for file in files)
    assert not Path(pinned.paths[0]).exists()
    remote.stage("store:lake/img/")
    assert (Path(pinned.paths[0]) / "a/1.txt").read_text() == "A"


def test_the_folder_of_copies(tmp_path):
    assert cache_folder({"XDG_CACHE_HOME": "/x"}, tmp_path) == Path("/x/nbpipe")
    assert cache_folder({"HOME": "/home/u"}, tmp_path) == Path("/home/u/.cache/nbpipe")
    assert cache_folder({"XDG_CACHE_HOME": "relative"}, tmp_path) == tmp_path / "cache"
    assert cache_folder({}, tmp_path) == tmp_path / "cache"


def test_a_folder_of_copies_that_cannot_be_written_is_told(lake, history, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(NbpipeError, match=r"the copies of objects in .* cannot be written"):
        opened(lake, history).pin("store:lake/t.csv")


def notebook(folder: Path, *sources: str) -> Path:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


def ran(path: Path) -> dict[str, str]:
    """Run the notebook and get the statuses of its steps."""
    code, text = said("run", str(path), "--json")
    assert code == 0, text
    document = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    return {step["name"]: step["status"] for step in document["steps"]}


STEPS = (
    "import pandas as pd",
    "%%step total -i raw:csv=store:lake/t.csv -o y:json\ny = int(raw.y.sum())",
    (
        "%%step names -i imgs=store:lake/img/,each=store:lake/img/**/*.txt -o found:json\n"
        "found = [sorted(str(p.relative_to(imgs)) for p in imgs.rglob('*.txt')), [p.parent.name for p in each]]"
    ),
)


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_pipeline_reads_from_a_datastore_and_is_reused_by_content(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = notebook(tmp_path, *STEPS)
    assert ran(path) == {"total": "succeeded", "names": "succeeded"}
    code, _ = said("pull", str(path), "names.found", "--to", str(tmp_path / "found.json"))
    assert (code, json.loads((tmp_path / "found.json").read_text())) == (0, [["a/1.txt", "b/2.txt"], ["a", "b"]])
    assert ran(path) == {"total": "reused", "names": "reused"}
    (lake / "t.csv").write_text("x,y\n1,2\n")
    assert ran(path) == {"total": "reused", "names": "reused"}
    (lake / "t.csv").write_text("x,y\n1,3\n")
    assert ran(path) == {"total": "succeeded", "names": "reused"}
    (lake / "t.csv").unlink()
    code, text = said("plan", str(path))
    assert code == 2
    assert "`store:lake/t.csv` is not there" in text


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_an_input_that_changes_during_the_run_serves_this_run_only(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    change = f"from pathlib import Path\nPath({str(lake)!r}, 't.csv').write_text('x,y\\n8,8\\n')"
    path = notebook(tmp_path, f"%%step total -i raw=store:lake/t.csv -o y:json\ny = raw.read_text()\n{change}")
    assert ran(path) == {"total": "succeeded"}
    assert ran(path) == {"total": "succeeded"}
    assert ran(path) == {"total": "succeeded"}


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.mark.s3
@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_the_same_notebook_reads_from_a_bucket(lake, moto, tmp_path, monkeypatch):
    make_bucket(moto, "inputs")
    for name, value in {"THE_KEY": KEY, "THE_SECRET": SECRET, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    path = notebook(tmp_path, *STEPS)
    assert ran(path) == {"total": "succeeded", "names": "succeeded"}
    credentials = '{ access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }'
    (tmp_path / "nbpipe.toml").write_text(
        f'[datastores.lake]\nurl = "s3://inputs/below"\noptions = {{ endpoint = "{moto}" }}\n'
        f"credentials = {credentials}\n"
    )
    code, text = said("datastores", "cp", str(lake), "store:lake")
    assert code == 0, text
    # The same bytes elsewhere are the same input.
    assert ran(path) == {"total": "reused", "names": "reused"}
    for file in (tmp_path / ".nbpipe").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_it_is_opened_with_the_variables_of_the_one_who_submits(lake, history):
    remote = open_remote_inputs(find_workspace(lake.parent), history.object_digests, {"XDG_CACHE_HOME": "/nowhere/x"})
    assert remote.cache.root == Path("/nowhere/x/nbpipe")
