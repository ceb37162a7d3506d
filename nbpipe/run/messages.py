"""Messages between the runner and its clients: each is a JSON object on a line of its own.

A client sends :class:`SubmitRun` and receives :class:`Reply`. Both carry the version of this schema: a kernel may be
older than the runner that it starts, when nbpipe was upgraded in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from nbpipe.codec import convert, encode_exact
from nbpipe.errors import NbpipeError, OutOfReach, Refusals, Refused
from nbpipe.language.notebook_parser import ParsedNotebook, parse_cells
from nbpipe.language.parsed_notebook_codec import decode_notebook, encode_notebook
from nbpipe.model import Cell
from nbpipe.resolve.parse_cache import reading_digest
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.submission import Lifetime, RunOptions, Submission

M = TypeVar("M")

VERSION = 1
# A release is a short message, in which its kind comes first.
_HEAD = 40


class ReplyKind(StrEnum):
    """What a reply says about a run."""

    BEGAN = "began"
    JOINED = "joined"
    REFUSED = "refused"
    BROKE_OFF = "broke-off"


@dataclass(frozen=True, slots=True)
class ErrorPayload:
    """An error as a value; ``errors`` are the single ones where several were raised together."""

    code: str
    message: str
    hint: str = ""
    cell: int | None = None
    line: int | None = None
    column: int | None = None
    step: str | None = None
    errors: tuple[ErrorPayload, ...] = ()

    @classmethod
    def of(cls, error: NbpipeError) -> ErrorPayload:
        """Return the payload for an error."""
        errors = tuple(map(cls.of, error.errors)) if isinstance(error, Refusals) else ()
        return cls(**error.to_json(), step=error.place.step, errors=errors)

    def to_error(self) -> NbpipeError:
        """Return the error, of the same class as in the process that raised it."""
        several = tuple(error for each in self.errors if isinstance(error := each.to_error(), Refused))
        if several:
            return Refusals(several)
        return NbpipeError.from_json({each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of the submission of ``run``, which is empty where the submission is not known.

    ``joined`` is the run that its steps were added to, empty where they are a run of their own.
    """

    kind: ReplyKind
    run: str
    error: ErrorPayload | None = None
    joined: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RequestPayload:
    """A request without the parsed cells, which are sent beside it."""

    notebook: str
    base: Path
    kernel: str | None
    texts: Mapping[str, str]
    values: Mapping[str, Any]
    steps: tuple[str, ...]
    start: str | None
    force: tuple[str, ...] | None
    whole: bool
    cells: frozenset[str]


@dataclass(frozen=True, slots=True)
class ParsedCells:
    """The cells as the client has parsed them, and a digest of the cells and of the code that parsed them."""

    digest: str
    text: str


@dataclass(frozen=True, slots=True)
class SubmitRun:
    """A request to carry out the run with this id."""

    run: str
    cells: tuple[Cell, ...]
    request: RequestPayload
    options: RunOptions
    root: Path
    environ: Mapping[str, str]
    lifetime: Lifetime
    connection_file: str
    joins: str = ""
    gesture: int = 0
    holds: bool = False
    parsed: ParsedCells | None = None
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class ReleaseRuns:
    """Nothing more will be added for now to the runs that the client holds."""

    releases: Literal[True] = True
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class _Header:
    """What any version of a message has."""

    version: int
    run: str = ""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Why a line is no message, and the run that it names, if any."""

    run: str
    error: OutOfReach


def encode_submission(submission: Submission) -> str:
    """Return the line that submits a run."""
    asked = submission.asked
    request = {each.name: getattr(asked, each.name) for each in fields(RequestPayload)}
    message = SubmitRun(
        run=submission.run_options.run,
        cells=submission.cells,
        request=RequestPayload(**request),
        options=submission.run_options,
        root=submission.root,
        environ=submission.environ,
        lifetime=submission.lifetime,
        connection_file=submission.connection_file,
        joins=submission.joins,
        gesture=submission.gesture,
        holds=submission.holds,
        parsed=_parsed(submission.cells, asked.reading),
    )
    return _encode(message)


def encode_release() -> str:
    """Return the line that tells that nothing more will be added for now."""
    return _encode(ReleaseRuns())


def decode_message(line: str) -> Submission | ReleaseRuns | Reply:
    """Return a client's message, or the reply to a line that is none."""
    released = _decode(line, ReleaseRuns, "the message") if '"releases"' in line[:_HEAD] else None
    return released if isinstance(released, ReleaseRuns) else decode_submission(line)


def decode_submission(line: str) -> Submission | Reply:
    """Return the submission, or the reply to a line that is none."""
    sent = _decode(line, SubmitRun, "the submission")
    if isinstance(sent, _Unreadable):
        return Reply(ReplyKind.REFUSED, sent.run, ErrorPayload.of(sent.error))
    request = {each.name: getattr(sent.request, each.name) for each in fields(sent.request)}
    asked = PipelineRequest(reading=_reading(sent.cells, sent.parsed), **request)
    return Submission(
        sent.cells,
        asked,
        sent.options,
        sent.root,
        sent.environ,
        sent.joins,
        sent.gesture,
        sent.lifetime,
        sent.connection_file,
        holds=sent.holds,
    )


def encode_reply(reply: Reply) -> str:
    """Return the line that answers a client."""
    return _encode(reply)


def decode_reply(line: str) -> Reply:
    """Return the reply; for a line that is none, a refusal that says so."""
    sent = _decode(line, Reply, "the runner's reply")
    return Reply(ReplyKind.REFUSED, sent.run, ErrorPayload.of(sent.error)) if isinstance(sent, _Unreadable) else sent


def _parsed(cells: tuple[Cell, ...], reading: ParsedNotebook) -> ParsedCells | None:
    digest = reading_digest(cells)
    text = encode_notebook(reading) if digest is not None else None
    return ParsedCells(digest, text) if digest is not None and text is not None else None


def _reading(cells: tuple[Cell, ...], parsed: ParsedCells | None) -> ParsedNotebook:
    """Return the cells as the client has parsed them, or parse them here if other code has."""
    if parsed is not None and parsed.digest == reading_digest(cells):
        try:
            return decode_notebook(parsed.text)
        except (ValueError, RecursionError):
            pass
    return parse_cells(cells)


def _encode(message: SubmitRun | ReleaseRuns | Reply) -> str:
    return encode_exact(message)


def _decode(line: str, kind: type[M], called: str) -> M | _Unreadable:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _Unreadable("", OutOfReach(f"{called} is not JSON: {error}"))
    try:
        header = convert(content, _Header)
    except ValueError as error:
        return _Unreadable("", OutOfReach(f"{called} cannot be understood: {error}"))
    if header.version != VERSION:
        said = f"{called} has version {header.version}, and only version {VERSION} is understood"
        return _Unreadable(header.run, OutOfReach(said, "nbpipe was replaced while it was in use: restart the kernel."))
    try:
        return convert(content, kind)
    except ValueError as error:
        return _Unreadable(header.run, OutOfReach(f"{called} cannot be understood: {error}"))
