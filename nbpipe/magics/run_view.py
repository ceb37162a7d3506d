"""One run as this kernel watches it, with the cards that show it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nbpipe.errors import NbpipeError
from nbpipe.magics.step_log import StepLog
from nbpipe.model import ExecutionRecord, RunRecord, Status, StepCell, step_needs
from nbpipe.run.run_watcher import AttemptOutput, RunWatcher
from nbpipe.views.card_state import CardState, StepActivity


class CardHandle(Protocol):
    """A card under a cell."""

    def update(self, state: CardState) -> None:
        """Bring the card up to date."""

    def end(self, state: CardState) -> None:
        """Leave a picture that needs no kernel."""


@dataclass(frozen=True, slots=True)
class StepDescription:
    """What a step is: the cells of its code, and the definitions and the parameters' values that it reaches."""

    pieces: tuple[StepCell, ...]
    definitions: Mapping[str, str]
    values: Mapping[str, str]

    def __eq__(self, other: object) -> bool:
        """Say whether it is the same step; where its cells stand does not count."""
        return isinstance(other, StepDescription) and self._told() == other._told()

    __hash__ = None  # type: ignore[assignment]

    def _told(self) -> tuple[object, ...]:
        return tuple(piece.source for piece in self.pieces), self.definitions, self.values


Picture = Callable[["RunView", str | None], CardState]
"""Get what a card with this focus shows of a run."""


