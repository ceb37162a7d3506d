"""Registered versions outlive collections, in the workspace's folder and in a datastore of outputs, and say so."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_in_process import said
from object_servers import KEY, SECRET, make_bucket, moto_server

from nbpipe.history.claims import Claim
from nbpipe.workspace import Workspace
from nbpipe.workspace.datasets import Datasets, Keeping
from nbpipe.workspace.retention import collect

KEEP = "[keep]\nruns = 1\ndays = 0\nfailed = 0\n"

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    settings = KEEP
    if request.param == "s3":
        name = "b" + "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-40:]
        endpoint = request.getfixturevalue("moto")
        make_bucket(endpoint, name)
        settings += (
            '[datastores]\ndefault = "blob"\n[datastores.blob]\n'
            f'url = "s3://{name}/outputs"\noptions = {{ endpoint = "{endpoint}" }}\n'
            'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n'
        )
    (folder / "nbpipe.toml").write_text(settings)
    values = {"THE_KEY": KEY, "THE_SECRET": SECRET, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(folder)
    return folder


def write(folder: Path, value: int, *more: str) -> Path:
    make = (
        "%%step make -o x:json, parts:dir, rest:json --register x=numbers, parts=pieces\n"
        f"x, rest = {value}, 'unregistered {value}'\n"
        f"parts.mkdir(exist_ok=True)\n(parts / 'a.txt').write_text('{value}')\n(parts / 'b.txt').write_text('same')"
    )
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (make, *more)])
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


def document_of(*words: str) -> dict[str, Any]:
    code, text = said(*words, "--json")
    assert code == 0, text
    document: dict[str, Any] = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    return document


def run(path: Path) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = document_of("run", str(path))["steps"]
    return steps


def bytes_of(folder: Path, text: str) -> dict[str, bytes]:
    with Workspace.open(folder) as workspace:
        datasets = Datasets(workspace.context)
        return {name: path.read_bytes() for name, path in datasets.local(datasets.find(text)).files}


def forget_copies(folder: Path) -> None:
    shutil.rmtree(folder.parent / "cache", ignore_errors=True)


def test_versions_are_stored_with_the_outputs_and_read_without_copies(project: Path) -> None:
    (project / "labels.csv").write_text("a\n1\n")
    run(write(project, 7))
    document_of("datasets", "register", "labels", "./labels.csv")
    (project / "labels.csv").unlink()
    if "blob" in (project / "nbpipe.toml").read_text():
        objects = project / ".nbpipe/store/objects"
        assert not objects.exists() or not any(objects.iterdir())
    forget_copies(project)

    reader = (
        "%%step read -i n=ds:numbers, l=ds:labels, p=ds:pieces@1 -o seen:json\n"
        "seen = [n, l.read_text(), sorted(each.name for each in p.iterdir()), (p / 'a.txt').read_text()]"
    )
    make, read = run(write(project, 7, reader))
    assert (make["status"], read["status"]) == ("reused", "succeeded"), read["error"]
    assert read["datasets"] == {"n": "numbers@1", "l": "labels@1", "p": "pieces@1"}
    assert said("pull", "n.ipynb", "read.seen", "--to", "seen.json")[0] == 0
    assert json.loads((project / "seen.json").read_text()) == [7, "a\n1\n", ["a.txt", "b.txt"], "7"]
    assert said("verify")[0] == 0


def test_bytes_that_are_stored_in_another_datastore_are_read_from_there(project: Path) -> None:
    """What is lost with the workspace's own folder comes back with a new run, as the same version."""
    settings = (project / "nbpipe.toml").read_text()
    (project / "nbpipe.toml").write_text(KEEP)
    run(write(project, 7))
    assert bytes_of(project, "numbers@1") == {"x.json": b"7"}
    shutil.rmtree(project / ".nbpipe/store/objects")
    code, text = said("run", str(write(project, 7, "%%step read -i n=ds:numbers -o m:json\nm = n")), "read")
    assert (code, "`numbers@1` cannot be read" in text) == (1, True), text

    (project / "nbpipe.toml").write_text(settings)
    (step,) = run(write(project, 7))
    assert step["outputs"]["x"]["dataset"] == "numbers@1"
    assert bytes_of(project, "numbers") == {"x.json": b"7"}
    assert document_of("gc", "--apply")["untouched"] == {}
    forget_copies(project)
    assert bytes_of(project, "numbers@1") == {"x.json": b"7"}


