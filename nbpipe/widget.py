"""The card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.display import display

from nbpipe.views import static_html, table
from nbpipe.views.card import CardState
from nbpipe.views.words import status_words


class Card:
    """One card under a cell."""

    def __init__(self, act: Callable[[str, str], None]) -> None:
        self.act = act
        self._handle: Any = None

    def show(self) -> None:
        """Display it."""
        self._handle = display({"text/plain": "submitted", "application/x-live": ""}, raw=True, display_id=True)

    def update(self, state: CardState) -> None:
        """Bring it up to date."""
        self._put(state, {"application/x-live": ""})

    def end(self, state: CardState) -> None:
        """Leave the static twin."""
        self._put(state, {})

    def tell(self, html: str) -> None:
        """Show an answer."""

    def _put(self, state: CardState, more: dict[str, str]) -> None:
        lines = table.step_lines(state.steps, 120, state.numbers)
        html = ""
        if state.run is not None:
            lines.append(f"run {state.run.number} {status_words(state.run.status)}")
            html = static_html.run_html(state.run, state.steps, dict(state.numbers))
        lines += [state.note] if state.note else []
        lines += [line for told in state.told.values() for line in told.tail]
        self._handle.update({"text/plain": "\n".join(lines), "text/html": html, **more}, raw=True)
