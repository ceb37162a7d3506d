"""What is saved comes back: same value, same type, or a refusal that says why."""

from __future__ import annotations

import datetime as dt
import json
import math
import mmap
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from nbpipe.data import formats, mapped_frames
from nbpipe.data.formats import NotStorable
from nbpipe.data.value_types import same


def again(value: Any, folder: Path, format: str | None = None) -> Any:
    saved = formats.save(value, name="x", format=format, folder=folder)
    return formats.load(folder / saved.basename, saved.format)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_what_json_can_say_is_kept_as_json_and_comes_back_exactly(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("x")

    saved = formats.save(value, name="x", format=None, folder=folder)

    assert (saved.format, saved.basename, saved.note) == ("json", "x.json", "")
    assert same(value, formats.load(folder / saved.basename, saved.format))


@given(ANY)
def test_any_nested_value_comes_back_with_its_types(tmp_path_factory, value):
    assert same(value, again(value, tmp_path_factory.mktemp("x")))


class Point(NamedTuple):
    """A tuple that is more than one."""

    x: int
    y: int


class Text(str):
    """A str that is more than one."""

    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a"},
        {"a": (1,)},
        [np.float64(1.5)],
        np.int64(3),
        Text("a"),
        {"a": Text("b")},
        {1, 2},
        OrderedDict(a=1),
        Point(1, 2),
        "\ud83d\ude00",
        10**5000,
        bytearray(b"x"),
        1j,
        Decimal("1.0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_is_pickled_with_a_visible_note(tmp_path, value):
    saved = formats.save(value, name="x", format=None, folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, saved.format)

    assert saved.format == "cloudpickle"
    assert "output `x`" in saved.note
    assert (type(value), value) == (type(back), back)


def test_a_list_that_is_held_twice_is_still_one_list(tmp_path):
    row = [0]
    first = again([row, row], tmp_path)
    first[0].append(1)
    assert first == [[0, 1], [0, 1]]
    both = again({"a": {"k": row}, "b": row}, tmp_path)
    assert both["a"]["k"] is both["b"]


def test_deep_and_circular_values_are_no_json(tmp_path):
    ring: list[Any] = []
    ring.append(ring)
    back = again(ring, tmp_path)

    assert back[0] is back


def test_explicit_json_takes_numpy_scalars_and_refuses_what_json_has_no_word_for(tmp_path):
    assert again({"r2": np.float32(0.5), "n": np.int64(3), "ok": np.array([1]).all()}, tmp_path, "json") == {
        "r2": 0.5,
        "n": 3,
        "ok": True,
    }
    assert again((1, 2), tmp_path, "json") == [1, 2]
    with pytest.raises(NotStorable, match=r"output `x` \(dict\) cannot be stored as json: json does not take numpy"):
        again({"a": np.arange(3)}, tmp_path, "json")
    with pytest.raises(NotStorable, match="json"):
        again({"a": {1, 2}}, tmp_path, "json")


def test_a_refused_value_leaves_no_file(tmp_path):
    with pytest.raises(NotStorable):
        again("text", tmp_path, "arrow")
    assert list(tmp_path.iterdir()) == []


MONTHS = pd.date_range("2020-01-01", periods=3, freq="MS")
FRAMES = {
    "plain": pd.DataFrame({"a": [1, 2, 3], "b": [1.5, math.nan, 0.0], "c": list("xyz")}),
    "one column": pd.DataFrame({"a": np.arange(3.0)}),
    "numbered": pd.DataFrame(np.arange(6).reshape(3, 2)),
    "integer labels": pd.DataFrame({3: [1], 1: [2]}),
    "twins": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "named labels": pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="what")),
    "label levels": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
    "dated labels": pd.DataFrame([[1, 2, 3]], columns=MONTHS),
    "index": pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 3], name="id")),
    "index called as a column": pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 3], name="a")),
    "levels": pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None])),
    "frequency": pd.DataFrame({"v": [1, 2, 3]}, index=MONTHS),
    "range": pd.DataFrame({"v": [1, 2, 3]}, index=pd.RangeIndex(10, 16, 2, name="r")),
    "category": pd.DataFrame({"v": pd.Categorical(["b", "a", "b"], categories=["c", "b", "a"], ordered=True)}),
    "numbers as categories": pd.DataFrame({"v": pd.Categorical([3, 1, 3]), "w": [1, 2, 3]}),
    "categories of an index": pd.DataFrame({"v": [1, 2]}, index=pd.CategoricalIndex([2.5, 1.5], ordered=True)),
    "times as categories": pd.DataFrame(
        {"v": pd.Categorical([MONTHS[1], MONTHS[0], None], categories=list(MONTHS[::-1]))}
    ),
    "categories of labels": pd.DataFrame([[1, 2]], columns=pd.CategoricalIndex([2, 1], categories=[3, 2, 1])),
    "nullable": pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "f": pd.array([1.5, None], dtype="Float64"),
            "s": pd.array(["a", None], dtype="string"),
        }
    ),
    "arrow types": pd.DataFrame({"v": pd.array([1, None], dtype="int64[pyarrow]")}),
    "zone": pd.DataFrame({"v": pd.date_range("2020-01-01", periods=2, tz="Europe/Berlin")}),
    "seconds": pd.DataFrame({"v": np.array(["2020-01-01"], dtype="M8[s]"), "d": np.array([5], dtype="m8[s]")}),
    "period": pd.DataFrame({"v": pd.period_range("2020-01", periods=2, freq="M")}),
    "dates": pd.DataFrame({"v": [dt.date(2020, 1, 1), None]}),
    "decimals": pd.DataFrame({"v": [Decimal("1.00"), Decimal("2.50")]}),
    "small": pd.DataFrame({"v": np.array([1, 2], dtype="i1"), "h": np.array([1, 2], dtype="f2")}),
    "empty": pd.DataFrame(),
    "rows only": pd.DataFrame(index=[5, 6]),
    "columns only": pd.DataFrame({"a": pd.Series([], dtype="float32")}),
}
STRANGE = {
    "objects": pd.DataFrame({"v": pd.Series([1, "a", None], dtype=object)}),
    "integers as objects": pd.DataFrame({"v": pd.Series([1, 2], dtype=object)}),
    "two kinds of nothing": pd.DataFrame({"v": pd.Series([dt.date(2020, 1, 1), None, math.nan], dtype=object)}),
    "lists": pd.DataFrame({"v": [[1], [2, 3]]}),
    "mixed labels": pd.DataFrame({0: [1], "a": [2]}),
    "complex": pd.DataFrame({"v": [1j]}),
    "sparse": pd.DataFrame({"v": pd.arrays.SparseArray([0, 1])}),
    "bins": pd.DataFrame({"v": pd.cut([1, 2, 3], 2)}),
    "decimals of two scales": pd.DataFrame({"v": [Decimal("1.0"), Decimal("2.00")]}),
    "byte order": pd.DataFrame({"v": np.array([1], dtype=">i4")}),
}


