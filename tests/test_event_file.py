"""What is read of an attempt's events: pieces that the run's log knows, and that the file has lost, are told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbpipe.data.event_file import NAME, PieceReader, fill_gaps, lost_pieces


def written(folder: Path, numbers: range) -> Path:
    """Write a piece of each number and return the file."""
    pieces = [
        {"number": number, "time": 1.0, "kind": "stream", "cell": 1, "content": {"name": "stdout", "text": f"{number}"}}
        for number in numbers
    ]
    path = folder / NAME
    path.write_text("".join(json.dumps(piece) + "\n" for piece in pieces))
    return path


def texts(reader: PieceReader, first: int, last: int) -> list[tuple[int, str]]:
    """Return the numbers and texts of recorded pieces."""
    return [(event.number, event.content["text"]) for event in reader.recorded(first, last)]


def test_recorded_pieces_that_are_all_there_are_read_as_they_are(tmp_path):
    """Nothing is added to a file that has what the log says."""
    written(tmp_path, range(1, 5))
    assert texts(PieceReader(tmp_path), 2, 3) == [(2, "2"), (3, "3")]


def test_a_recorded_piece_on_a_torn_last_line_is_told_of(tmp_path):
    """The log has the piece, so it was written, and was lost afterwards."""
    path = written(tmp_path, range(1, 4))
    path.write_bytes(path.read_bytes()[:-10])
    assert texts(PieceReader(tmp_path), 2, 3) == [
        (2, "2"), (3, "[nbpipe: piece 3 of the step's output cannot be read]\n"),
    ]  # fmt: skip


@pytest.mark.parametrize("first", [1, 4])
def test_recorded_pieces_of_a_file_that_is_gone_are_told_of_once(tmp_path, first):
    """One note for all, with the number of the last, so that the next read goes on after it."""
    assert texts(PieceReader(tmp_path), first, 9) == [
        (9, f"[nbpipe: pieces {first} to 9 of the step's output cannot be read]\n")
    ]


def test_what_is_being_written_is_not_told_of_as_lost(tmp_path):
    """A worker's last line may be incomplete as long as the log does not have it."""
    path = written(tmp_path, range(1, 4))
    path.write_bytes(path.read_bytes()[:-10])
    assert [event.number for event in PieceReader(tmp_path).read(0, 3)] == [1, 2]


def test_lost_pieces_are_counted_and_replaced_by_notes(tmp_path):
    """What faces call lost, `verify --full` finds."""
    path = written(tmp_path, range(1, 6))
    lines = path.read_bytes().splitlines(keepends=True)
    assert lost_pieces(tmp_path, 5) == 0
    path.write_bytes(lines[0] + b"garbage\n" + lines[2] + lines[4][:-3])
    assert lost_pieces(tmp_path, 5) == 3
    fill_gaps(tmp_path, 5)
    assert lost_pieces(tmp_path, 5) == 0
    told = [event.content["text"] for event in PieceReader(tmp_path).read(0)]
    assert [text[:8] for text in told] == ["1", "[nbpipe:", "3", "[nbpipe:", "[nbpipe:"]
    path.unlink()
    assert lost_pieces(tmp_path, 5) == 5
