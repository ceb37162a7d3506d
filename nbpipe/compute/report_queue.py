"""A queue of attempts' reports: in order, without duplicates, only the newest count of events."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from nbpipe.model import AttemptEnded, AttemptOutputWritten, AttemptReport, AttemptStarted, AttemptWaiting


@dataclass(slots=True)
class _AttemptProgress:
    """What was reported about an unfinished attempt."""

    started: bool = False
    reason: str = ""
    pieces: int = 0
    early: AttemptOutputWritten | None = None
    """A report that arrived before that of the start."""


class ReportQueue:
    """Reports of each attempt in the order of events: any thread may put, one waits.

    Only reports of expected attempts are accepted. A report that is a duplicate, older than the newest, or later than
    the end is dropped, so a sender may repeat reports.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, _AttemptProgress] = {}
        self._reports: list[AttemptReport] = []
        self._positions: dict[str, int] = {}
        self._arrived = threading.Condition()

    def expect(self, attempt: str) -> None:
        """Accept the reports of this attempt until it has ended."""
        with self._arrived:
            self._attempts.setdefault(attempt, _AttemptProgress())

    def put(self, report: AttemptReport) -> None:
        """Add a report, unless it contains nothing new."""
        with self._arrived:
            progress = self._attempts.get(report.attempt)
            if progress is None:
                return
            match report:
                case AttemptWaiting():
                    self._say_why(progress, report)
                case AttemptStarted():
                    self._start(progress, report)
                case AttemptOutputWritten():
                    self._add_pieces(progress, report)
                case AttemptEnded():
                    del self._attempts[report.attempt]
                    self._reports.append(report)
            if self._reports:
                self._arrived.notify()

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Wait up to ``timeout`` seconds for a report, and return all that have arrived, if any."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._reports, timeout)
            reports, self._reports = self._reports, []
            self._positions.clear()
            return reports

    def _say_why(self, progress: _AttemptProgress, report: AttemptWaiting) -> None:
        if not progress.started and report.reason != progress.reason:
            progress.reason = report.reason
            self._reports.append(report)

    def _start(self, progress: _AttemptProgress, report: AttemptStarted) -> None:
        if progress.started:
            return
        progress.started = True
        self._reports.append(report)
        if progress.early is not None:
            self._add_pieces(progress, progress.early)

    def _add_pieces(self, progress: _AttemptProgress, report: AttemptOutputWritten) -> None:
        if not progress.started:
            if progress.early is None or report.pieces > progress.early.pieces:
                progress.early = report
            return
        if report.pieces <= progress.pieces:
            return
        progress.pieces = report.pieces
        place = self._positions.setdefault(report.attempt, len(self._reports))
        self._reports[place : place + 1] = [report]
