"""`nbpipe.Dataset`: tables in files, typed by all of them, registered, edited and read again."""

from __future__ import annotations

import datetime as dt
import json
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from command_in_process import said
from front_end_kernel import Kernel
from hypothesis import given
from hypothesis import strategies as st

from nbpipe import Dataset, Workspace
from nbpipe.codec import decode, encode_sparse
from nbpipe.data.dataset_edits import SampleRows, edited
from nbpipe.data.dataset_profiles import profile_of
from nbpipe.errors import BadData, BadUsage, DataChanged, FileMissing, NbpipeError, StoreOutOfReach, UnknownDataset
from nbpipe.model.datasets import TableProfile
from nbpipe.workspace import datasets as service
from nbpipe.workspace.dataset_sources import table_content


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "raw/2026-01-01/a.csv", "id,amount\n1,10\n2,20\n")
    write(tmp_path, "raw/2026-01-02/b.csv", "id,amount,note\n3,2.5,x\n")
    return tmp_path


def write(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


RAW = "raw/**/*.csv"


def test_the_schema_is_that_of_all_files(project):
    table = Dataset.from_delimited_files(RAW, partitions="{day:date}/").to_arrow()

    assert table.schema.names == ["id", "amount", "day", "note"]
    assert [str(field.type) for field in table.schema] == ["int64", "double", "date32[day]", "string"]
    assert table.column("amount").to_pylist() == [10.0, 20.0, 2.5]
    assert table.column("note").to_pylist() == [None, None, "x"]
    assert table.column("day").to_pylist()[-1] == dt.date(2026, 1, 2)


def test_a_registered_table_is_read_as_it_was_registered(project):
    registered = Dataset.from_delimited_files(RAW, types={"id": "int8"}).register("sales", tags={"a": "b"})
    write(project, "raw/2026-01-01/a.csv", "other\n")
    again = Dataset.get("sales", 1)

    assert str(registered.registered()) == "sales@1"
    assert again.to_pandas().shape == (3, 3)
    assert again.to_arrow().schema.field("id").type == pa.int8()
    content = again.registered().content
    assert (content.rows, [column.name for column in content.columns]) == (3, ["id", "amount", "note"])


def test_the_same_bytes_and_recipe_are_the_same_version(project):
    first = Dataset.from_delimited_files(RAW).register("sales")
    second = Dataset.from_delimited_files(RAW, types={"id": "string"}).register("sales")
    third = Dataset.from_delimited_files(RAW).register("sales")

    assert [each.registered().number for each in (first, second, third)] == [1, 2, 1]
    assert Dataset.get("sales").registered().number == 2


@pytest.mark.parametrize(
    "content, error",
    [
        (b"id,amount\n1,2\n1,2,3\n", r"`bad.csv`, row 3 has 3 columns, not 2"),
        ("id,amount\né,2\n".encode("latin-1"), r"`bad.csv` cannot be read as utf-8"),
        (b"", r"`bad.csv` cannot be read"),
        (b"id,amount\nx,2\n", r"`id` is"),
    ],
)
def test_a_bad_file_is_named(project, content, error):
    write(project, "raw/bad.csv", content)
    with pytest.raises(BadData, match=error) as raised:
        Dataset.from_delimited_files("raw/**/*.csv").register("sales")
    assert raised.value.hint
    with pytest.raises(UnknownDataset):
        Dataset.get("sales")


def test_rows_that_do_not_fit_can_be_counted(project):
    write(project, "raw/bad.csv", "id,amount\n1,2\n1,2,3\n4,5\n")
    table = Dataset.from_delimited_files("raw/bad.csv", on_error="count")

    assert table.to_arrow().num_rows == 2
    assert table.register("sales").registered().content.rows == 2


def test_other_encodings_delimiters_and_headers(project):
    write(project, "x.csv", "é;1\nè;2\n".encode("latin-1"))
    table = Dataset.from_delimited_files("./x.csv", encoding="latin-1", delimiter=";", header=False).to_arrow()

    assert table.to_pydict() == {"f0": ["é", "è"], "f1": [1, 2]}


def test_quoted_line_breaks(project):
    write(project, "x.csv", 'a,b\n"one\ntwo",1\n')

    assert Dataset.from_delimited_files("./x.csv", multi_line=True).to_arrow().num_rows == 1


def test_parquet_files(project):
    (project / "p").mkdir()
    pq.write_table(pa.table({"a": [1], "when": pa.array([0], pa.timestamp("us", "UTC"))}), project / "p/one.parquet")
    pq.write_table(pa.table({"a": [2], "l": [[1, 2]]}), project / "p/two.parquet")
    table = Dataset.from_parquet("p/*.parquet").register("p").to_arrow()

    assert table.schema.field("when").type == pa.timestamp("us", "UTC")
    assert table.column("l").to_pylist() == [None, [1, 2]]


def test_a_half_written_parquet_file_is_named(project):
    (project / "p").mkdir()
    pq.write_table(pa.table({"a": list(range(1000))}), project / "p/one.parquet")
    content = (project / "p/one.parquet").read_bytes()
    write(project, "p/two.parquet", content[: len(content) // 2])

    with pytest.raises(BadData, match=r"`two.parquet` is not a complete Parquet file"):
        Dataset.from_parquet("p/*.parquet").register("p")


def test_json_lines(project):
    write(project, "x.jsonl", '{"a": 1, "b": {"c": "x"}}\n{"a": 2}\n')
    table = Dataset.from_json_lines("./x.jsonl", types={"a": "int16"}).register("j").to_arrow()

    assert table.schema.field("a").type == pa.int16()
    assert table.column("b").to_pylist() == [{"c": "x"}, None]
    write(project, "y.jsonl", '{"a": 1}\n{"a":')
    with pytest.raises(BadData, match=r"`y.jsonl` cannot be read as json-lines"):
        Dataset.from_json_lines("./y.jsonl").to_arrow()


def test_edits_give_another_dataset(project):
    table = Dataset.from_delimited_files(RAW)

    assert table.filter(pc.field("amount") > 5).keep("id").to_pandas().to_dict("list") == {"id": [1, 2]}
    assert table.filter(id=3).drop("note", "amount").to_arrow().to_pydict() == {"id": [3]}
    assert table.between("amount", 2, 10).to_arrow().num_rows == 2
    assert table.between("id", start=2).to_arrow().num_rows == 2
    assert table.head(1)[["id", "amount"]].to_dict("list") == {"id": [1], "amount": [10.0]}
    assert table.to_arrow().num_rows == 3


def test_an_edited_table_is_registered_with_its_parent(project):
    parent = Dataset.from_delimited_files(RAW).register("sales")
    child = parent.filter(id=3).register("small")

    assert child.registered().origin.parents == ("sales@1",)
    assert child.to_pandas()["id"].tolist() == [3]
    assert child.load()["id"].tolist() == [3]


def test_a_split_is_stable_when_files_are_added(project):
    for number in range(3):
        rows = "".join(f"{number * 1000 + row}\n" for row in range(500))
        write(project, f"s/{number}.csv", f"id\n{rows}")
    first, rest = Dataset.from_delimited_files("s/*.csv").split(0.8, seed=3)
    before, others = set(first.to_pandas()["id"]), set(rest.to_pandas()["id"])
    write(project, "s/00.csv", "id\n" + "".join(f"{row}\n" for row in range(5000, 5500)))
    after = set(Dataset.from_delimited_files("s/*.csv").split(0.8, seed=3)[0].to_pandas()["id"])

    assert before.isdisjoint(others)
    assert len(before | others) == 1500
    assert 0.76 < len(before) / 1500 < 0.84
    assert before == {value for value in after if value < 5000}
    assert before != set(Dataset.from_delimited_files("s/*.csv").sample(0.8, seed=4).to_pandas()["id"])


@given(st.integers(0, 2000), st.floats(0.01, 0.99), st.integers(-5, 5))
def test_a_sample_and_the_rest_are_all_rows(count, share, seed):
    table = pa.table({"a": list(range(count))})
    first = edited(table, "x", [SampleRows(share, seed)])
    rest = edited(table, "x", [SampleRows(share, seed, rest=True)])

    assert sorted([*first.column("a").to_pylist(), *rest.column("a").to_pylist()]) == list(range(count))


def test_other_libraries(project):
    table = Dataset.from_delimited_files(RAW)

    assert table.to_polars()["id"].to_list() == [1, 2, 3]
    frame = table.to_dask()
    assert frame.npartitions == 2
    assert frame["id"].compute().tolist() == [1, 2, 3]


def test_files_are_a_path(project):
    files = Dataset.from_files("./raw").register("files")

    assert sorted(path.name for path in files.path().rglob("*.csv")) == ["a.csv", "b.csv"]
    assert files.load() == files.path()
    with pytest.raises(BadUsage, match="is no table"):
        files.to_pandas()


def test_versions_can_be_compared(project):
    Dataset.from_delimited_files(RAW).register("sales")
    write(project, "raw/2026-01-03/c.csv", "id,amount,more\n4,1,True\n")
    newest = Dataset.from_delimited_files(RAW).register("sales")
    difference = newest.diff(1)

    assert [member.path for member in difference.added] == ["2026-01-03/c.csv"]
    assert difference.columns == {"more": (None, "bool")}


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (lambda: Dataset.from_files("./nothing/*.csv"), FileMissing, "matches no file"),
        (lambda: Dataset.from_delimited_files(RAW, types={"id": "int9"}), BadData, "no type `int9`"),
        (lambda: Dataset.from_delimited_files(RAW, partitions="day/"), BadData, "not a pattern"),
        (lambda: Dataset.from_delimited_files(RAW, partitions="{day:int}/").to_arrow(), BadData, "is not int"),
        (lambda: Dataset.from_delimited_files(RAW, partitions="x={day}/").to_arrow(), BadData, "does not fit"),
        (lambda: Dataset.from_delimited_files(RAW, encoding="utf9"), BadUsage, "no encoding"),
        (lambda: Dataset.from_delimited_files(RAW, on_error="skip"), BadUsage, "on_error"),
        (lambda: Dataset.from_delimited_files(RAW, delimiter="::"), BadUsage, "delimiter"),
        (lambda: Dataset.from_delimited_files(RAW).keep("idd").to_arrow(), BadUsage, "no column `idd`"),
        (lambda: Dataset.from_delimited_files(RAW).sample(2), BadUsage, "no share"),
        (lambda: Dataset.from_delimited_files(RAW).diff(1), BadUsage, "not registered"),
        (lambda: Dataset.from_files("./raw").register("a b"), BadUsage, "not the name"),
        (lambda: Dataset.get("none"), UnknownDataset, "no dataset"),
    ],
)
def test_what_is_wrong_is_told(project, wrong, error, message):
    with pytest.raises(error, match=message) as raised:
        wrong()
    assert raised.value.hint


def test_files_that_change_after_they_were_found_are_refused(project):
    found = Dataset.from_delimited_files(RAW)
    write(project, "raw/2026-01-01/a.csv", "id\n9\n")

    with pytest.raises(DataChanged, match=r"a\.csv"):
        found.to_pandas()


def test_a_workspace_opens_beside_the_current_folder(project):
    with Workspace.open() as workspace:
        assert workspace.layout.base == project


def test_a_profile_tells_what_columns_are_like(project):
    write(project, "x.csv", "n,t,empty\n1,a,\n2,b,\n3,b,\n,b,\n")
    profile = Dataset.from_delimited_files("./x.csv").profile()

    number, text, empty = profile.columns
    assert (profile.rows, profile.sampled) == (4, 4)
    assert (number.nulls, number.lowest, number.highest, number.distinct) == (1, 1, 3, 3)
    assert number.quantiles[1] == 2
    assert text.frequent == (("b", 3),)
    assert (empty.nulls, empty.lowest, empty.distinct) == (0, "", 1)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True), st.just(1.0)), max_size=30))