OBJECTS = pl.DataFrame({"v": pl.Series([object()], dtype=pl.Object)})
PERIODS = pd.period_range("2020-01", periods=3, freq="M")
PANDAS_OWN = {
    "periods": pd.DataFrame({"v": [1, 2, 3]}, index=PERIODS),
    "a series": pd.Series([1, 2, 3], index=PERIODS, name="s"),
    "labels": pd.DataFrame([[1, 2, 3]], columns=PERIODS),
    "a level": pd.DataFrame({"v": [1, 2, 3]}, index=pd.MultiIndex.from_arrays([PERIODS, [1, 2, 3]], names=["p", "q"])),
    "intervals": pd.DataFrame({"v": [1, 2, 3]}, index=pd.interval_range(0, 3)),
}


def assert_same_frame(expected: pd.DataFrame, found: pd.DataFrame) -> None:
    assert type(expected) is type(found)
    pd.testing.assert_frame_equal(
        expected, found, check_exact=True, check_index_type="exact", check_column_type="exact"
    )


@pytest.mark.parametrize("format", [None, "arrow", "parquet"])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_come_back_from_arrow_and_parquet_exactly(tmp_path, frame, format):
    saved = formats.save(frame, name="x", format=format, folder=tmp_path)

    assert (format or "arrow", "") == (saved.format, saved.note)
    assert_same_frame(frame, formats.load(tmp_path / saved.basename, saved.format))


