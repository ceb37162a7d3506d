"""Outputs in a configured datastore: one setting, the same notebook, the same reuse, nothing in the workspace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_in_process import said
from object_servers import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    KEY,
    SECRET,
    azurite,
    azurite_server,
    make_bucket,
    make_container,
    moto_server,
)

from nbpipe.run.attempt_control import AttemptControl
from nbpipe.run.execution_state import ExecutionState
from nbpipe.workspace.workspace import Workspace

GONE = "output `x` of step `first` is no longer in the datastore `blob`"
CELLS = (
    "import pandas as pd",
    (
        "%%step make -o frame,parts:dir\n"
        "frame = pd.DataFrame({'a': range(10)})\n"
        "parts.mkdir(exist_ok=True)\n"
        "for n in range(20): (parts / f'{n}.txt').write_text(str(n))\n"
        "print('made')"
    ),
    "%%step total -i frame,parts -o sum:json\nsum = int(frame.a.sum()) + len(list(parts.iterdir()))",
)

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture
def bucket(moto: str, tmp_path: Path) -> str:
    name = "b" + "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-40:]
    make_bucket(moto, name)
    return (
        f'url = "s3://{name}/outputs"\noptions = {{ endpoint = "{moto}" }}\n'
        'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n'
    )


@pytest.fixture(autouse=True)
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"THE_KEY": KEY, "THE_SECRET": SECRET, "THE_ACCOUNT_KEY": AZURE_KEY}
    for name, value in {**values, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)


def project(folder: Path, datastore: str, *cells: str) -> Path:
    """Make a project whose outputs are in a datastore, and get its notebook."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbpipe.toml").write_text(f'[datastores]\ndefault = "blob"\n[datastores.blob]\n{datastore}')
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells or CELLS])
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


def document_of(*words: str, code: int = 0) -> dict[str, Any]:
    said_code, text = said(*words, "--json")
    assert said_code == code, text
    document: dict[str, Any] = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    return document


def ran(path: Path) -> dict[str, str]:
    return {step["name"]: step["status"] for step in document_of("run", str(path))["steps"]}


def refused(path: Path, code: int) -> str:
    said_code, text = said("run", str(path))
    assert said_code == code, text
    assert not (path.parent / ".nbpipe/runs").exists(), "something ran"
    return text


