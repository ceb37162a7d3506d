"""A kernel's view of a run, or of the part that was submitted at once, with the cards that show it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nbpipe.errors import NbpipeError
from nbpipe.magics.watched_run import WatchedRun
from nbpipe.model import ExecutionRecord, PipelineWarning, RunRecord, Status, StepCell
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.views.card_state import CardState, StepActivity


class CardHandle(Protocol):
    """A card under a cell."""

    def update(self, state: CardState) -> None:
        """Show a new state."""

    def end(self, state: CardState) -> None:
        """Replace the card with a static version that needs no kernel."""

    def complete(self, state: CardState) -> None:
        """Show a state of which more is known since the end."""


# What is made of a result after its run is looked for at this interval, and no longer than this.
_COMPLETION_INTERVAL = 0.5
_COMPLETION_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StepDescription:
    """A step's identity: the cells of its code, and the definitions and parameter values that it uses.

    ``definition_cells`` are the numbers of the cells that these definitions are in.
    """

    pieces: tuple[StepCell, ...]
    definitions: Mapping[str, str]
    values: Mapping[str, str]
    definition_cells: frozenset[int] = frozenset()

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same step, regardless of the position of its cells."""
        return isinstance(other, StepDescription) and self._compared() == other._compared()

    __hash__ = None  # type: ignore[assignment]

    def _compared(self) -> tuple[object, ...]:
        return tuple(piece.source for piece in self.pieces), self.definitions, self.values


Picture = Callable[["RunView", str | None], CardState]
"""Returns the state of a card with this focus."""