CATEGORIES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=4),
    st.lists(st.floats(allow_nan=False).map(lambda x: x + 0.0), unique=True, max_size=4),
    st.lists(st.text(max_size=3), unique=True, max_size=4),
    st.lists(st.booleans(), unique=True),
)


@given(categories=CATEGORIES, codes=st.lists(st.integers(-1, 3), max_size=6), ordered=st.booleans())
def test_categories_of_any_kind_come_back_from_arrow_and_parquet(tmp_path_factory, categories, codes, ordered):
    """K10: with their order, and those that no row has."""
    values = [categories[code] if 0 <= code < len(categories) else None for code in codes]
    frame = pd.DataFrame({"v": pd.Categorical(values, categories=categories, ordered=ordered)})
    for format in ("arrow", "parquet"):
        assert_same_frame(frame, again(frame, tmp_path_factory.mktemp("x"), format))


@pytest.mark.parametrize("frame", STRANGE.values(), ids=STRANGE)
def test_a_frame_that_arrow_cannot_hold_is_pickled_with_a_note_and_refused_if_arrow_was_asked_for(tmp_path, frame):
    saved = formats.save(frame, name="x", format=None, folder=tmp_path)

    assert saved.format == "cloudpickle"
    assert "output `x` (pandas.DataFrame) is stored by cloudpickle: " in saved.note
    assert_same_frame(frame, formats.load(tmp_path / saved.basename, saved.format))
    with pytest.raises(NotStorable, match=r"output `x`.* cannot be stored as arrow"):
        formats.save(frame, name="x", format="arrow", folder=tmp_path)


@pytest.mark.skipif(int(pd.__version__.partition(".")[0]) < 3, reason="it shares columns without copy-on-write")
@pytest.mark.parametrize("frame", FRAMES.values(), ids=list(FRAMES))
def test_a_frame_over_its_file_is_the_frame_and_its_changes_stay_in_memory(tmp_path, monkeypatch, frame):
    monkeypatch.setattr(mapped_frames, "_LARGE", 0)
    saved = formats.save(frame, name="x", format="arrow", folder=tmp_path)
    path = tmp_path / saved.basename
    before = path.read_bytes()
    back = formats.load(path, "arrow")

    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    for place, dtype in enumerate(back.dtypes):
        if len(back) > 1 and isinstance(dtype, np.dtype) and dtype.kind in "iufbMm":
            back.iloc[0, place] = back.iloc[1, place]
            frame = frame.copy()
            frame.iloc[0, place] = frame.iloc[1, place]
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(formats.load(path, "arrow").iloc[1:], frame.iloc[1:], check_exact=True)


def test_columns_of_numbers_lie_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_frames, "_LARGE", 0)
    frame = pd.DataFrame({"a": np.arange(9.0), "b": np.arange(9), "c": [1.0, None] * 4 + [2.0], "d": list("abcdefghi")})
    frame["t"] = pd.date_range("2026-01-01", periods=9)
    saved = formats.save(frame, name="x", format="arrow", folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, "arrow")

    over = {name for name in "abct" if isinstance(_owner(back[name].to_numpy(copy=False)), mmap.mmap)}
    # A missing number has no value in the file.
    assert over == {"a", "b", "t"}
    pd.testing.assert_frame_equal(back, frame, check_exact=True)


