"""The reports of attempts on their way to whoever waits for them: in order, nothing twice, only the newest told."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from nbpipe.model import AttemptEnded, AttemptReport, AttemptStarted, AttemptTold


@dataclass(slots=True)
class _AttemptProgress:
    """What was reported of an attempt that has not ended."""

    started: bool = False
    pieces: int = 0
    early: AttemptTold | None = None
    """What it told before its start was reported."""


class ReportQueue:
    """Reports in the order started, told, ended for each attempt; any thread may put, one waits.

    Only reports of expected attempts are taken. A report that came before, that is older than the newest, or that
    comes after the end is dropped, so that a sender in doubt may put it once more.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, _AttemptProgress] = {}
        self._reports: list[AttemptReport] = []
        self._told: dict[str, int] = {}
        self._arrived = threading.Condition()

    def expect(self, attempt: str) -> None:
        """Take the reports of this attempt from now on, until it has ended."""
        with self._arrived:
            self._attempts.setdefault(attempt, _AttemptProgress())

    def put(self, report: AttemptReport) -> None:
        """Add a report, unless it says nothing new."""
        with self._arrived:
            progress = self._attempts.get(report.attempt)
            if progress is None:
                return
            match report:
                case AttemptStarted():
                    self._start(progress, report)
                case AttemptTold():
                    self._tell(progress, report)
                case AttemptEnded():
                    del self._attempts[report.attempt]
                    self._reports.append(report)
            if self._reports:
                self._arrived.notify()

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Return all reports that are there, waiting up to ``timeout`` seconds for the first; empty when none comes."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._reports, timeout)
            reports, self._reports = self._reports, []
            self._told.clear()
            return reports

    def _start(self, progress: _AttemptProgress, report: AttemptStarted) -> None:
        if progress.started:
            return
        progress.started = True
        self._reports.append(report)
        if progress.early is not None:
            self._tell(progress, progress.early)

    def _tell(self, progress: _AttemptProgress, report: AttemptTold) -> None:
        if not progress.started:
            if progress.early is None or report.pieces > progress.early.pieces:
                progress.early = report
            return
        if report.pieces <= progress.pieces:
            return
        progress.pieces = report.pieces
        place = self._told.setdefault(report.attempt, len(self._reports))
        self._reports[place : place + 1] = [report]