def test_a_profile_holds_for_any_numbers(values):
    table = pa.table({"a": pa.array(values, pa.float64()), "b": pa.array([[1]] * len(values)),
                      "d": pa.array([str(value) for value in values]).dictionary_encode()})  # fmt: skip
    profile = profile_of([("x", table)], len(values))

    assert decode(encode_sparse(profile), TableProfile) == profile
    assert profile.columns[0].nulls == values.count(None)


def test_of_very_many_rows_some_are_looked_at():
    table = pa.table({"a": list(range(20_000))})
    profile = profile_of([("x", table)], 20_000, limit=1_000)

    assert profile.rows == 20_000
    assert 800 < profile.sampled < 1_200


def test_a_shown_table_has_its_profile_and_what_changed(project):
    Dataset.from_delimited_files(RAW).register("sales")
    write(project, "raw/2026-01-03/c.csv", "id,amount\n4,1\n")
    Dataset.from_delimited_files(RAW).register("sales")
    code, text = said("datasets", "show", "sales")

    assert code == 0, text
    assert "4 rows" in text
    assert "column id: int64, 1 … 4" in text
    assert "added 2026-01-03/c.csv" in " ".join(text.split())
    assert "rows: 3 → 4" in text
    (line,) = said("datasets", "show", "sales@1", "--json")[1].splitlines()
    assert json.loads(line)["profile"]["columns"][0]["max"] == 3