def _owner(array):
    """Return what holds an array's memory."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1.0, math.nan], name="s"),
        pd.Series([1, 2]),
        pd.Series(["a", None], name=("k", 1)),
        pd.Series([1, 2, 3], index=MONTHS, name=7),
        pd.Series([True], index=pd.Index(["a"], name="n")),
        pd.Series([], dtype="int8"),
    ],
)
def test_series_come_back_with_name_and_index(tmp_path, series):
    saved = formats.save(series, name="x", format=None, folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, saved.format)

    assert saved.format == "arrow"
    assert type(series.name) is type(back.name)
    pd.testing.assert_series_equal(series, back, check_exact=True, check_index_type="exact")


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_periods_and_intervals_come_back_in_a_fresh_process(tmp_path, format):
    """A reader that has not used pandas yet gets the same index and labels as one that has."""
    for name, value in PANDAS_OWN.items():
        saved = formats.save(value, name=name, format=format, folder=tmp_path)
        code = (
            "import pickle, sys; from pathlib import Path; from nbpipe.data import formats\n"
            "sys.stdout.buffer.write(pickle.dumps(formats.load(Path(sys.argv[1]), sys.argv[2])))"
        )
        command = [sys.executable, "-c", code, str(tmp_path / saved.basename), format]
        back = pickle.loads(subprocess.run(command, check=True, capture_output=True).stdout)

        compare = pd.testing.assert_series_equal if isinstance(value, pd.Series) else pd.testing.assert_frame_equal
        compare(value, back, check_index_type="exact")


def test_a_loaded_frame_can_be_changed_and_the_file_does_not(tmp_path):
    saved = formats.save(FRAMES["one column"], name="x", format=None, folder=tmp_path)
    before = (tmp_path / saved.basename).read_bytes()
    frame = formats.load(tmp_path / saved.basename, saved.format)
    frame.loc[0, "a"] = 9
    frame["a"] += 1
    frame.iloc[1, 0] = 7

    assert list(frame["a"]) == [10, 7, 3]
    assert before == (tmp_path / saved.basename).read_bytes()


@pytest.mark.parametrize("format", ["arrow", "parquet"])
@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": [1, None], "b": [["x"], []]}).replace_schema_metadata({"k": "v"}),
        pa.table({"a": pa.chunked_array([[1], [2, 3]])}),
        pa.table({"t": pa.array([1], pa.timestamp("s")), "d": pa.array(["u"]).dictionary_encode()}),
        pa.table({"a": pa.array([], pa.int8())}),
        pa.RecordBatch.from_pydict({"a": [1, 2]}),
        pa.RecordBatch.from_pydict({"a": pa.array([], pa.string())}),
    ],
)
def test_arrow_tables_come_back_with_schema_and_metadata(tmp_path, table, format):
    back = again(table, tmp_path, format)

    assert type(table) is type(back)
    assert table.schema.equals(back.schema, check_metadata=True)
    assert table.equals(back)


def test_chunks_do_not_count(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    formats.save(pa.table({"a": [1, 2, 3]}), name="x", format=None, folder=tmp_path / "one")
    formats.save(pa.table({"a": pa.chunked_array([[1], [2, 3]])}), name="x", format=None, folder=tmp_path / "two")

    assert (tmp_path / "one/x.arrow").read_bytes() == (tmp_path / "two/x.arrow").read_bytes()


@pytest.mark.parametrize("format", [None, "parquet"])
@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"a": [1, None], "s": ["x", "y"], "l": [[1], [2, 3]], "d": [dt.date(2020, 1, 1), None]}),
        pl.DataFrame({"e": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), "i": pl.Series([1, 2], dtype=pl.UInt8)}),
        pl.DataFrame(
            {"t": pl.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], dtype=pl.Datetime("us", "Europe/Berlin"))}
        ),
        pl.DataFrame(schema={"a": pl.Float32}),
        pl.Series("s", [1.5, None]),
        pl.Series([], dtype=pl.String),
    ],
)
def test_polars_comes_back_as_polars(tmp_path, frame, format):
    saved = formats.save(frame, name="x", format=format, folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, saved.format)

    assert (format or "arrow") == saved.format
    assert type(frame) is type(back)
    assert frame.equals(back, null_equal=True)
    assert pl.DataFrame(frame).schema == pl.DataFrame(back).schema


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.eye(3)),
        np.array(5.0),
        np.zeros((0, 3), dtype="f4"),
        np.array(["a", "bc"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("ü", "f8")]),
        np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
        np.arange(10)[::-2],
        np.array([1], dtype=">i4"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back_with_dtype_and_shape(tmp_path, array):
    saved = formats.save(array, name="x", format=None, folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, saved.format)

    assert saved.format == "npy"
    assert (type(array), array.dtype, array.shape) == (type(back), back.dtype, back.shape)
    assert array.tobytes() == back.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "a", None], dtype=object),
        np.ma.masked_array([1, 2], mask=[0, 1]),
        np.array(["a"], dtype=np.dtypes.StringDType()),
        np.zeros(1, np.dtype("i4", metadata={"unit": "m"})),
    ],
    ids=["object", "masked", "StringDType", "metadata"],
)
def test_arrays_that_npy_would_change_are_pickled_and_refused_as_npy(tmp_path, array):
    saved = formats.save(array, name="x", format=None, folder=tmp_path)

    assert saved.format == "cloudpickle"
    assert type(array) is type(formats.load(tmp_path / saved.basename, saved.format))
    with pytest.raises(NotStorable, match="cannot be stored as npy"):
        formats.save(array, name="x", format="npy", folder=tmp_path)


def test_npz_keeps_a_dict_of_arrays_under_any_name(tmp_path):
    arrays = {"file": np.arange(3), "allow_pickle": np.eye(2)}
    back = again(arrays, tmp_path, "npz")

    assert list(arrays) == list(back)
    assert all(np.array_equal(arrays[key], back[key]) for key in arrays)


@pytest.mark.parametrize("order", ["C", "F"])
def test_safetensors_keeps_numpy_arrays_in_their_order(tmp_path, order):
    arrays = OrderedDict(b=np.array([[1, 2], [3, 4]], order=order), a=np.array(2.5))
    back = again(arrays, tmp_path, "safetensors")

    assert (OrderedDict, ["b", "a"]) == (type(back), list(back))
    assert all(np.array_equal(arrays[key], back[key]) for key in arrays)
    assert np.array_equal(arrays["b"], again(arrays["b"], tmp_path, "safetensors"))


def test_torch_tensors_and_state_dicts_are_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    state = OrderedDict(weight=torch.eye(2), bias=torch.zeros(2))
    saved = formats.save(state, name="x", format=None, folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, saved.format)

    assert saved.format == "safetensors"
    assert (type(state), list(state)) == (type(back), list(back))
    assert torch.equal(state["weight"], back["weight"])


def chart() -> matplotlib.figure.Figure:
    figure = matplotlib.figure.Figure()
    axes = figure.subplots(2)
    axes[0].plot([1, 2], label="a line")
    axes[0].legend()
    return figure


def test_a_figure_comes_back_as_a_figure_and_its_file_is_a_picture(tmp_path):
    """D5."""
    saved = formats.save(chart(), name="chart", format=None, folder=tmp_path)
    back = formats.load(tmp_path / saved.basename, saved.format)
    picture = PIL.Image.open(tmp_path / "chart.png")
    picture.load()

    assert (saved.format, saved.basename, saved.note) == ("figure", "chart.png", "")
    assert (type(back), len(back.axes), list(back.axes[0].lines[0].get_ydata())) == (
        matplotlib.figure.Figure,
        2,
        [1, 2],
    )
    assert picture.size == tuple(back.canvas.get_width_height())
    (tmp_path / "b").mkdir()
    formats.save(chart(), name="chart", format=None, folder=tmp_path / "b")
    assert (tmp_path / "chart.png").read_bytes() == (tmp_path / "b" / "chart.png").read_bytes()
    back.savefig(tmp_path / "again.png")


def test_a_managed_figure_opens_no_window_where_it_is_read(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom nbpipe.data import formats\n"
        "figure = formats.load(Path(sys.argv[1]), 'figure')\n"
        "print(len(figure.axes), 'matplotlib.pyplot' in sys.modules)"
    )
    figure, _ = plt.subplots()
    saved = formats.save(figure, name="x", format=None, folder=tmp_path)
    plt.close(figure)
    command = [sys.executable, "-c", program, str(tmp_path / saved.basename)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "1 False\n"


def test_a_figure_that_cannot_be_pickled_is_kept_as_a_picture_with_a_note(tmp_path):
    figure = chart()
    figure.lock = threading.Lock()
    saved = formats.save(figure, name="x", format=None, folder=tmp_path)

    assert (saved.format, saved.basename) == ("png", "x.png")
    assert "`x` is stored as a picture, not as a figure: cannot pickle '_thread.lock' object" in saved.note
    with pytest.raises(NotStorable, match=r"cannot be stored as figure: .*, which is `y.lock`"):
        formats.save(figure, name="y", format="figure", folder=tmp_path)
    with pytest.raises(NotStorable, match="figure takes a matplotlib figure"):
        formats.save([1], name="y", format="figure", folder=tmp_path)
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="its picture has no end"):
        formats.load(tmp_path / "x.png", "figure")


def test_a_figure_becomes_a_picture_that_a_reader_can_show(tmp_path):
    saved = formats.save(chart(), name="chart", format="png", folder=tmp_path)
    image = formats.load(tmp_path / saved.basename, saved.format)

    assert (saved.format, saved.basename, saved.note) == ("png", "chart.png", "")
    assert (tmp_path / "chart.png").read_bytes() == image.data
    (tmp_path / "again").mkdir()
    assert image.data == again(image, tmp_path / "again", "png").data


@pytest.mark.parametrize(
    "value",
    [
        FRAMES["levels"],
        FRAMES["dated labels"],
        np.eye(2),
        {"b": 1, "a": [1.5]},
        Ridge(),
        pl.DataFrame({"a": ["x"]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_equal_values_are_equal_bytes(tmp_path, value):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = formats.save(value, name="x", format=None, folder=tmp_path / "a")
    two = formats.save(pickle.loads(pickle.dumps(value)), name="x", format=None, folder=tmp_path / "b")

    assert (tmp_path / "a" / one.basename).read_bytes() == (tmp_path / "b" / two.basename).read_bytes()


def test_a_model_is_pickled_and_says_so(tmp_path):
    saved = formats.save(Ridge().fit([[1], [2]], [1, 2]), name="model", format=None, folder=tmp_path)

    assert (saved.format, saved.basename) == ("cloudpickle", "model.pkl")
    assert saved.note.startswith("output `model` (sklearn.Ridge) is stored by cloudpickle")
    assert formats.load(tmp_path / saved.basename, saved.format).predict([[1.5]]) == [1.5]


def test_what_cannot_be_pickled_is_refused_with_its_type_and_the_cure(tmp_path):
    with pytest.raises(
        NotStorable, match=r"output `lines` \(generator\) cannot be stored as cloudpickle: .*keep it out"
    ):
        formats.save((line for line in "ab"), name="lines", format=None, folder=tmp_path)


class OwnError(Exception):
    """An author's own."""


