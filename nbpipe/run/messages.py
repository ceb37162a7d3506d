"""Messages between the runner and its clients: each is a JSON object on a line of its own.

A client sends :class:`SubmitRun` and receives :class:`Reply`. Both contain the version of this schema, because a kernel
may be older than the runner that it starts if nbpipe was upgraded in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from nbpipe.codec import convert, encode_exact
from nbpipe.errors import NbpipeError, OutOfReach, Refusals, Refused
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.parsed_notebook_codec import decode_notebook, encode_notebook
from nbpipe.model import Cell, PipelineWarning
from nbpipe.resolve.parse_cache import reading_digest
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.submission import Lifetime, RunOptions, Submission

M = TypeVar("M")

VERSION = 1
# In a release message, which is short, its kind comes first.
_HEAD = 40


class ReplyKind(StrEnum):
    """What a reply says about a run."""

    BEGAN = "began"
    JOINED = "joined"
    REFUSED = "refused"
    BROKE_OFF = "broke-off"


@dataclass(frozen=True, slots=True)
class ErrorPayload:
    """An error as a value; ``errors`` are the individual errors if several were raised together."""

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
    """The reply to the submission of ``run``, which is empty if the submission is unknown.

    ``joined`` is the run that its steps were added to; empty if they are a run of their own. ``warnings`` are those
    about the notebook.
    """

    kind: ReplyKind
    run: str
    error: ErrorPayload | None = None
    joined: str = ""
    warnings: tuple[PipelineWarning, ...] = ()
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RequestPayload:
    """A request without the parsed cells, which are sent separately."""

    notebook: str
    base: Path
    kernel: str | None
    texts: Mapping[str, str]
    values: Mapping[str, Any]
    steps: tuple[str, ...]
    start: str | None
    force: tuple[str, ...] | None
    cells: frozenset[str]
    more_settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParsedCells:
    """The cells as parsed by the client, and a digest of the cells and of the parser's code."""

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
    """A message that the client will not add more steps to its held runs for now."""

    releases: Literal[True] = True
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class _Header:
    """The fields that every version of a message has."""

    version: int
    run: str = ""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """The reason why a line is not a valid message, and the run that it names, if any."""

    run: str
    error: OutOfReach


def encode_submission(submission: Submission) -> str:
    """Return the line that submits a run."""
    request = submission.request
    payload = {each.name: getattr(request, each.name) for each in fields(RequestPayload)}
    message = SubmitRun(
        run=submission.run_options.run,
        cells=submission.cells,
        request=RequestPayload(**payload),
        options=submission.run_options,
        root=submission.root,
        environ=submission.environ,
        lifetime=submission.lifetime,
        connection_file=submission.connection_file,
        joins=submission.joins,
        gesture=submission.gesture,
        holds=submission.holds,
        parsed=_parsed(submission.cells, request),
    )
    return _encode(message)


def encode_release() -> str:
    """Return the line for :class:`ReleaseRuns`."""
    return _encode(ReleaseRuns())


def decode_message(line: str) -> Submission | ReleaseRuns | Reply:
    """Return a client's message, or the reply to an invalid line."""
    released = _decode(line, ReleaseRuns, "the message") if '"releases"' in line[:_HEAD] else None
    return released if isinstance(released, ReleaseRuns) else decode_submission(line)


def decode_submission(line: str) -> Submission | Reply:
    """Return the submission, or the reply to an invalid line."""
    sent = _decode(line, SubmitRun, "the submission")
    if isinstance(sent, _Unreadable):
        return Reply(ReplyKind.REFUSED, sent.run, ErrorPayload.of(sent.error))
    values = {each.name: getattr(sent.request, each.name) for each in fields(sent.request)}
    request = PipelineRequest(reading=_reading(sent.cells, sent.parsed, sent.request.more_settings), **values)
    return Submission(
        sent.cells,
        request,
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
    """Return the reply; for an invalid line, a reply that refuses with its error."""
    sent = _decode(line, Reply, "the runner's reply")
    return Reply(ReplyKind.REFUSED, sent.run, ErrorPayload.of(sent.error)) if isinstance(sent, _Unreadable) else sent


def _parsed(cells: tuple[Cell, ...], request: PipelineRequest) -> ParsedCells | None:
    digest = reading_digest(cells, request.more_settings)
    text = encode_notebook(request.reading) if digest is not None else None
    return ParsedCells(digest, text) if digest is not None and text is not None else None


def _reading(
    cells: tuple[Cell, ...], parsed: ParsedCells | None, more_settings: Mapping[str, tuple[str, ...]]
) -> ParsedNotebook:
    """Return the cells as parsed by the client, or parse them here if the client's parser differs."""
    if parsed is not None and parsed.digest == reading_digest(cells, more_settings):
        try:
            return decode_notebook(parsed.text)
        except (ValueError, RecursionError):
            pass
    return parse_cells(cells, more_settings)


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
        message = f"{called} has version {header.version}, and only version {VERSION} is understood"
        return _Unreadable(
            header.run, OutOfReach(message, "nbpipe was replaced while it was in use: restart the kernel.")
        )
    try:
        return convert(content, kind)
    except ValueError as error:
        return _Unreadable(header.run, OutOfReach(f"{called} cannot be understood: {error}"))