def test_collections_keep_registered_versions_and_tell_that_they_do(project: Path) -> None:
    (project / "file.txt").write_text("from outside")
    (project / "far.txt").write_text("stays there")
    document_of("datasets", "register", "kept", "./file.txt", "--copy")
    document_of("datasets", "register", "listed", "./far.txt", "--reference")
    registered, *_ = run(write(project, 1))
    for value in (2, 3):
        run(write(project, value))
    plain = write(project, 4)
    plain.write_text(plain.read_text().replace("--register x=numbers, parts=pieces", ""))
    for value in (4, 5):
        plain.write_text(plain.read_text().replace("= 4,", f"= {value},"))
        run(plain)
    before = {text: bytes_of(project, text) for text in ("numbers@1", "numbers@2", "pieces@1", "kept", "listed")}

    collected = document_of("gc", "--apply")
    forget_copies(project)

    assert [(each["step"], each["run"]) for each in collected["results"]] == [("make", 4)]
    assert collected["untouched"] == {}
    assert collected["objects"] > 0
    assert {text: bytes_of(project, text) for text in before} == before
    assert before["numbers@1"] == {"x.json": b"1"}
    assert said("verify")[0] == 0
    assert [step["status"] for step in run(write(project, 1))] == ["reused"]

    (told,) = document_of("gc", "--why", registered["outputs"]["x"]["digest"])["outputs"]
    assert (told["step"], told["run"], told["why"]) == ("make", 1, "it is dataset numbers@1")
    (told,) = document_of("gc", "--why", registered["outputs"]["rest"]["digest"])["outputs"]
    assert "as dataset " in told["why"]
    for name, why in (("kept", "it is dataset kept@1"), ("listed", "it lists the files of dataset listed@1")):
        (told,) = document_of("gc", "--why", document_of("datasets", "show", name)["digest"])["outputs"]
        assert (told["step"], told["run"], told["why"]) == (None, None, why)
        assert why in said("gc", "--why", told["digest"])[1]


def test_nothing_is_deleted_while_a_version_is_registered(project: Path) -> None:
    plain = write(project, 1)
    for value in (1, 2):
        plain = write(project, value)
        plain.write_text(plain.read_text().replace("--register x=numbers, parts=pieces", ""))
        run(plain)
    (project / "file.txt").write_text("from outside")
    with Workspace.open(project) as workspace:
        storing = workspace.context.storing
        with storing(), storing():
            done = collect(workspace)
            assert len(done.results) == 1
            assert done.waiting == done.objects > 0
        history = workspace.context.history
        claim = history.retention.begin(owner="other|x|1|2|3|4", now=workspace.now(), lease=60, alive=lambda _: True)
        assert isinstance(claim, Claim)
        # Registering waits for objects that are being deleted, and for nothing else.
        assert str(Datasets(workspace.context).register("one", "./file.txt", project, Keeping.COPY).version) == "one@1"
        ripe = history.condemnation.ripe()
        ((name, keys),) = ripe.objects.items()
        taken = history.condemnation.take(name, list(keys)[:1], ripe.roots, claim)
        timer = threading.Timer(0.5, lambda: history.condemnation.deleted(name, taken))
        timer.start()
        done_now = Datasets(workspace.context).register("two", "./file.txt", project, Keeping.COPY)
        assert not timer.is_alive()
        assert str(done_now.version) == "two@1"
        timer.join()
        history.claims.release(claim)
        assert collect(workspace).waiting == 0


def test_a_registration_that_was_killed_does_not_stop_collections(project: Path) -> None:
    with Workspace.open(project) as workspace:
        claims = workspace.context.history.claims
        claims.begin_storing(owner="gone", now=workspace.now(), lease=1_000)
        left = workspace.layout.store / ".draft-1" / "folder"
        left.mkdir(parents=True)
        (left / "file").write_text("half")
        collect(workspace)
        assert not left.parent.exists()
        assert claims.storing(now=workspace.now(), alive=lambda _: True) == 0
