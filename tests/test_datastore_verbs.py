"""The verbs about datastores, from a shell and from a notebook, on folders and on a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_in_process import said
from front_end_kernel import Kernel
from object_servers import KEY, SECRET, make_bucket, moto_server


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nbpipe.toml").write_text(
        '[datastores.lake]\nurl = "./lake"\n[datastores.other]\nurl = "./other"\n'
        '[datastores.closed]\nurl = "./lake"\nwrite = false\n'
    )
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/a.txt").write_text("hi")
    (tmp_path / "in/sub/ü b.txt").write_text("hello")
    return tmp_path


def done(*words: str) -> str:
    code, text = said("datastores", *words)
    assert code == 0, text
    return text


def refused(*words: str) -> tuple[int, str]:
    code, text = said("datastores", *words)
    assert code != 0
    assert "Traceback" not in text
    return code, text


def of_json(*words: str) -> Any:
    return json.loads(done(*words, "--json").splitlines()[0])


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_into_a_datastore_and_out_again(project):
    assert done("cp", "in", "store:lake/raw") == "copied 2 objects, 7 bytes\n"
    assert [each["key"] for each in of_json("ls", "lake/raw")["objects"]] == ["raw/a.txt"]
    assert of_json("ls", "lake/raw")["folders"] == ["sub"]
    assert of_json("cp", "store:lake/raw", "out") == {"copied": 2, "bytes": 7}
    assert files(project / "out") == files(project / "in")
    assert of_json("du", "lake") == {
        "store": "lake", "path": "", "objects": 2, "bytes": 7, "folders": [{"name": "raw", "objects": 2, "bytes": 7}]
    }  # fmt: skip
    assert of_json("rm", "lake/raw", "--recursive") == {"deleted": 2, "bytes": 7}
    assert done("ls", "lake") == "nothing is stored there\n"


def test_a_file_goes_to_a_name_or_into_a_folder(project):
    done("cp", "in/a.txt", "store:lake/x.txt")
    done("cp", "in/a.txt", "store:lake/folder/")
    done("cp", "in/a.txt", "store:lake")
    done("cp", "store:lake/x.txt", "y.txt")
    done("cp", "store:lake/x.txt", "in")
    assert sorted(files(project / "lake")) == ["a.txt", "folder/a.txt", "x.txt"]
    assert (project / "y.txt").read_text() == (project / "in/x.txt").read_text() == "hi"


def test_copies_within_a_datastore_and_between_two(project):
    done("cp", "in", "store:lake/raw")
    done("cp", "store:lake/raw", "store:lake/copy")
    done("cp", "store:lake/raw", "store:other/raw")
    assert files(project / "lake/copy") == files(project / "other/raw") == files(project / "in")


def test_what_exists_is_replaced_only_on_request_and_then_nothing_is_copied(project):
    done("cp", "in/a.txt", "store:lake/raw/a.txt")
    (project / "in/a.txt").write_text("new")
    code, text = refused("cp", "in", "store:lake/raw")
    assert (code, files(project / "lake")) == (2, {"raw/a.txt": "hi"})
    assert "`store:lake/raw/a.txt` exists already\n  Replace what is there with --replace." in text
    done("cp", "in", "store:lake/raw", "--replace")
    assert files(project / "lake/raw") == files(project / "in")
    assert refused("cp", "store:lake/raw/a.txt", "in/a.txt")[0] == 2
    (project / "in/a.txt").write_text("mine")
    done("cp", "store:lake/raw/a.txt", "in/a.txt", "--replace")
    assert (project / "in/a.txt").read_text() == "new"


@pytest.mark.parametrize(
    "words, code, expected",
    [
        (["ls", "lak"], 2, "Did you mean `lake`?"),
        (["ls", "lake/nope"], 3, "`store:lake/nope` does not exist"),
        (["ls", "lake/../in"], 2, "is not the path of an object"),
        (["du", "lake/nope"], 3, "`store:lake/nope` does not exist"),
        (["cp", "in", "out"], 2, "both places are local"),
        (["cp", "nope", "store:lake/x"], 2, "does not exist"),
        (["cp", "store:lake/nope", "x"], 3, "`store:lake/nope` does not exist"),
        (["cp", "in", "store:lake/../../x"], 2, "is not the path of an object"),
        (["cp", "in", "store:closed/x"], 2, "the datastore `closed` is read-only"),
        (["rm", "closed/x"], 2, "the datastore `closed` is read-only"),
        (["rm", "lake"], 2, "is a whole datastore"),
        (["rm", "lake/", "--recursive"], 2, "is a whole datastore"),
        (["rm", "lake/nope"], 3, "does not exist"),
        (["test", "lak"], 2, "there is no datastore `lak`"),
        (["add", "lake", "./x"], 2, "has a datastore `lake` already"),
        (["add", "x", "s3://b", "--credential", f"secret_access_key={SECRET}"], 2, "is a value, or not a reference"),
        (["default", "nowhere"], 2, "there is no datastore `nowhere`"),
    ],
)
def test_what_is_wrong_is_told(project, words, code, expected):
    (project / "lake").mkdir()
    got, text = refused(*words)
    assert (got, expected in text) == (code, True), text
    assert SECRET not in text
    assert files(project / "lake") == {}


def test_a_folder_is_deleted_only_on_request(project):
    done("cp", "in", "store:lake/raw")
    assert "`store:lake/raw` is a folder with 2 objects" in refused("rm", "lake/raw")[1]
    assert len(files(project / "lake")) == 2
    done("rm", "lake/raw/a.txt")
    assert sorted(files(project / "lake")) == ["raw/sub/ü b.txt"]


def test_a_datastore_is_added_tried_and_listed(project):
    done("add", "more", "./more", "--read-only")
    tests = of_json("test")["datastores"]
    assert [(each["name"], each["ok"], each["can"]["write"]) for each in tests] == [
        ("lake", True, True), ("other", True, True), ("closed", True, False), ("more", True, False),
    ]  # fmt: skip
    assert files(project / "lake") == {}
    listed = of_json("list")
    assert listed["datastores"][-1] == {
        "name": "more", "url": f"file://{project}/more", "options": {}, "credentials": {}, "write": False
    }  # fmt: skip
    assert said("datastores")[1] == done("list")


def test_without_a_settings_file_one_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert done("list").startswith("no datastores: add one with")
    done("add", "lake", "./lake")
    assert (tmp_path / "nbpipe.toml").read_text() == '[datastores.lake]\nurl = "./lake"\n'


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with moto_server(tmp_path_factory.mktemp("moto"), checks_access=True) as address:
        make_bucket(address, "bucket")
        yield address


@pytest.mark.s3
def test_wrong_and_missing_credentials_of_a_real_server(project, moto, monkeypatch):
    references = ["--credential", "access_key_id=env:THE_KEY", "--credential", "secret_access_key=env:THE_SECRET"]
    done("add", "cloud", "s3://bucket/below", "--option", f"endpoint={moto}", *references)
    assert "the environment variable THE_KEY is not set" in refused("test", "cloud")[1]
    monkeypatch.setenv("THE_KEY", KEY)
    monkeypatch.setenv("THE_SECRET", SECRET)
    code, text = refused("test", "cloud")
    assert (code, "refuses access" in text) == (3, True)
    assert refused("cp", "in", "store:cloud/raw")[0] == 3
    for path in project.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    assert SECRET not in text


@pytest.mark.kernel
def test_a_notebook_does_the_same(project):
    kernel = Kernel(project)
    try:
        kernel.run("load", "%load_ext nbpipe")
        assert "copied 2 objects, 7 bytes" in kernel.run("cp", "%nbpipe datastores cp in store:lake/raw").text
        assert "sub/" in kernel.run("ls", "%nbpipe datastores ls lake/raw").text
        assert "lists at once" in kernel.run("test", "%nbpipe datastores test lake").text
        assert "Did you mean `lake`?" in kernel.run("wrong", "%nbpipe datastores ls lak").error
        assert "datastores cp FROM TO" in kernel.run("help", "%nbpipe datastores --help").text
    finally:
        kernel.close()
