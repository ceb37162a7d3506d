"""Outputs that are delivered to places in datastores: where they were sent, and over nobody else's data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_in_process import said
from object_servers import KEY, SECRET, make_bucket, moto_server

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

SETTINGS = '[datastores.lake]\nurl = "./lake"\n[datastores.closed]\nurl = "./lake"\nwrite = false\n'


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nbpipe.toml").write_text(SETTINGS)
    (tmp_path / "lake").mkdir()
    return tmp_path / "lake"


def notebook(folder: Path, *sources: str) -> Path:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


def ran(path: Path, *words: str, code: int = 0) -> dict[str, Any]:
    said_code, text = said("run", str(path), *words, "--json")
    assert said_code == code, text
    document: dict[str, Any] = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    return document


def statuses(path: Path, *words: str, code: int = 0) -> list[str]:
    return [step["status"] for step in ran(path, *words, code=code)["steps"]]


def error_of(path: Path) -> str:
    return str(ran(path, code=1)["steps"][0]["error"]["message"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


PARTS = "[(parts / n).write_text(n) for n in {names}]"


def step(destination: str, value: int = 1) -> str:
    return f"%%step make -o x:json={destination}\nx = {value}"


@pytest.mark.slow
def test_an_output_goes_to_its_place_and_again_on_reuse(lake: Path) -> None:
    path = notebook(lake.parent, "#| parameters\nday: str = 'mon'", step("store:lake/out/{day}/{step}.json"))
    assert statuses(path) == ["succeeded"]
    assert files(lake) == {"out/mon/make.json": b"1"}
    assert statuses(path, "-p", "day=tue") == ["reused"]
    (lake / "out/mon/make.json").unlink()
    assert statuses(path) == ["reused"]
    assert files(lake) == {"out/mon/make.json": b"1", "out/tue/make.json": b"1"}


@pytest.mark.slow
def test_only_what_nbpipe_has_put_there_is_replaced(lake: Path) -> None:
    path = notebook(lake.parent, step("store:lake/out/"))
    assert statuses(path) == ["succeeded"]
    notebook(lake.parent, step("store:lake/out/", 2))
    assert statuses(path) == ["succeeded"]
    assert files(lake) == {"out/x.json": b"2"}

    (lake / "out/x.json").chmod(0o600)
    (lake / "out/x.json").write_bytes(b"somebody else's")
    notebook(lake.parent, step("store:lake/out/", 3))
    assert "is there already, and nbpipe did not put it there" in error_of(path)
    assert files(lake) == {"out/x.json": b"somebody else's"}
    # Equal bytes are no loss.
    (lake / "out/x.json").write_bytes(b"3")
    assert statuses(path) == ["succeeded"]
    notebook(lake.parent, step("store:lake/out/", 4))
    assert statuses(path) == ["succeeded"]
    assert files(lake) == {"out/x.json": b"4"}


@pytest.mark.slow
def test_a_folder_is_delivered_as_a_whole(lake: Path) -> None:
    def cell(*names: str) -> str:
        return f"%%step make -o parts:dir=store:lake/parts\n{PARTS.format(names=list(names))}"

    path = notebook(lake.parent, cell("a", "b"))
    assert statuses(path) == ["succeeded"]
    notebook(lake.parent, cell("b", "c"))
    assert statuses(path) == ["succeeded"]
    assert files(lake) == {"parts/b": b"b", "parts/c": b"c"}
    (lake / "parts/mine.txt").write_text("mine")
    notebook(lake.parent, cell("d"))
    assert "has `parts/mine.txt`, which the output does not have" in error_of(path)
    assert files(lake) == {"parts/b": b"b", "parts/c": b"c", "parts/mine.txt": b"mine"}


@pytest.mark.parametrize(
    "destination, expected",
    [
        ("store:lak/x.json", "Did you mean `lake`?"),
        ("store:closed/x.json", "is read-only"),
        ("store:lake/../x.json", "is not the path of an object"),
        ("store:lake", "A path needs a slash"),
        ("store:{where}/x.json", "a parameter chooses the datastore"),
        ("store:lake/{nope}.json", "is not a parameter"),
        ("https://x/y.json", "It may be a path (./out.csv) or a place in a datastore"),
        ("s3://bucket/x.json", "It may be a path (./out.csv) or a place in a datastore"),
    ],
)
def test_a_destination_that_cannot_be_is_refused_before_anything_runs(
    lake: Path, destination: str, expected: str
) -> None:
    path = notebook(lake.parent, "#| parameters\nwhere: str = 'lake'", step(destination))
    code, text = said("run", str(path))
    assert (code, expected in text) == (2, True), text
    assert not (lake.parent / ".nbpipe/runs").exists()


@pytest.mark.parametrize(
    "cells, expected",
    [
        ((step("store:lake/x.json"), "%%step two -o y:json=store:lake/x.json\ny = 2"), "is a destination twice"),
        ((step("store:lake/out/x.json"), "%%step two -o y:dir=store:lake/out\ny.mkdir()"), "is, holds or lies in"),
        (
            (step("store:lake/raw/x.json"), "%%step two -i raw=store:lake/raw/*.json -o y:json\ny = 2"),
            "would overwrite `store:lake/raw/*.json`",
        ),
    ],
)
def test_destinations_that_collide_are_refused(lake: Path, cells: tuple[str, ...], expected: str) -> None:
    (lake / "raw").mkdir()
    (lake / "raw/a.json").write_text("1")
    code, text = said("plan", str(notebook(lake.parent, *cells)))
    assert (code, expected in text) == (2, True), text


@pytest.mark.slow
def test_the_folders_of_outputs_are_no_destinations(lake: Path) -> None:
    (lake.parent / "nbpipe.toml").write_text('[datastores]\ndefault = "lake"\n' + SETTINGS)
    for destination in ("store:lake/objects/x.json", "store:lake/nbpipe-store.json"):
        code, text = said("plan", str(notebook(lake.parent, step(destination))))
        assert (code, "is where nbpipe stores outputs" in text) == (2, True), text
    assert statuses(notebook(lake.parent, step("store:lake/mine/x.json"))) == ["succeeded"]
    assert files(lake)["mine/x.json"] == b"1"


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.mark.s3
@pytest.mark.slow
def test_within_a_bucket_the_server_copies(lake: Path, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bucket(moto, "delivered")
    monkeypatch.setenv("THE_KEY", KEY)
    monkeypatch.setenv("THE_SECRET", SECRET)
    (lake.parent / "nbpipe.toml").write_text(
        f'[datastores]\ndefault = "blob"\n[datastores.blob]\nurl = "s3://delivered/x"\n'
        f'options = {{ endpoint = "{moto}" }}\n'
        'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n'
    )
    path = notebook(lake.parent, step("store:blob/out/{run-id}/x.json"))
    first = ran(path)["run"]
    second = ran(path)["run"]
    code, text = said("datastores", "ls", "blob/out", "--json")
    assert (code, json.loads(text.splitlines()[0])["folders"]) == (0, sorted([first, second])), text