@dataclass(eq=False, slots=True)
class RunView:
    """The part of a run that was submitted at once, or a whole run; changed by one thread, read by any.

    ``request`` is the id of the request in the run's log; empty for a whole run. ``watched`` is None until it is known
    which run carries out the request. ``texts`` describes the submitted steps; ``alone`` says that the run has
    parameter values of its own, so that it does not correspond to the cells; ``stumbles`` counts failed attempts to
    follow it; ``warnings`` are shown on the first card.
    """

    picture: Picture
    watched: WatchedRun | None = None
    request: str = ""
    texts: Mapping[str, StepDescription] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: NbpipeError | None = None
    over: bool = False
    alone: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    stumbles: int = 0
    warnings: tuple[PipelineWarning, ...] = ()
    _first_card: CardHandle | None = None
    _cards: list[tuple[CardHandle, str | None]] = field(default_factory=list)
    _incomplete: list[tuple[CardHandle, str | None]] = field(default_factory=list)
    _completed_until: float = 0.0
    _next_completion: float = 0.0
    _unwanted: set[str] = field(default_factory=set)
    _is_undrawn: bool = True

    @property
    def run(self) -> RunRecord | None:
        """Return the run's record; None before it has begun."""
        return self.watched.run if self.watched else None

    def record(self, step: str) -> ExecutionRecord | None:
        """Return the execution of a step for this request; None if there is none yet."""
        if self.watched is None:
            return None
        if self.request:
            stands = self.watched.stands_for(self.request)
            if stands is None:
                return None
            if step in stands:
                return self.watched.execution_with(stands[step])
        return self.watched.execution(step)

    def steps(self) -> tuple[ExecutionRecord, ...]:
        """Return the executions to show, in notebook order: those of the request's steps, and the others.

        For a step of the request whose execution is still to come, no older execution is shown.
        """
        shown = {record.step: record for record in self.watched.current()} if self.watched else {}
        for step in self.texts:
            own = self.record(step)
            if own is None:
                shown.pop(step, None)
            else:
                shown[step] = own
        return tuple(sorted(shown.values(), key=lambda record: (record.position, record.step)))

    @property
    def is_finished(self) -> bool:
        """Return whether the run is over, and nothing is made of it that a card still has to show."""
        return self.over and not (self._incomplete and time.monotonic() < self._completed_until)

    def attach(self, watched: WatchedRun) -> None:
        """Set the run that carries out the request."""
        with self.changed:
            self.watched = watched
            self._is_undrawn = True
            self.changed.notify_all()

    def is_done(self, step: str) -> bool:
        """Return whether a step has ended, or its run can no longer be followed."""
        record = self.record(step)
        return self.over or self.error is not None or (record is not None and record.status.terminal)

    def goes_on_with(self, step: str) -> bool:
        """Return whether the step is pending or active in this run."""
        return step in self.texts and not self.is_done(step)

    def failing_line(self, step: str | None) -> str:
        """Return the text of the line at which a step failed; empty if it is unknown."""
        record = self.record(step) if step else None
        failure = record.failure if record else None
        text = self.texts.get(step) if step else None
        if failure is None or text is None or failure.line is None:
            return ""
        # A cell that was run again since then has another number.
        is_only = len(text.pieces) == 1 and failure.cell not in text.definition_cells
        sources = [piece.source for piece in text.pieces if piece.cell == failure.cell or is_only]
        lines = sources[0].splitlines() if sources else []
        return lines[failure.line - 1].strip() if 0 < failure.line <= len(lines) else ""

    def activity(self) -> dict[str, StepActivity]:
        """Return the activities of the steps by name."""
        return self.watched.activity(self.steps()) if self.watched else {}

    def add(self, card: CardHandle, focus: str | None) -> None:
        """Show the run on another card."""
        with self.changed:
            self._first_card = self._first_card or card
            self._cards.append((card, focus))
        self._show(card, focus, ended=self.over)

    def drop(self, card: CardHandle) -> None:
        """Stop showing the run on a card."""
        with self.changed:
            self._cards = [shown for shown in self._cards if shown[0] is not card]

    def take(self, update: RunUpdate) -> None:
        """Process the changes in the run, and update the cards."""
        if self._unwanted:
            self._ask()
        over = self.error is not None or (self.run is not None and self.run.status.terminal)
        if update.is_empty and not over and not self._is_undrawn:
            return
        self._is_undrawn = False
        with self.changed:
            self.over = over
            self._completed_until = time.monotonic() + _COMPLETION_SECONDS
            self.changed.notify_all()
        self._show_all(ended=over)

    def fail(self, error: NbpipeError) -> None:
        """Note that the run was refused or lost."""
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    def give_up(self, error: NbpipeError) -> None:
        """Note that the run can no longer be followed, and leave its last known state on the cards."""
        self.fail(error)
        with self.changed:
            self.over = True
            self.changed.notify_all()
        self._show_all(ended=True)

    def leave(self) -> None:
        """Make the cards static: the run is no longer followed from here."""
        self._show_all(ended=True)

    def cancel(self, step: str) -> None:
        """Request the cancellation of a step, or with an empty name of the run, as soon as it has begun."""
        with self.changed:
            self._unwanted.add(step)

    def _ask(self) -> None:
        """Send the requested cancellations to the run, once it has begun."""
        watched = self.watched
        if watched is None or watched.run is None:
            return
        with self.changed:
            records = {step: self.record(step) if step else None for step in self._unwanted}
            ready = {step: record for step, record in records.items() if record or not step}
            self._unwanted.difference_update(ready)
        for record in ready.values():
            watched.cancel(record.id if record else "")

    def succeeded(self, step: str) -> ExecutionRecord | None:
        """Return a step's record if it succeeded or was reused."""
        record = self.record(step)
        return record if record and record.status in (Status.SUCCEEDED, Status.REUSED) else None

    def complete(self) -> None:
        """Show what was made after the run on the cards that lack it; it is looked for at intervals."""
        if not self.over or time.monotonic() < self._next_completion:
            return
        self._next_completion = time.monotonic() + _COMPLETION_INTERVAL
        cards, self._incomplete = self._incomplete, []
        for card, focus in cards:
            state = self.picture(self, focus)
            if state.is_awaited:
                self._incomplete.append((card, focus))
            else:
                card.complete(state)

    def cards(self) -> Sequence[tuple[CardHandle, str | None]]:
        """Return the cards that show the run, and the step of each."""
        with self.changed:
            return tuple(self._cards)

    def _show_all(self, *, ended: bool) -> None:
        # A card that cannot be drawn does not prevent others from being drawn.
        with contextlib.ExitStack() as every:
            for card, focus in self.cards():
                done = focus is not None and self.is_done(focus)
                every.callback(self._show, card, focus, ended=ended or done)

    def _show(self, card: CardHandle, focus: str | None, *, ended: bool) -> None:
        is_drawn = False
        try:
            state = self.picture(self, focus)
            if self.warnings and card is self._first_card:
                state = dataclasses.replace(state, warnings=self.warnings)
            (card.end if ended else card.update)(state)
            if ended and state.is_awaited:
                self._incomplete.append((card, focus))
            is_drawn = True
        finally:
            # A card that cannot be drawn is not tried again.
            if ended or not is_drawn:
                self.drop(card)
