"""The reports of attempts on their way to whoever waits for them: in order, nothing twice, only the newest told."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from nbpipe.model import AttemptEnded, AttemptReport, AttemptStarted, AttemptTold


@dataclass(slots=True)
class _Heard:
    """What has been heard of an attempt that has not ended."""

    started: bool = False
    pieces: int = 0
    early: AttemptTold | None = None
    """What it told when its start had not been heard of yet."""


class ReportQueue:
    """Reports in the order started, told, ended for each attempt; any thread may put, one waits.

    Only reports of expected attempts are taken. A report that was heard before, that is older than the newest, or that
    comes after the end is dropped, so that whoever is in doubt may put it once more.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, _Heard] = {}
        self._reports: list[AttemptReport] = []
        self._told: dict[str, int] = {}
        self._arrived = threading.Condition()

    def expect(self, attempt: str) -> None:
        """Take the reports of this attempt from now on, until it has ended."""
        with self._arrived:
            self._attempts.setdefault(attempt, _Heard())

    def put(self, report: AttemptReport) -> None:
        """Add a report, unless it says nothing new."""
        with self._arrived:
            heard = self._attempts.get(report.attempt)
            if heard is None:
                return
            match report:
                case AttemptStarted():
                    self._start(heard, report)
                case AttemptTold():
                    self._tell(heard, report)
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

    def _start(self, heard: _Heard, report: AttemptStarted) -> None:
        if heard.started:
            return
        heard.started = True
        self._reports.append(report)
        if heard.early is not None:
            self._tell(heard, heard.early)

    def _tell(self, heard: _Heard, report: AttemptTold) -> None:
        if not heard.started:
            heard.early = report if heard.early is None or report.pieces > heard.early.pieces else heard.early
            return
        if report.pieces <= heard.pieces:
            return
        heard.pieces = report.pieces
        place = self._told.setdefault(report.attempt, len(self._reports))
        self._reports[place : place + 1] = [report]