def test_a_profile_that_cannot_be_made_is_told_and_the_rest_is_shown(project, monkeypatch):
    monkeypatch.setattr(service, "COPY_LIMIT", 1)
    Dataset.from_delimited_files(RAW).register("sales")
    write(project, "raw/2026-01-01/a.csv", "id,amount\n9,9\n")

    code, text = said("datasets", "show", "sales")
    assert code == 0, text
    assert "sales@1: referenced" in text
    assert "`sales@1` has changed" in " ".join(text.split())
    found = json.loads(said("datasets", "show", "sales", "--json")[1].splitlines()[0])
    assert found["profile"] is None
    assert "has changed" in found["profile_error"]


def test_a_profile_is_kept_with_what_it_has_found_out(project):
    Dataset.from_delimited_files(RAW).register("sales")
    kept = project / ".nbpipe/datasets/sales/1.json"
    kept.unlink()

    said("datasets", "show", "sales")

    assert json.loads(kept.read_text())["dataset"]["content"]["rows"] == 3


def test_a_profile_that_is_not_wanted_any_more_is_not_made(project, monkeypatch):
    monkeypatch.setattr(service, "_LOOK_SECONDS", 0.01)
    registered = Dataset.from_delimited_files(RAW).register("sales").registered()
    with Workspace.open(project) as workspace, pytest.raises(BadData, match="its process ended with code -9"):
        service.Datasets(workspace.context).profile(registered, lambda: True)


