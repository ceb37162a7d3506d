"""What the runner and its clients send each other arrives as it was sent, or is answered by one clear error."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from sample_cells import cells

from nbpipe.errors import BadPipeline, NbpipeError, OutOfReach, Refusals, SourceLocation, StepFailed, UndeclaredName
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import PipelineWarning
from nbpipe.resolve import parse_cache
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run import messages
from nbpipe.run.messages import (
    VERSION,
    ErrorPayload,
    ReleaseRuns,
    Reply,
    ReplyKind,
    decode_message,
    decode_reply,
    decode_submission,
    encode_release,
    encode_reply,
    encode_submission,
)
from nbpipe.run.submission import Lifetime, RunOptions, Submission

SOURCES = ("#| parameters\nrate = 1", "import math", "%%step make -o x\nx = math.floor(rate)")


def submission(*sources: str, **request: object) -> Submission:
    """Return a submission in which every field has a value."""
    listed = tuple(cells(*(sources or SOURCES)))
    asked = PipelineRequest(
        "/a/n.ipynb",
        parse_cells(listed),
        Path("/a"),
        "python3",
        {"rate": "2"},
        {"rate": 3},
        ("make",),
        None,
        ("make",),
    )
    return Submission(
        listed, dataclasses.replace(asked, **request), RunOptions(keep_going=True, tags={"a": "b"}, run="r1"),
        Path("/a/.nbpipe"), {"MOOD": "good"}, "r0", 3, Lifetime.KERNEL, "/k.json", holds=True,
    )  # fmt: skip


def replied(line: str) -> tuple[str, str]:
    """Return the run and the message of the reply to a line that submits nothing."""
    reply = decode_submission(line)
    assert isinstance(reply, Reply)
    assert reply.kind is ReplyKind.REFUSED
    assert reply.error is not None
    return reply.run, reply.error.message


def changed(**fields: object) -> str:
    """Return the line of a submission with other fields."""
    return json.dumps({**json.loads(encode_submission(submission())), **fields})


def test_a_submission_arrives_as_it_was_sent():
    made = submission()
    assert decode_submission(encode_submission(made)) == made


@pytest.mark.parametrize("source", ["%%step make -o x\nx =", "%%step make -o x\nx = nothing"])
def test_cells_with_errors_arrive_with_them(source):
    back = decode_submission(encode_submission(submission(source)))
    assert isinstance(back, Submission)
    assert list(map(str, back.request.reading.errors)) == list(map(str, parse_cells(cells(source)).errors)) != []


def test_a_release_arrives_as_one():
    assert decode_message(encode_release()) == ReleaseRuns()


def test_names_that_are_no_text_and_numbers_that_are_no_json_arrive():
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    made = dataclasses.replace(submission(base=Path("/") / name, values={"rate": math.inf}), environ={name: name})
    assert decode_submission(encode_submission(made)) == made


def test_the_runner_does_not_parse_what_the_same_code_has_parsed(monkeypatch):
    monkeypatch.setattr(messages, "reading_digest", lambda cells, _settings: f"{len(cells)} cells")
    line = encode_submission(submission())
    told = json.loads(line)
    text = json.loads(told["parsed"]["text"])
    text["steps"] = []
    told["parsed"]["text"] = json.dumps(text)
    back = decode_submission(json.dumps(told))
    assert isinstance(back, Submission)
    assert back.request.reading.steps == ()


@pytest.mark.parametrize("parsed", [{"digest": "other", "text": "{}"}, {"digest": "same", "text": "{}"}, None])
def test_the_runner_parses_what_other_code_has_parsed(monkeypatch, parsed):
    monkeypatch.setattr(messages, "reading_digest", lambda _cells, _settings: "same")
    back = decode_submission(changed(parsed=parsed))
    assert isinstance(back, Submission)
    assert back.request.reading == parse_cells(cells(*SOURCES))


def test_code_that_may_have_changed_since_it_was_loaded_has_no_digest(monkeypatch):
    parse_cache._loaded_code.cache_clear()
    monkeypatch.setattr(parse_cache, "_LOADED", max(path.stat().st_ctime for path in parse_cache._sources()) + 1)
    assert parse_cache.reading_digest(cells(*SOURCES)) is None
    parse_cache._loaded_code.cache_clear()


@pytest.mark.parametrize(
    "line, run, said",
    [
        ("", "", "not JSON"),
        ("nonsense", "", "not JSON"),
        (changed()[:-20], "", "not JSON"),
        ("[" * 100_000, "", "not JSON"),
        ("[]", "", "cannot be understood"),
        ("{}", "", "`version`"),
        (changed(version="1"), "", "`$.version`"),
        (changed(version=VERSION + 1, lifetime="forever"), "r1", f"has version {VERSION + 1}, and only"),
        (changed(version=VERSION - 1), "r1", f"has version {VERSION - 1}, and only"),
        (changed(lifetime="forever"), "r1", "forever"),
        (changed(cells=[{"number": "one"}]), "r1", "`$.cells[0].number`"),
        (changed(environ=None), "r1", "`$.environ`"),
        (json.dumps({"version": VERSION, "run": "r2"}), "r2", "missing required field"),
    ],
)
def test_a_line_that_is_no_submission_is_answered(line, run, said):
    found, message = replied(line)
    assert (found, said in message) == (run, True)
    assert "\n" not in message


def test_a_reply_that_cannot_be_understood_is_a_refusal():
    for line in ("nonsense", '{"version": 2, "run": "r1"}', '{"version": 1, "run": "r1", "kind": "lost"}'):
        reply = decode_reply(line)
        assert reply.kind is ReplyKind.REFUSED
        assert isinstance(reply.error and reply.error.to_error(), OutOfReach)
    assert decode_reply('{"version": 2, "run": "r1"}').run == "r1"


MOVED = PipelineWarning("notebook", "b.ipynb is a.ipynb, moved or renamed", "")
UNUSED = PipelineWarning("unused-input", "the input `x` is not used", "Leave it out.", SourceLocation(3, step="make"))


def test_replies_arrive_as_they_were_sent():
    error = ErrorPayload.of(BadPipeline("a", "b", SourceLocation(1, 2, 3, "make")))
    for reply in (Reply(ReplyKind.BEGAN, "r1", warnings=(MOVED, UNUSED)), Reply(ReplyKind.BROKE_OFF, "r1", error)):
        assert decode_reply(encode_reply(reply)) == reply


@pytest.mark.parametrize(
    "error",
    [
        BadPipeline("a", "b", SourceLocation(1, 2, 3, "make")),
        Refusals((BadPipeline("a"), UndeclaredName("b", "c", SourceLocation(4)))),
        OutOfReach("a"),
    ],
)
def test_errors_keep_their_class_and_their_place(error):
    back = ErrorPayload.of(error).to_error()
    assert (type(back), str(back), back.place) == (type(error), str(error), error.place)
    assert list(map(str, getattr(back, "errors", ()))) == list(map(str, getattr(error, "errors", ())))


def test_an_error_of_another_class_keeps_its_words():
    back = ErrorPayload.of(StepFailed("a", "b")).to_error()
    assert (type(back), str(back)) == (NbpipeError, "a\n  b")


def test_a_run_outlives_its_client_as_its_lifetime_says(tmp_path):
    there, gone = tmp_path / "kernel.json", tmp_path / "gone.json"
    there.touch()
    expected = {
        (Lifetime.DETACHED, ""): True, (Lifetime.SUBMITTER, ""): False, (Lifetime.KERNEL, ""): False,
        (Lifetime.KERNEL, str(there)): True, (Lifetime.KERNEL, str(gone)): False,
    }  # fmt: skip
    for (lifetime, file), outlives in expected.items():
        made = dataclasses.replace(submission(), lifetime=lifetime, connection_file=file)
        assert made.outlives_client() is outlives
