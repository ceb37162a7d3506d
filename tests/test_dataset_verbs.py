"""The verbs about datasets, from a shell and from a notebook, on folders and on a real S3 server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from command_in_process import said
from front_end_kernel import Kernel

from nbpipe.workspace import datasets as service


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nbpipe.toml").write_text('[datastores.lake]\nurl = "./lake"\n')
    (tmp_path / "raw/sub").mkdir(parents=True)
    (tmp_path / "raw/a.csv").write_text("a\n1\n")
    (tmp_path / "raw/sub/b.csv").write_text("a\n2\n")
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/a.csv").write_text("a\n1\n")
    return tmp_path


def done(*words: str) -> str:
    code, text = said("datasets", *words)
    assert code == 0, text
    return text


def refused(*words: str) -> tuple[int, str]:
    code, text = said("datasets", *words)
    assert code != 0
    assert "Traceback" not in text
    return code, text


def of_json(*words: str) -> Any:
    return json.loads(done(*words, "--json").splitlines()[0])


def test_files_become_versions_that_can_be_listed_and_shown(project):
    assert (
        done("register", "sales", "./raw", "--description", "all of it", "--tag", "owner=mk")
        == "sales@1 (kept, 8 bytes)\n"
    )
    assert done("register", "sales", "./raw") == "sales@1 (the same bytes were registered before)\n"

    (found,) = of_json("list")["datasets"]
    assert (found["dataset"], found["kind"], found["tags"]) == ("sales@1", "kept", {"owner": "mk"})
    assert [each["path"] for each in of_json("show", "sales")["files"]] == ["a.csv", "sub/b.csv"]
    assert "all of it" in done("show", "sales@1")
    assert "sales@1" in done()


@pytest.mark.parametrize("source", ["./raw/a.csv", "raw/*.csv", "store:lake/a.csv", "store:lake/", "store:lake/*.csv"])
@pytest.mark.parametrize("keeping, kind", [("--copy", "kept"), ("--reference", "referenced")])
def test_every_kind_of_source_can_be_registered(project, source, keeping, kind):
    found = of_json("register", "sales", source, keeping)

    assert (found["dataset"], found["kind"], found["bytes"], found["new"]) == ("sales@1", kind, 4, True)
    assert [each["path"] for each in of_json("show", "sales")["files"]] == ["a.csv"]


def test_what_is_large_is_referenced_and_a_line_says_so(project, monkeypatch):
    monkeypatch.setattr(service, "COPY_LIMIT", 7)

    assert "datasets pin sales@1" in done("register", "sales", "./raw")
    assert of_json("show", "sales")["kind"] == "referenced"
    assert done("pin", "sales@1") == "sales@1 is kept\n"
    assert of_json("show", "sales@1")["kind"] == "kept"
    assert done("register", "copied", "./raw", "--copy") == "copied@1 (kept, 8 bytes)\n"


def test_a_copy_makes_a_referenced_version_a_kept_one(project):
    done("register", "sales", "./raw", "--reference")

    assert of_json("register", "sales", "./raw", "--copy")["kind"] == "kept"
    assert of_json("register", "sales", "./raw", "--reference")["kind"] == "kept"


def test_the_difference_of_versions_names_files(project):
    done("register", "sales", "./raw")
    (project / "raw/a.csv").write_text("a\n1\n3\n")
    (project / "raw/c.csv").write_text("a\n")
    (project / "raw/sub/b.csv").unlink()
    done("register", "sales", "./raw")

    lines = done("diff", "sales@1", "sales@2").splitlines()
    assert lines[0] == "sales@1 → sales@2"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["changed", "a.csv"],
        ["added", "c.csv"],
        ["removed", "sub/b.csv"],
    ]
    found = of_json("diff", "sales@1", "sales@2")
    assert [each["path"] for each in found["added"]] == ["c.csv"]
    assert "the same files" in done("diff", "sales@2", "sales")


@pytest.mark.parametrize(
    "path, content",
    [
        (".env", "PASSWORD=canary"), (".env.local", "x"), (".git/config", "x"), ("deep/.aws/credentials", "x"),
        ("id_ed25519", "x"), ("deep/server.pem", "-----BEGIN RSA PRIVATE KEY-----\ncanary"),
        ("a.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----"),
    ],
)  # fmt: skip
def test_s25_a_folder_with_secrets_is_refused(project, path, content):
    folder = project / "mixed"
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_text(content)
    (folder / "data.csv").write_text("a\n1\n")
    (folder / "public.pem").write_text("-----BEGIN CERTIFICATE-----")
    code, text = refused("register", "mixed", "./mixed")

    assert code == 2
    assert f"the folder `./mixed` holds what looks like a secret: `{path}`" in text
    assert "./mixed/**/*.csv" in text
    assert "canary" not in text
    done("register", "mixed", "./mixed/**/*.csv")
    (folder / path).unlink()
    done("register", "mixed", "./mixed")


def test_a_label_moves(project):
    done("register", "sales", "./raw/a.csv")
    done("register", "sales", "./raw/sub/b.csv")

    assert done("label", "sales@1", "golden") == "sales@1 has the label golden\n"
    done("label", "sales", "golden")

    assert of_json("show", "sales@golden")["version"] == 2
    assert "golden=2" in done("list")


@pytest.mark.parametrize(
    "words, code, message",
    [
        (("show", "sale"), 2, "Did you mean `sales`?"),
        (("show", "sales@3"), 2, "no version 3"),
        (("show", "sales@gold"), 2, "no label `gold`"),
        (("diff", "sales@1", "sales@2"), 2, "no version 2"),
        (("label", "sales@1", "2"), 2, "not a label"),
        (("register", "sa les", "./raw"), 2, "not the name of a dataset"),
        (("register", "sales@2", "./raw"), 2, "leave it out"),
        (("register", "sales", "./raw/*.png"), 2, "matches no file"),
        (("register", "sales", "./nowhere"), 2, "is not there"),
        (("register", "sales", "store:lake/*.png"), 2, "matches no object"),
        (("register", "sales", "store:laek/a.csv"), 2, "Did you mean `lake`?"),
        (("register", "sales", "./empty"), 2, "has no files"),
        (("register", "sales", "./raw", "--copy", "--reference"), 2, "exclude each other"),
        (("regster", "sales"), 2, "Did you mean `register`?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_a_cure(project, words, code, message):
    (project / "empty").mkdir()
    done("register", "sales", "./raw")

    told = refused(*words)

    assert told[0] == code
    assert message in told[1]


def test_a_referenced_version_that_is_gone_is_out_of_reach(project):
    done("register", "sales", "./raw", "--reference")
    (project / "raw/a.csv").unlink()

    code, text = refused("pin", "sales")

    assert code == 3
    assert "sales@1" in text
    assert "a.csv" in text


def test_lineage_of_files_names_who_registered_them(project):
    done("register", "sales", "./raw")

    assert done("lineage", "sales").splitlines()[0] == "sales@1"
    assert of_json("lineage", "sales")["readers"] == []


@pytest.mark.kernel
def test_a_notebook_does_the_same(project):
    kernel = Kernel(project)
    try:
        kernel.run("load", "%load_ext nbpipe")
        assert "sales@1 (kept, 8 bytes)" in kernel.run("register", "%nbpipe datasets register sales ./raw").text
        assert "sales@1" in kernel.run("list", "%nbpipe datasets").text
        assert "a.csv" in kernel.run("show", "%nbpipe datasets show sales").text
        assert "Did you mean `sales`?" in kernel.run("wrong", "%nbpipe datasets show sale").error
        code = "%%step s -i raw=ds:sales -o n:json\nn = sorted(path.name for path in raw.rglob('*.csv'))"
        kernel.run("step", code + "\n#| later")
        assert kernel.run("value", "n").text
    finally:
        kernel.close()


@pytest.mark.parametrize(
    "source, content, options, columns",
    [
        ("t/*.csv", 'id;name\n1;"a\nb"\n', ("--delimiter", ";", "--multi-line", "--type", "id=int8"),
         {"id": "int8", "name": "string"}),
        ("t", "1\t2\n3\t4\n5\n", ("--delimiter", "\\t", "--no-header", "--on-error", "count"),
         {"f0": "int64", "f1": "int64"}),
        ("t/x.csv", "n\xe4me\n\xfc\n", ("--encoding", "latin-1"), {"n\xe4me": "string"}),
        ("store:lake/t/", '{"a": 1}\n{"a": 2.5}\n', ("--partitions", "{day:date}/"),
         {"a": "double", "day": "date32[day]"}),
    ],
)  # fmt: skip
def test_a_table_is_registered_as_from_python(project, source, content, options, columns):
    kind = "json-lines" if source.startswith("store:") else "delimited"
    folder = project / "lake/t/2026-01-02" if source.startswith("store:") else project / "t"
    folder.mkdir(parents=True)
    (folder / "x.csv").write_bytes(content.encode("latin-1"))

    told = done("register", "table", source, "--as", kind, *options)

    found = of_json("show", "table")
    assert {each["name"]: each["type"] for each in found["columns"]} == columns
    assert found["recipe"]["kind"] == kind
    assert f"{found['rows']} row" in told
    assert ("1 row left out" in told) == ("count" in options)
    assert "before" in done("register", "table", source, "--as", kind, *options)
    assert of_json("list")["datasets"][0]["version"] == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (("--type", "a=int8"), "Say so: --as delimited"),
        (("--as", "parquet", "--delimiter", ";"), "`--delimiter` is about files that are read as delimited"),
        (("--as", "delimted"), "Did you mean `delimited`?"),
        (("--as", "delimited", "--type", "a"), "not COLUMN=TYPE"),
        (("--as", "delimited", "--type", "a=itn8"), "Did you mean `int8`?"),
        (("--as", "delimited", "--encoding", "utf-88"), "no encoding `utf-88`"),
        (("--as", "delimited", "--on-error", "cuont"), "Did you mean `count`?"),
        (("--as", "delimited", "--partitions", "day"), "not a pattern"),
        (("--as", "delimited", "--query", "SELECT 1"), "exclude each other"),
        (("--max-age", "6h"), "Give one: --query SQL"),
        (("--query", "SELECT 1"), "no datastore"),
        (("--as", "parquet"), "a.csv"),
    ],
)
def test_wrong_options_of_a_table_are_told_with_a_cure(project, words, message):
    assert message in " ".join(refused("register", "table", "./raw", *words)[1].split())
    assert of_json("list")["datasets"] == []


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("half.parquet", b"PAR1\x15\x04", "`half.parquet` is not a complete Parquet file"),
        ("empty.csv", b"", "`empty.csv` cannot be read as delimited: it is empty"),
        ("twice.csv", b"a,a\n1,2\n", "`twice.csv` has two columns `a`"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "--on-error count"),
        ("latin.csv", b"a\n\xfc\n", "--encoding latin-1"),
        ("cut.jsonl", b'{"a": 1}\n{"a":\n', "`cut.jsonl` cannot be read as json-lines"),
    ],
)
@pytest.mark.parametrize("source", ["lake/t/", "store:lake/t/"])
def test_a_damaged_table_is_told_with_its_place_and_a_cure(project, source, name, content, message):
    kind = {"csv": "delimited", "jsonl": "json-lines"}.get(name.partition(".")[2], "parquet")
    (project / "lake/t").mkdir()
    (project / "lake/t" / name).write_bytes(content)

    code, text = refused("register", "table", source, "--as", kind)

    place = "store:lake/t" if source.startswith("store:") else str(project / "lake/t")
    said_ = " ".join(text.split())
    assert (code, message in said_, f"(in {place})" in said_) == (2, True, True), text
    assert of_json("list")["datasets"] == []


@pytest.mark.parametrize("source", ["ds:sales", "param:source", "https://data.example.org/a.csv", "s3://lake/a.csv"])
def test_what_only_steps_read_is_no_source(project, source):
    code, text = refused("register", "sales", source)

    assert (code, "not a source of files" in text) == (2, True)