class Stubborn:
    """A value that refuses to be pickled, in its author's own words."""

    def __reduce__(self) -> Any:
        raise OwnError("ask me later")


def test_whatever_a_writer_raises_names_the_output_its_type_and_the_cause(tmp_path):
    with pytest.raises(
        NotStorable, match=r"output `x` \(\w+\.Stubborn\) .* cloudpickle: OwnError: ask me later; keep it out"
    ):
        formats.save(Stubborn(), name="x", format=None, folder=tmp_path)
    with pytest.raises(NotStorable, match=r"output `x` \(polars.DataFrame\) .* cloudpickle: ComputeError: "):
        formats.save(OBJECTS, name="x", format=None, folder=tmp_path)
    with pytest.raises(NotStorable, match=r"output `x` \(bytes\) cannot be stored as bin: .*No such file[^;]*$"):
        formats.save(b"x", name="x", format=None, folder=tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_csv_is_text_and_tells_what_it_does_not_keep(tmp_path):
    plain = pd.DataFrame({"a": [1, 2], "b": [0.1, 1 / 3], "c": ["x", "y"]})
    saved = formats.save(plain, name="x", format="csv", folder=tmp_path)
    dated = formats.save(FRAMES["frequency"], name="y", format="csv", folder=tmp_path)

    assert saved.note == ""
    assert_same_frame(plain, formats.load(tmp_path / saved.basename, "csv"))
    assert "csv does not keep everything: the index comes back as ordinary columns" in dated.note
    assert type(again(pl.DataFrame({"a": [1]}), tmp_path, "csv")) is pl.DataFrame
    assert type(again(pa.table({"a": [1]}), tmp_path, "csv")) is pa.Table


@pytest.mark.parametrize("value", [b"", b"\x00\xff", "text", "Zürich\r\n", None, True, 1.5, [], {}])
def test_small_values_come_back(tmp_path, value):
    assert same(value, again(value, tmp_path))


def test_text_is_stored_as_it_is(tmp_path):
    formats.save("a\r\nb\n", name="x", format="txt", folder=tmp_path)

    assert (tmp_path / "x.txt").read_bytes() == b"a\r\nb\n"
    assert formats.load(tmp_path / "x.txt", "text") == "a\r\nb\n"


def test_known_formats_are_those_of_the_language():
    assert all(map(formats.known, [*formats.names(), "file.csv", "file.tar.gz", "dir"]))
    assert not any(map(formats.known, ["parket", "file.", "file./etc", "file.../x", "", "dir.x"]))
    assert all(formats.libraries(name) == () for name in ("json", "file", "file.csv", "dir"))
    assert ("pyarrow",) == formats.libraries("parquet") == formats.libraries("feather")


def test_a_damaged_file_is_not_offered(tmp_path):
    """Loading half a file raises instead of giving half a value."""
    formats.save(FRAMES["plain"], name="x", format="parquet", folder=tmp_path)
    path = tmp_path / "x.parquet"
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(ValueError, match=r"(?i)parquet"):
        formats.load(path, "parquet")


def test_a_very_long_name_still_makes_a_file(tmp_path):
    saved = formats.save(1, name="ü" * 250, format=None, folder=tmp_path)

    assert json.loads((tmp_path / saved.basename).read_text()) == 1


def test_a_loaded_table_serves_a_learner_and_any_column_can_be_changed(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [1, 0, 1], "y": [1.0, 2.0, 3.0]})
    back = again(frame, tmp_path)
    back.loc[back["b"] == 0, "b"] = 5
    back["a"] *= 2
    back.iloc[0, 2] = 0.0

    assert back.to_dict("list") == {"a": [2.0, 4.0, 8.0], "b": [1, 5, 1], "y": [0.0, 2.0, 3.0]}
    assert Ridge().fit(back[["a", "b"]], back["y"]).score(back[["a", "b"]], back["y"]) > 0


