"""Records as JSON text: what is read is what was written, and damaged text is an error."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbpipe.codec import decode, encode, encode_sparse, gunzip_text, gzip_text, pack, unpack
from nbpipe.history.rebuild_archive import ArchivedResult, ArchivedRun
from nbpipe.history.results import ReuseEntry
from nbpipe.model import (
    Artifact,
    AttemptRecord,
    ExecutionRecord,
    Failure,
    FailureKind,
    GitState,
    KeyComponent,
    Metric,
    ObjectReference,
    Observation,
    ObservationKind,
    OutputWritten,
    PipelineRecord,
    Reason,
    ResultOrigin,
    RunChanged,
    RunGrown,
    RunRecord,
    Status,
)

# Two lone surrogates in a row may be read back as the one character that they spell.
TEXT = st.text(st.characters(exclude_categories=[], max_codepoint=0xDBFF) | st.characters(), max_size=8).filter(
    lambda text: not any("\udc00" <= character <= "\udfff" for character in text)
) | st.sampled_from(["", "\udc80", "caf\udce9.csv", "\x00", "\u2028", "😀"])
COUNT = st.integers(0, 2**63 - 1)
SECONDS = st.floats(allow_nan=False)
STATUS = st.sampled_from(Status)


def some(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(values, max_size=2).map(tuple)


ARTIFACTS = st.builds(Artifact, TEXT, TEXT, st.builds(ObjectReference, TEXT, TEXT, TEXT, COUNT))
FAILURES = st.builds(
    Failure, st.sampled_from(FailureKind), TEXT, TEXT, TEXT, st.none() | COUNT, st.none() | COUNT, TEXT
)
OBSERVED = st.builds(Observation, st.sampled_from(ObservationKind), TEXT, TEXT, TEXT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SECONDS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=5,
)
EXECUTIONS = st.builds(
    ExecutionRecord,
    TEXT, TEXT, TEXT, COUNT, STATUS, COUNT, SECONDS, SECONDS,
    some(st.builds(Reason, TEXT, st.none() | TEXT, st.none() | TEXT)),
    some(st.builds(KeyComponent, TEXT, TEXT, TEXT, TEXT, TEXT)),
    st.none() | TEXT, st.none() | st.builds(ResultOrigin, TEXT, TEXT, TEXT), st.none() | TEXT, some(ARTIFACTS),
    st.none() | FAILURES, st.none() | SECONDS, st.none() | SECONDS, some(TEXT), some(OBSERVED), some(TEXT), some(TEXT),
    st.booleans(),
)  # fmt: skip
ATTEMPTS = st.builds(
    AttemptRecord,
    TEXT, TEXT, TEXT, COUNT, STATUS, TEXT, COUNT, st.none() | TEXT, st.none() | SECONDS, st.none() | SECONDS, SECONDS,
    TEXT, COUNT, st.none() | FAILURES, some(ARTIFACTS),
)  # fmt: skip
GIT = st.builds(GitState, TEXT, TEXT, TEXT, dirty=st.booleans(), patch=TEXT)
RUNS = st.builds(
    RunRecord,
    TEXT, COUNT, TEXT, TEXT, TEXT, STATUS, SECONDS, st.none() | SECONDS, st.dictionaries(TEXT, JSON, max_size=2),
    st.dictionaries(TEXT, TEXT, max_size=2), st.none() | GIT, TEXT,
)  # fmt: skip
PIPELINES = st.builds(PipelineRecord, TEXT, TEXT, st.frozensets(TEXT, max_size=3), st.frozensets(TEXT, max_size=3))
METRICS = st.builds(
    Metric, TEXT, TEXT, TEXT, COUNT, TEXT, SECONDS, st.none() | st.integers(-(2**63), 2**63 - 1), SECONDS
)
ENTRIES = st.builds(ReuseEntry, TEXT, st.none() | TEXT, some(OBSERVED))
RECORDS = st.one_of(
    EXECUTIONS, ATTEMPTS, RUNS, PIPELINES, METRICS,
    st.builds(RunChanged, STATUS, st.none() | SECONDS),
    st.builds(RunGrown, TEXT, st.dictionaries(TEXT, TEXT, max_size=2)),
    st.builds(OutputWritten, TEXT, COUNT, COUNT),
    st.builds(ArchivedRun, RUNS, PIPELINES),
    st.builds(ArchivedResult, EXECUTIONS, ATTEMPTS, some(ENTRIES), SECONDS),
)  # fmt: skip


@given(RECORDS)
@example(Metric("r", "s", "t", 1, "loss", 0.5, None, 1.0))
def test_a_record_is_read_as_it_was_written(record):
    for text in (encode(record), encode_sparse(record)):
        assert text.isascii()
        assert "\n" not in text
        assert decode(text, type(record)) == record
        assert decode(text.encode(), type(record)) == record


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_need_not_be_one(value):
    metric = Metric("r", "s", "t", 1, "loss", value, 2, 1.0)

    for text in (encode(metric), encode_sparse(metric)):
        assert repr(decode(text, Metric)) == repr(metric)


@dataclass(frozen=True, slots=True)
class Peculiar:
    """What has a default that is neither nothing nor empty, and may be nothing where it has no default."""

    needed: int | None
    count: int = 3
    on: bool = True
    names: tuple[str, ...] = ("a",)
    words: Mapping[str, str] = field(default_factory=lambda: {"a": "b"})


@pytest.mark.parametrize(
    "value", [Peculiar(None), Peculiar(0, 0, on=False, names=(), words={}), Peculiar(1, 3, names=("a",))]
)
def test_a_field_is_left_out_where_it_has_its_default_and_nowhere_else(value):
    text = encode_sparse(value)

    assert decode(text, Peculiar) == value
    plain = Peculiar(None)
    left = {each.name for each in fields(value)} - json.loads(text).keys()
    assert left == {name for name in ("count", "on", "names", "words") if getattr(value, name) == getattr(plain, name)}


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "7", '"x"', "{}", "{", '{"status": "running"', '{"status": "unheard-of"}', '{"status": 7}',
        '{"status": "lost", "ended": "soon"}', '{"status": "lost", "ended": [1]}', "[" * 100_000,
        '{"status": "lost", "ended": 1' + "0" * 400 + "}", '{"status": "lost", "ended": 1' + "0" * 5000 + "}",
        b"\xff\xfe\xff", b"\x80",
    ],
    ids=repr,
)  # fmt: skip
def test_damaged_text_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        decode(text, RunChanged)


@given(st.text(max_size=40) | RECORDS.map(encode))
def test_any_text_is_a_record_or_a_value_error(text):
    for kind in (ExecutionRecord, AttemptRecord, RunGrown, ArchivedRun):
        try:
            assert isinstance(decode(text, kind), kind)
        except ValueError:
            continue


@given(st.data(), st.one_of(EXECUTIONS, METRICS, st.builds(ArchivedRun, RUNS, PIPELINES)))
def test_a_text_that_was_cut_or_changed_is_a_record_or_a_value_error(data, record):
    text = encode(record)
    place = data.draw(st.integers(0, len(text)))
    for damaged in (text[:place], text[:place] + data.draw(st.text(max_size=2)) + text[place + 1 :]):
        try:
            assert isinstance(decode(damaged, type(record)), type(record))
        except ValueError:
            continue


@given(st.text(st.characters(max_codepoint=127)), st.data())
def test_a_compressed_text_is_read_as_it_was_or_a_value_error(text, data):
    content = gzip_text(text)
    place = data.draw(st.integers(0, len(content) - 1))

    assert gunzip_text(content) == gzip.decompress(content).decode() == text
    with pytest.raises(ValueError, match=r".*"):
        gunzip_text(content[:place])


def test_what_json_cannot_say_is_shown():
    """A parameter may be anything."""
    run = RunRecord("r", 1, "p", "n", "e", Status.LOST, 0.0, None, {"odd": object, "c": 1j}, {}, None, "me")

    assert decode(encode(run), RunRecord).parameters == {"odd": "<class 'object'>", "c": "1j"}


@pytest.mark.parametrize("read, wbits", [(unpack, 15), (gunzip_text, 31)])
def test_a_few_bytes_that_stand_for_very_many_are_damage(read, wbits):
    """A megabyte that somebody has crafted could fill the memory of whoever looks at it."""
    compressor = zlib.compressobj(9, wbits=wbits)
    bomb = b"".join(compressor.compress(bytes(1 << 24)) for _ in range(64)) + compressor.flush()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="far more"):
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["", " " * 10_000_000, "[" + "1.25," * 2_000_000 + "0]"])
def test_what_was_packed_is_unpacked_however_regular_it_is(text):
    assert unpack(pack(text)) == text
    for content in (pack(text)[:-1], b"", b"no"):
        with pytest.raises(ValueError, match=r"."):
            unpack(content)