def test_rows_that_are_left_out_are_told(project):
    write(project, "ragged.csv", "id,amount\n1,2\n3\n4,5\n")
    Dataset.from_delimited_files("ragged.csv", on_error="count").register("ragged")

    assert "2 rows, 1 row left out" in said("datasets", "show", "ragged")[1]
    (line,) = said("datasets", "show", "ragged", "--json")[1].splitlines()
    assert json.loads(line)["skipped"] == 1


def test_a_shown_version_has_what_changed_since_the_one_before(project):
    Dataset.from_delimited_files(RAW).register("sales")
    write(project, "raw/2026-01-03/c.csv", "id,amount\n4,1\n")
    Dataset.from_delimited_files(RAW).register("sales")

    shown = json.loads(said("datasets", "show", "sales", "--json")[1].splitlines()[0])["changes"]
    assert shown == json.loads(said("datasets", "diff", "sales@1", "sales@2", "--json")[1].splitlines()[0])
    assert [each["path"] for each in shown["added"]] == ["2026-01-03/c.csv"]
    first = json.loads(said("datasets", "show", "sales@1", "--json")[1].splitlines()[0])
    assert first["changes"] is None


def test_a_table_that_the_disk_has_no_room_for_is_an_error_and_nothing_stays(project):
    table = Dataset.from_delimited_files(RAW).to_arrow()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Workspace.open(project) as workspace:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            with pytest.raises(StoreOutOfReach, match="could not be written: File too large"):
                table_content(workspace.context, "ids", table)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((project / ".nbpipe/store").glob(".draft-*")) == []


@pytest.mark.kernel
def test_a_step_receives_a_table_as_a_dataframe_and_knows_its_version(project):
    Dataset.from_delimited_files(RAW, types={"id": "int8"}).register("sales")
    Dataset.get("sales").filter(id=3).register("small")
    kernel = Kernel(project)
    try:
        kernel.run("load", "%load_ext nbpipe")
        code = (
            "%%step s -i sales=ds:sales, small=ds:small -o shape:json, known:json\nimport nbpipe\n"
            "shape = [type(sales).__name__, str(sales['id'].dtype), len(sales), len(small)]\n"
            "known = dict(nbpipe.context().datasets)"
        )
        kernel.run("step", code)
        assert "['DataFrame', 'int8', 3, 1]" in kernel.run("shape", "shape").text
        assert "{'sales': 'sales@1', 'small': 'small@1'}" in kernel.run("known", "known").text
        text = kernel.run("wrong", "%%step w -o n:json\nimport nbpipe\nn = nbpipe.Dataset").text
        assert "declare the data as an input" in text + kernel.run("value", "n").error
        assert "sales@1" in kernel.run("own", "from nbpipe import Dataset\nDataset.get('sales')").text
    finally:
        kernel.close()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda data: data.between("amount", "a", "b").to_arrow(), "`amount`, which is double"),
        (lambda data: data.filter(id="x").to_arrow(), "`id`, which is int64"),
        (lambda data: data.filter("id > 1").to_arrow(), "not an Arrow expression"),
        (lambda data: data.keep("id").path(), "Register it first"),
        (lambda data: data.register("sales", tags={"a": 1}), "are texts, not 1"),
        (lambda _: Dataset.from_delimited_files(RAW, types={"ammount": "int8"}).to_arrow(), "Did you mean `amount`?"),
        (lambda _: Dataset.from_delimited_files(RAW, encoding="hex"), "no encoding `hex`"),
        (lambda _: Dataset.from_query("lake", "SELECT 1", max_age="6x"), "^`6x` is not a duration"),
        (lambda _: Dataset.from_files(""), "not a source"),
        (lambda _: Dataset.get("sales", -1), "neither the number of a version nor a label"),
    ],
)
def test_what_is_wrong_in_python_is_told_with_a_cure(project, wrong, message):
    data = Dataset.from_delimited_files(RAW)

    with pytest.raises(NbpipeError, match=message) as raised:
        wrong(data)
    assert raised.value.hint


def test_a_version_can_be_named_as_in_a_step(project):
    Dataset.from_delimited_files(RAW).register("sales")

    assert [str(Dataset.get(*words).registered()) for words in (["sales@1"], ["sales", "1"], ["sales", 1])] == [
        "sales@1"
    ] * 3