def test_a_class_that_was_stored_by_value_is_recognised_by_its_mark(tmp_path):
    """Results of earlier versions hold classes by value."""
    program = "class Model:\n    made = 0\n    def __init__(self):\n        Model.made += 1\nimport sys\n"
    writing = (
        "import cloudpickle\ncloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS[Model] = 'Model-d1'\n"
        "cloudpickle.dump(Model(), open(sys.argv[1], 'wb'))"
    )
    reading = (
        "from pathlib import Path\nfrom nbpipe.data import formats, notebook_classes\n"
        "notebook_classes.share_classes(globals(), {'Model': 'd1'})\n"
        "m = formats.load(Path(sys.argv[1]), 'cloudpickle')\nprint(type(m) is Model, Model.made)"
    )
    for code in (writing, reading):
        command = [sys.executable, "-c", program + code, str(tmp_path / "m.pkl")]
        told = subprocess.run(command, check=True, capture_output=True)
    assert told.stdout == b"True 0\n"


def test_a_pickled_function_needs_nothing_of_nbpipe(tmp_path):
    made = tmp_path / "made.py"
    made.write_text(
        "import sys\nfrom pathlib import Path\nfrom nbpipe.data.notebook_classes import share_classes\n"
        "from nbpipe.data.formats import save\nSEEN = {}\ndef note(key):\n    SEEN[key] = 1\n    return sorted(SEEN)\n"
        "share_classes(globals(), {'note': 'd1', 'SEEN': 'd2'})\n"
        "save(note, name='f', format=None, folder=Path(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, str(made), str(tmp_path)], check=True)
    read = "import cloudpickle, sys\nf = cloudpickle.load(open(sys.argv[1], 'rb'))\nprint(f.__name__, f('a'))\n"
    read += "assert not [name for name in sys.modules if name.startswith('nbpipe')]"
    told = subprocess.run([sys.executable, "-c", read, str(tmp_path / "f.pkl")], check=True, capture_output=True)
    assert told.stdout == b"note ['a']\n"
