"""A glance at any output: right for whole files, honest for damaged ones, small for large ones."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stored import artifact_of

from nbpipe.data import formats
from nbpipe.data.datastores import LocalStore
from nbpipe.data.materializer import Materializer
from nbpipe.data.previews import preview
from nbpipe.model import Artifact, Preview

PNG = b"\x89PNG\r\n\x1a\n"


class AnyFile(LocalStore):
    """A store in which every file is an output whose digest is its path."""

    def locate(self, artifact: Artifact) -> Path:
        """Return the path."""
        return Path(artifact.digest)


def artifact(path: Path, format: str) -> Artifact:
    size = path.stat().st_size if path.is_file() else 0
    return artifact_of("out", format, str(path.absolute()), size, basename=path.name)


def look(artifact: Artifact) -> Preview:
    return preview(artifact, Materializer({"default": AnyFile(Path("/"))}))


def of(folder: Path, value: object, format: str | None = None) -> Preview:
    """Save a value as a step would, and get its preview."""
    saved = formats.save(value, name="out", format=format, folder=folder)
    return look(artifact(folder / saved.basename, saved.format))


FRAME = pd.DataFrame({"n": range(1000), "x": np.linspace(0, 1, 1000), "s": ["text " * 100] * 1000})


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_a_table_shows_its_shape_schema_and_head(tmp_path, format):
    found = of(tmp_path, FRAME, format)

    assert (found.kind, found.summary) == ("table", "1,000 rows × 3 columns")
    assert found.columns[:3] == (("n", "int64"), ("x", "double"), ("s", found.columns[2][1]))
    assert len(found.rows) == 8
    assert found.rows[1][:2] == ("1", "0.001001")
    assert found.rows[0][2].endswith("…")


def test_a_table_without_rows_or_with_many_columns_is_one_too(tmp_path):
    assert of(tmp_path, FRAME.head(0)).summary == "0 rows × 3 columns"
    wide = of(tmp_path, pd.DataFrame(np.zeros((3, 500)), columns=[f"c{n}" for n in range(500)]))
    assert (wide.summary, len(wide.columns), len(wide.rows[0])) == ("3 rows × 500 columns", 12, 12)
    indexed = of(tmp_path, FRAME.iloc[[5, 7, 8]])
    assert (indexed.summary, indexed.columns[0]) == ("3 rows × 3 columns", ("", "int64"))
    assert [row[:2] for row in indexed.rows] == [("5", "5"), ("7", "7"), ("8", "8")]
    nothing = of(tmp_path, pd.DataFrame({"a": [None, 1.5], "b": pd.to_datetime(["2024-01-01", None])}))
    lists = of(tmp_path, pa.table({"l": [[1, 2], None], "d": pa.array(["a", "b"]).dictionary_encode()}))
    assert lists.rows == (("[2 items]", "a"), ("", "b"))
    assert nothing.rows == (("", "2024-01-01 00:00:00"), ("1.5", ""))


def test_a_csv_shows_its_first_lines(tmp_path):
    found = of(tmp_path, FRAME[["n", "x"]], "csv")

    assert [name for name, _ in found.columns] == ["n", "x"]
    assert found.rows[2][0] == "2"
    assert "1,000 lines" in found.summary


@pytest.mark.parametrize(
    "value, kind, summary",
    [
        ({"a": 1, "b": [1, 2]}, "text", "2 keys"),
        ([1], "text", "1 item"),
        ("hello", "text", "str"),
        (None, "text", "None"),
        (np.arange(6.0).reshape(2, 3), "array", "2 × 3 float64"),
        (np.zeros((2, 3, 4), dtype="int8"), "array", "2 × 3 × 4 int8"),
        (np.float32(np.ones(())), "opaque", None),
        (np.ones(()), "array", "one float64"),
        (b"\x00\x01", "opaque", "bytes"),
    ],
)
def test_values_say_what_they_are(tmp_path, value, kind, summary):
    found = of(tmp_path, value)

    assert found.kind == kind
    assert summary is None or found.summary == summary


def test_arrays_and_tensors_by_name_tell_their_shapes(tmp_path):
    many = {"w": np.zeros((3, 4)), "b": np.zeros(4, dtype="float32")}
    for format, noun in (("npz", "arrays"), ("safetensors", "tensors")):
        found = of(tmp_path, many, format)
        assert found.summary == f"2 {noun}"
        assert "w: 3 × 4" in found.text


class Loud:
    """Raises when it is unpickled."""

    def __setstate__(self, _state: object) -> None:
        raise AssertionError("it was unpickled")


def test_a_pickle_is_named_and_never_loaded(tmp_path):
    loud = Loud()
    loud.__dict__["a"] = 1
    (tmp_path / "out.pkl").write_bytes(__import__("pickle").dumps(loud))
    found = look(artifact(tmp_path / "out.pkl", "cloudpickle"))

    assert (found.kind, found.summary) == ("opaque", "test_previews.Loud")


def test_a_picture_is_shown_and_a_large_one_made_small(tmp_path):
    small, large = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (30, 20)).save(small)
    Image.frombytes("RGB", (1500, 1500), os.urandom(1500 * 1500 * 3)).save(large)
    found, other = look(artifact(small, "png")), look(artifact(large, "file"))

    assert (found.kind, found.summary, found.pictures[0].data[:8]) == ("image", "30 × 20 pixels", PNG)
    assert other.pictures[0].media == "image/jpeg"
    assert len(other.pictures[0].data) < 1_500_000


def test_a_figure_is_shown_by_the_picture_in_its_file(tmp_path):
    figure = matplotlib.figure.Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    found = of(tmp_path, figure)

    assert (found.format, found.kind, found.summary) == ("figure", "image", "a figure, 100 × 50 pixels")
    assert found.pictures[0].data.endswith(b"IEND\xaeB`\x82")
    assert found.bytes > len(found.pictures[0].data)


def test_a_folder_lists_files_with_sizes_and_shows_some_pictures(tmp_path):
    folder = tmp_path / "plots"
    folder.mkdir()
    Image.new("RGB", (3, 2)).save(folder / "p.png")
    for number in range(40):
        (folder / f"t{number:02}.txt").write_text("x" * number)
    found = look(artifact(folder, "dir"))

    assert (found.kind, found.summary, len(found.files)) == ("files", "41 files", 20)
    assert [picture.name for picture in found.pictures] == ["p.png"]
    assert ("t03.txt", 3) in found.files


def test_a_plain_file_is_shown_by_what_it_holds(tmp_path):
    (tmp_path / "log.txt").write_text("one\ntwo\n")
    (tmp_path / "blob").write_bytes(b"\x00\xff" * 100)
    (tmp_path / "d.json").write_text(json.dumps({"k": 1}))

    assert look(artifact(tmp_path / "log.txt", "file")).text == "one\ntwo\n"
    assert look(artifact(tmp_path / "blob", "file")).kind == "opaque"
    assert look(artifact(tmp_path / "d.json", "file")).summary == "1 key"


def test_what_is_gone_or_elsewhere_is_said(tmp_path):
    away = artifact_of("out", "json", "blake3:0", 1, store="lake")

    assert look(artifact(tmp_path / "none", "json")).kind == "missing"
    assert look(away).kind == "missing"


VALUES = {
    "arrow": FRAME.head(20),
    "parquet": FRAME.head(20),
    "csv": FRAME.head(20)[["n", "s"]],
    "json": {"a": [1, 2, {"b": None}]},
    "npy": np.arange(12.0).reshape(3, 4),
    "npz": {"w": np.zeros((3, 4))},
    "safetensors": {"w": np.zeros((3, 4))},
    "text": "some text",
    "cloudpickle": {1, 2, 3},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Get one whole file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for format, value in VALUES.items():
        (folder / format).mkdir()
        saved = formats.save(value, name="out", format=format, folder=folder / format)
        found[format] = (folder / format / saved.basename).read_bytes()
    Image.new("RGB", (30, 20)).save(folder / "p.png")
    return {**found, "png": (folder / "p.png").read_bytes(), "bin": b"abc", "file": b"abc"}


share = st.floats(0, 1)


@settings(max_examples=300)
@given(
    format=st.sampled_from(sorted([*VALUES, "png", "bin", "file"])),
    changes=st.lists(st.tuples(share, st.integers(0, 255)), max_size=6),
    kept=st.none() | share,
)
def test_a_damaged_file_is_shown_or_said_to_be_damaged(tmp_path_factory, whole, format, changes, kept):
    content = bytearray(whole[format])
    for at, byte in changes:
        content[int(at * (len(content) - 1))] = byte
    cut = len(content) if kept is None else int(kept * len(content))
    path = tmp_path_factory.mktemp("damaged") / "out"
    path.write_bytes(content[:cut])

    found = look(artifact(path, format))
    assert found.format == format
    assert len(found.text) <= 4_000
    assert len(found.rows) <= 8


def test_a_large_table_is_mapped_and_not_read(tmp_path):
    """A preview of 400 MB takes a small part of that in memory."""
    column = pa.array(np.zeros(50_000_000))
    path = tmp_path / "big.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("a", pa.float64())])) as writer:
        writer.write_table(pa.table({"a": column}))
    del column
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    found = look(artifact(path, "arrow"))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert found.summary == "50,000,000 rows × 1 column"
    # Pages of four kilobytes: reading all of it would touch a hundred thousand.
    assert faults < 5_000