def the_same_twice(path: Path, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    first = document_of("run", str(path))
    assert [step["status"] for step in first["steps"]] == ["succeeded", "succeeded"]
    frame, parts = (first["steps"][0]["outputs"][name]["uri"] for name in ("frame", "parts"))
    assert frame.startswith(scheme)
    assert parts.endswith("/parts.tree")
    objects = path.parent / ".nbpipe/store/objects"
    assert not objects.exists() or not any(objects.iterdir())
    assert ran(path) == {"make": "reused", "total": "reused"}
    assert {step["verdict"] for step in document_of("plan", str(path))["steps"]} == {"reuse"}
    shutil.rmtree(tmp_path / "cache")
    assert said("pull", str(path), "make.parts", "--to", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out/7.txt").read_text() == "7"
    assert said("verify")[0] == 0
    for file in path.parent.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert SECRET.encode() not in content, file
        assert AZURE_KEY.encode() not in content, file


@pytest.mark.s3
def test_in_s3(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    the_same_twice(project(tmp_path / "project", bucket), "s3://", tmp_path, monkeypatch)


@pytest.mark.azure
@pytest.mark.skipif(azurite() is None, reason="azurite is not installed")
def test_in_azure_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    with azurite_server(tmp_path / "server") as address:
        make_container(address, "outputs")
        datastore = (
            f'url = "az://outputs/below"\noptions = {{ account = "{AZURE_ACCOUNT}", endpoint = "{address}" }}\n'
            'credentials = { account_key = "env:THE_ACCOUNT_KEY" }\n'
        )
        the_same_twice(project(tmp_path / "project", datastore), "az://", tmp_path, monkeypatch)


@pytest.mark.s3
def test_what_is_gone_or_overwritten_is_made_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REUSE C14, C15."""
    path = project(tmp_path / "project", bucket)
    monkeypatch.chdir(path.parent)
    uri = document_of("run", str(path))["steps"][0]["outputs"]["frame"]["uri"]
    key = uri.partition("/outputs/")[2]
    assert said("datastores", "rm", f"blob/{key}")[0] == 0
    (step, _) = document_of("plan", str(path))["steps"]
    assert (step["verdict"], step["reasons"][0]["component"]) == ("run", "artifact:frame")
    assert ran(path) == {"make": "succeeded", "total": "reused"}

    (tmp_path / "other").write_bytes(b"x" * 100)
    assert said("datastores", "cp", str(tmp_path / "other"), f"store:blob/{key}", "--replace")[0] == 0
    code, text = said("verify")
    assert (code, "output `frame`" in text) == (1, True), text
    assert ran(path) == {"make": "succeeded", "total": "reused"}
    assert said("verify")[0] == 0


@pytest.mark.s3
def test_an_input_that_is_gone_is_made_again_for_a_new_reader(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(
        tmp_path / "project", bucket, "%%step first -o x:json\nx = 1", "%%step second -i x -o y:json\ny = x + 1"
    )
    monkeypatch.chdir(path.parent)
    uri = document_of("run", str(path), "first")["steps"][0]["outputs"]["x"]["uri"]
    assert said("datastores", "rm", f"blob/{uri.partition('/outputs/')[2]}")[0] == 0
    shutil.rmtree(tmp_path / "cache")
    assert ran(path) == {"first": "succeeded", "second": "succeeded"}


@pytest.mark.s3
@pytest.mark.parametrize("times", [1, 9])
def test_an_input_that_vanishes_after_it_was_planned_with_is_made_again_in_the_same_run(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It is withdrawn where the reader finds it gone, and made again once in a run."""
    first, other = (
        "%%step first -o x:json\nx = 1",
        "%%step other -o z:json\nz = 2",
    )
    read = "%%step second -i x, z -o y:json\ny = x + z"
    path = project(tmp_path / "project", bucket, first, other, read, "%%step third -i y -o w:json\nw = y")
    monkeypatch.chdir(path.parent)
    before = document_of("run", str(path))["steps"]
    key = before[0]["outputs"]["x"]["uri"].partition("/outputs/")[2]
    project(path.parent, bucket, first, other, f"{read} + 1", "%%step third -i y -o w:json\nw = y")
    submit, gone = AttemptControl.submit, []

    def vanishing(control: AttemptControl, state: ExecutionState, number: int) -> None:
        if state.step == "second" and len(gone) < times:
            gone.append(said("datastores", "rm", f"blob/{key}")[0])
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        submit(control, state, number)

    monkeypatch.setattr(AttemptControl, "submit", vanishing)
    code, text = said("run", str(path), "--json")
    document = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    steps = {step["name"]: step for step in document["steps"]}
    shown = {name: step["status"] for name, step in steps.items()}
    if times == 1:
        assert shown == {"first": "succeeded", "other": "reused", "second": "succeeded", "third": "succeeded"}, text
        assert (code, gone) == (0, [0])
        with Workspace.open(path.parent) as workspace:
            history = workspace.context.history
            last = history.runs.last()
            assert last is not None
            every = history.executions.all_of_run(last.id)
        failed = [each.failure for each in every if each.failure is not None]
        assert [each.message for each in failed] == [f"{GONE}: the step runs again, and `second` after it"]
        assert said("verify")[0] == 0
        assert set(ran(path).values()) == {"reused"}
    else:
        assert shown == {"first": "succeeded", "other": "reused", "second": "failed", "third": "skipped"}, text
        assert (code, gone) == (1, [0, 0])
        assert steps["second"]["error"]["message"] == GONE


@pytest.mark.s3
def test_a_datastore_has_the_outputs_of_one_workspace(bucket: str, tmp_path: Path) -> None:
    path = project(tmp_path / "project", bucket)
    ran(path)
    other = refused(project(tmp_path / "other", bucket), 2)
    assert "has the outputs of another workspace" in other
    assert str(tmp_path / "project") in other

    shutil.copytree(path.parent, tmp_path / "copy")
    code, text = said("run", str(tmp_path / "copy/n.ipynb"))
    assert (code, "has the outputs of another workspace" in text) == (2, True), text
    path.parent.rename(tmp_path / "moved")
    assert ran(tmp_path / "moved/n.ipynb") == {"make": "reused", "total": "reused"}


@pytest.mark.s3
def test_what_was_stored_before_stays_where_it_is(bucket: str, tmp_path: Path) -> None:
    path = project(tmp_path / "project", bucket)
    settings = path.parent / "nbpipe.toml"
    text = settings.read_text()
    settings.write_text("source = []\n")
    assert ran(path) == {"make": "succeeded", "total": "succeeded"}
    settings.write_text(text)
    assert ran(path) == {"make": "reused", "total": "reused"}
    project(path.parent, bucket, *CELLS[:2], CELLS[2] + " + 1")
    steps = document_of("run", str(path))["steps"]
    assert [step["status"] for step in steps] == ["reused", "succeeded"]
    assert [step["outputs"].popitem()[1]["uri"].partition(":")[0] for step in steps] == ["file", "s3"]
    settings.write_text("source = []\n")
    _, total = document_of("plan", str(path))["steps"]
    assert total["verdict"] == "run"
    assert "in the datastore `blob`, which this workspace does not know" in total["reasons"][0]["now"]


@pytest.mark.s3
@pytest.mark.parametrize(
    "changed, code, expected",
    [
        ('[datastores]\ndefault = "lake"', 2, "which is no datastore"),
        ("write = false", 2, "is read-only"),
        ("s3://no-such-bucket-here/x", 3, "does not exist: there is no such bucket"),
        ("env:NOWHERE", 2, "the environment variable NOWHERE is not set"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_runs(
    bucket: str, tmp_path: Path, changed: str, code: int, expected: str
) -> None:
    """REUSE F23."""
    path = project(tmp_path / "project", bucket)
    settings = path.parent / "nbpipe.toml"
    text = settings.read_text()
    if changed.startswith("[datastores]"):
        text = text.replace('[datastores]\ndefault = "blob"', changed)
    elif changed == "write = false":
        text += changed
    elif changed.startswith("s3:"):
        text = text.replace(text.partition('url = "')[2].partition('"')[0], changed)
    else:
        text = text.replace("env:THE_KEY", changed)
    settings.write_text(text)
    assert expected in refused(path, code)


def test_the_default_datastore_is_shown_and_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "nbpipe.toml"
    assert said("datastores", "default") == (0, "outputs are stored in the workspace\n")
    assert said("datastores", "default", "default") == (0, "outputs are stored in the workspace\n")
    assert not settings.exists()
    settings.write_text('# mine\n[datastores.lake]\nurl = "./lake"\n[datastores.closed]\nurl = "./x"\nwrite = false\n')
    assert said("datastores", "default", "lake") == (0, "outputs are stored in lake\n")
    assert 'default = "lake"' in settings.read_text()
    assert "# mine" in settings.read_text()
    assert "outputs" in said("datastores", "list")[1]
    assert document_of("datastores", "default") == {"default": "lake"}
    code, text = said("datastores", "default", "lak")
    assert (code, "Did you mean `lake`?" in text) == (2, True)
    assert said("datastores", "default", "closed")[0] == 2
    assert said("datastores", "default", "default")[0] == 0
    assert "default" not in settings.read_text()
