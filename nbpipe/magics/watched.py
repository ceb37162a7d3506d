"""One run as this kernel watches it, with the cards that show it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nbpipe.errors import NbpipeError
from nbpipe.magics.heard import Heard
from nbpipe.model import ExecutionRecord, Piece, RunRecord, Status
from nbpipe.run.following import Following
from nbpipe.views.card import CardState, Told


class Shown(Protocol):
    """A card under a cell."""

    def update(self, state: CardState) -> None:
        """Bring the card up to date."""

    def end(self, state: CardState) -> None:
        """Leave a picture that needs no kernel."""


@dataclass(frozen=True, slots=True)
class Text:
    """What a step is: the cells of its code, and the definitions and the parameters' values that it reaches."""

    pieces: tuple[Piece, ...]
    definitions: Mapping[str, str]
    values: Mapping[str, str]

    def __eq__(self, other: object) -> bool:
        """Say whether it is the same step; where its cells stand does not count."""
        return isinstance(other, Text) and self._told() == other._told()

    __hash__ = None  # type: ignore[assignment]

    def _told(self) -> tuple[object, ...]:
        return tuple(piece.source for piece in self.pieces), self.definitions, self.values


Picture = Callable[["Watched", str | None], CardState]
"""Get what a card with this focus shows of a run."""


@dataclass(eq=False, slots=True)
class Watched:
    """A run that was submitted here, or found in the history; looked at by one thread, asked by any.

    ``texts`` tells of each step that is to be carried out what it was at submit; ``alone`` says that it was given
    values of its own, so that it stands beside what the cells are; ``stumbles`` counts surprises in following it.
    """

    following: Following
    picture: Picture
    texts: Mapping[str, Text] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: NbpipeError | None = None
    over: bool = False
    alone: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    _heard: dict[str, Heard] = field(default_factory=dict)
    _cards: list[tuple[Shown, str | None]] = field(default_factory=list)
    _unwanted: set[str] = field(default_factory=set)
    stumbles: int = 0

    @property
    def id(self) -> str:
        """Get the run's id."""
        return self.following.id

    @property
    def run(self) -> RunRecord | None:
        """Get the run's record; None before it has begun."""
        return self.following.run

    def record(self, step: str) -> ExecutionRecord | None:
        """Get what is known of a step."""
        return self.following.steps.get(step)

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

    def told(self) -> dict[str, Told]:
        """Get what the steps have told."""
        return {step: heard.told() for step, heard in self._heard.items()}

    def add(self, card: Shown, focus: str | None) -> None:
        """Show the run on one more card."""
        with self.changed:
            self._cards.append((card, focus))
        self._show(card, focus, ended=self.over)

    def drop(self, card: Shown) -> None:
        """Show the run on this card no more."""
        with self.changed:
            self._cards = [kept for kept in self._cards if kept[0] is not card]

    def look(self) -> None:
        """Take what has changed, and bring the cards up to date."""
        news = self.following.look()
        if self._unwanted:
            self._ask()
        for step, events in news.told.items():
            self._heard.setdefault(step, Heard()).take(events)
        over = self.error is not None or (self.run is not None and self.run.status.terminal)
        if news.run is not None and news.run.needs:
            self.needs = news.run.needs
        if news.anything or over:
            with self.changed:
                self.over = over
                self.changed.notify_all()
            self._show_all(ended=over)

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
            unwanted = [step for step in self._unwanted if (step in self.following.steps) or (not step and self.run)]
            self._unwanted.difference_update(unwanted)
        for step in unwanted:
            self.following.cancel(step)

    def succeeded(self, step: str) -> ExecutionRecord | None:
        """Get a step's record if it has its outputs."""
        record = self.record(step)
        return record if record and record.status in (Status.SUCCEEDED, Status.REUSED) else None

    def cards(self) -> Sequence[tuple[Shown, str | None]]:
        """Get the cards that show the run, and the step of each."""
        with self.changed:
            return tuple(self._cards)

    def _show_all(self, *, ended: bool) -> None:
        # One that cannot be drawn keeps none of the others from it.
        with contextlib.ExitStack() as every:
            for card, focus in self.cards():
                done = focus is not None and self.is_done(focus)
                every.callback(self._show, card, focus, ended=ended or done)

    def _show(self, card: Shown, focus: str | None, *, ended: bool) -> None:
        shown = False
        try:
            state = self.picture(self, focus)
            (card.end if ended else card.update)(state)
            shown = True
        finally:
            # One that cannot be drawn is not tried again: others may be.
            if ended or not shown:
                self.drop(card)