@dataclass(eq=False, slots=True)
class RunView:
    """Steps that were submitted here, or a whole run that was found; looked at by one thread, asked by any.

    ``request`` is the id under which the run's log tells which executions stand for the steps; empty where the whole
    run is watched. While ``is_unconfirmed``, it is not known whether the steps have joined that run. ``texts`` tells of
    each step that is to be carried out what it was at submit; ``alone`` says that it was given values of its own, so
    that it stands beside what the cells are; ``stumbles`` counts surprises in following it.
    """

    watcher: RunWatcher
    picture: Picture
    request: str = ""
    is_unconfirmed: bool = False
    texts: Mapping[str, StepDescription] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: NbpipeError | None = None
    over: bool = False
    alone: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    _heard: dict[str, tuple[str, StepLog]] = field(default_factory=dict)
    _cards: list[tuple[CardHandle, str | None]] = field(default_factory=list)
    _unwanted: set[str] = field(default_factory=set)
    stumbles: int = 0

    @property
    def id(self) -> str:
        """Get the run's id."""
        return self.watcher.id

    @property
    def run(self) -> RunRecord | None:
        """Get the run's record; None before it has begun."""
        return self.watcher.run

    def record(self, step: str) -> ExecutionRecord | None:
        """Return the execution that stands for a step; None while there is none."""
        if not self.request:
            return self.watcher.execution(step)
        stands = self.watcher.picture.requests.get(self.request)
        if stands is None:
            return None
        if step in stands:
            return self.watcher.execution_with(stands[step])
        return self.watcher.execution(step)

    def steps(self) -> tuple[ExecutionRecord, ...]:
        """Return the executions to show, in notebook order: those that stand for what was submitted, and the others."""
        own = {step: self.record(step) for step in self.texts}
        current = self.watcher.current()
        found = {record.step: own.get(record.step) or record for record in current}
        found |= {step: record for step, record in own.items() if record is not None and step not in found}
        return tuple(sorted(found.values(), key=lambda record: (record.position, record.step)))

    def confirm(self, watcher: RunWatcher | None = None) -> None:
        """Note that the steps have joined their run, or are carried out in another one that ``watcher`` watches."""
        with self.changed:
            if watcher is not None:
                self.watcher = watcher
            self.is_unconfirmed = False
            self.changed.notify_all()

    def is_done(self, step: str) -> bool:
        """Say whether nothing more comes of a step."""
        record = self.record(step)
        return self.over or self.error is not None or (record is not None and record.status.terminal)

    def goes_on_with(self, step: str) -> bool:
        """Say whether the run is to carry out this step, or does."""
        return step in self.texts and not self.is_done(step)

    def failing_line(self, step: str | None) -> str:
        """Get the text of the line at which a step failed; empty where it cannot be told."""
        record = self.record(step) if step else None
        failure = record.failure if record else None
        text = self.texts.get(step) if step else None
        if failure is None or text is None or failure.line is None:
            return ""
        sources = [piece.source for piece in text.pieces if piece.cell == failure.cell or len(text.pieces) == 1]
        lines = sources[0].splitlines() if sources else []
        return lines[failure.line - 1].strip() if 0 < failure.line <= len(lines) else ""

    def told(self) -> dict[str, StepActivity]:
        """Get what the steps have told."""
        return {step: heard.told() for step, (_, heard) in self._heard.items()}

    def add(self, card: CardHandle, focus: str | None) -> None:
        """Show the run on one more card."""
        with self.changed:
            self._cards.append((card, focus))
        self._show(card, focus, ended=self.over)

    def drop(self, card: CardHandle) -> None:
        """Show the run on this card no more."""
        with self.changed:
            self._cards = [kept for kept in self._cards if kept[0] is not card]

    def look(self) -> None:
        """Take what has changed, and bring the cards up to date."""
        update = self.watcher.look()
        if self._unwanted:
            self._ask()
        for output in update.told:
            self._hear(output)
        is_over = self.run is not None and self.run.status.terminal and not self.is_unconfirmed
        over = self.error is not None or is_over
        if update.executions:
            self.needs = {**self.needs, **step_needs(self.watcher.current())}
        if not update.is_empty or over:
            with self.changed:
                self.over = over
                self.changed.notify_all()
            self._show_all(ended=over)

    def _hear(self, output: AttemptOutput) -> None:
        """Take what an attempt has told; of a step that is tried again, or executed anew, only the newest tells."""
        own = self.record(output.step)
        if own is not None and own.id != output.attempt.execution:
            return
        known = self._heard.get(output.step)
        if known is None or known[0] != output.attempt.id:
            known = self._heard[output.step] = (output.attempt.id, StepLog())
        known[1].take(output.events)

    def fail(self, error: NbpipeError) -> None:
        """Note that the run was refused or lost; nothing more comes of it."""
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    def give_up(self, error: NbpipeError) -> None:
        """Note that the run cannot be followed any more, and leave what is known of it on the cards."""
        self.fail(error)
        with self.changed:
            self.over = True
            self.changed.notify_all()
        self._show_all(ended=True)

    def leave(self) -> None:
        """Leave pictures of the run as it is now: nobody follows it from here any more."""
        self._show_all(ended=True)

    def cancel(self, step: str) -> None:
        """Ask for one step to stop, or with no name for the whole run, as soon as it has begun."""
        with self.changed:
            self._unwanted.add(step)

    def _ask(self) -> None:
        """Ask whoever carries the run, which has to have begun for that, to stop what is not wanted."""
        with self.changed:
            unwanted = [step for step in self._unwanted if (self.record(step) if step else self.run)]
            self._unwanted.difference_update(unwanted)
        for step in unwanted:
            record = self.record(step) if step else None
            self.watcher.cancel(record.id if record else "")

    def succeeded(self, step: str) -> ExecutionRecord | None:
        """Get a step's record if it has its outputs."""
        record = self.record(step)
        return record if record and record.status in (Status.SUCCEEDED, Status.REUSED) else None

    def cards(self) -> Sequence[tuple[CardHandle, str | None]]:
        """Get the cards that show the run, and the step of each."""
        with self.changed:
            return tuple(self._cards)

    def _show_all(self, *, ended: bool) -> None:
        # One that cannot be drawn keeps none of the others from it.
        with contextlib.ExitStack() as every:
            for card, focus in self.cards():
                done = focus is not None and self.is_done(focus)
                every.callback(self._show, card, focus, ended=ended or done)

    def _show(self, card: CardHandle, focus: str | None, *, ended: bool) -> None:
        shown = False
        try:
            state = self.picture(self, focus)
            (card.end if ended else card.update)(state)
            shown = True
        finally:
            # One that cannot be drawn is not tried again: others may be.
            if ended or not shown:
                self.drop(card)
