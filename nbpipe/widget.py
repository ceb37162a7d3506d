"""The card under a running cell: Python renders its regions, ``static/card.js`` places them and handles clicks.

A model's traits are sent to the front end, also to one that connects later. The log and the details of the steps are
sent as differences, or in full when a front end requests everything.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets
from IPython.display import display

from nbpipe.model import ExecutionRecord, Status
from nbpipe.views.card_html import CardHtml, card_html
from nbpipe.views.card_state import GRAPH_STEPS, CardState, Detail, StepActivity, counter, detail, letters, log_lines
from nbpipe.views.dag_layout import layout
from nbpipe.views.graph_svg import live_svg
from nbpipe.views.html import Html
from nbpipe.views.static_card import static_card
from nbpipe.views.status_icons import MARKS

_STATIC = Path(__file__).parent / "static"
# Failed and running steps are listed first.
_ORDER = sorted(MARKS, key=lambda status: (status is not Status.FAILED, status is not Status.RUNNING, status.terminal))
_MARKS = {MARKS[status].letter: [status.value, MARKS[status].path] for status in _ORDER}
_REGIONS = tuple(field.name for field in fields(CardHtml))
# A front end counts seconds by its own clock; this is how often it gets the kernel's time.
_CLOCK_SECONDS = 10.0
_OPEN_MODELS = 30
LINGER_SECONDS = 60.0
ACTIONS = frozenset({"cancel", "rerun", "force", "why", "open", "debug"})


class _Model(anywidget.AnyWidget):  # type: ignore[misc]  # it comes without types
    """The state of a card in the front end."""

    _esm = _STATIC / "card.js"
    _css = _STATIC / "card.css"
    marks = traitlets.Dict(_MARKS).tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    statuses = traitlets.Unicode().tag(sync=True)
    details = traitlets.Dict().tag(sync=True)
    log = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    clock = traitlets.Float().tag(sync=True)
    count = traitlets.Unicode().tag(sync=True)
    answer = traitlets.Unicode().tag(sync=True)
    head = traitlets.Unicode().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    facts = traitlets.Unicode().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)
    progress = traitlets.Unicode().tag(sync=True)
    metrics = traitlets.Unicode().tag(sync=True)
    outputs = traitlets.Unicode().tag(sync=True)
    actions = traitlets.Unicode().tag(sync=True)


class CardWidget:
    """A live card. ``act`` is called with the action of a pressed button and its step.

    Call :meth:`update` whenever the state changes, up to about eight times a second, from any thread.
    """

    _open_models: ClassVar[deque[_Model]] = deque()
    _lingering: ClassVar[set[CardWidget]] = set()

    def __init__(self, act: Callable[[str, str], None]) -> None:
        self._act = act
        self._lock = threading.RLock()
        self._model = _Model()
        self._model.on_msg(self._on_message)
        self._handle: Any = None
        self._over = False
        self._state: CardState | None = None
        self._chosen: str | None = None
        self._details = _Details()
        self._log = _Log()
        self._drawn = False

    def show(self) -> None:
        """Display the card under the running cell."""
        bundle = _view("nbpipe: shown while the kernel is alive", self._model)
        self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def update(self, state: CardState) -> None:
        """Show a new state; only the differences from the last one are sent."""
        with self._lock:
            if not self._over:
                self._lingering.discard(self)
                self._state = state
                self._send(whole=False)

    def tell(self, html: Html) -> None:
        """Show the response to an action."""
        with self._lock:
            if not self._over:
                self._model.answer = html.text

    def end(self, state: CardState) -> None:
        """Replace the card with its static version, which stays in the saved notebook.

        The card of a failed step keeps its buttons for a while, with the static version as its fallback.
        """
        with self._lock:
            if self._over:
                return
            self._state = state
            self._send(whole=False)
            if state.status is not Status.FAILED or self._handle is None:
                self.finish()
                return
            self._handle.update({**_view("", self._model), **static_card(state)}, raw=True)
            timer = threading.Timer(LINGER_SECONDS, self.finish, (state,))
            timer.daemon = True
            timer.start()
            self._lingering.add(self)

    @classmethod
    def finish_all(cls, _info: object = None) -> None:
        """Replace the cards that have kept their buttons with their static versions."""
        for card in list(cls._lingering):
            card.finish()

    def finish(self, expected: CardState | None = None) -> None:
        """Replace the card with its static version, unless it no longer shows the expected state."""
        with self._lock:
            state = self._state
            self._lingering.discard(self)
            if self._over or state is None or expected not in (None, state):
                return
            self._over = True
            self._send(whole=False)
            bundle = static_card(state)
            if self._handle is None:
                display(bundle, raw=True)  # type: ignore[no-untyped-call]
            else:
                self._handle.update(bundle, raw=True)
            self._keep()

    def complete(self, state: CardState) -> None:
        """Show a state of which more is known since the card was replaced with its static version."""
        with self._lock:
            if self._over and self._handle is not None:
                self._state = state
                self._send(whole=False)
                self._handle.update(static_card(state), raw=True)

    def _keep(self) -> None:
        """Keep the model open for a while: a page that is reloaded knows the card, but not its display's id."""
        self._open_models.append(self._model)
        while len(self._open_models) > _OPEN_MODELS:
            self._open_models.popleft().close()

    def _send(self, *, whole: bool) -> None:
        """Set the traits that have changed, in one message."""
        state = self._state
        if state is None:
            return
        chosen = self._chosen or state.focus
        shown = card_html(state, chosen)
        steps = [record.step for record in state.steps]
        activity = state.activities.get(chosen or "", StepActivity())
        model = self._model
        with model.hold_sync():
            self._draw(state, steps)
            model.statuses = letters(state.steps)
            model.chosen = steps.index(chosen) if chosen in steps else -1
            model.count = counter(state.steps)
            for name in _REGIONS:
                setattr(model, name, "" if self._over and name == "actions" else getattr(shown, name).text)
            changed = self._details.changes(state.steps, state.numbers, whole=whole)
            if changed:
                model.details = changed
            added = self._log.changes(chosen, activity.tail, whole=whole)
            if added:
                model.log = added
            if whole or not 0 <= state.now - model.clock < _CLOCK_SECONDS:
                model.clock = state.now

    def _draw(self, state: CardState, steps: list[str]) -> None:
        """Send the graph if it has changed; a graph of very many steps is sent on request."""
        graph = self._model.graph
        drawn = len(steps) <= GRAPH_STEPS or self._drawn
        if graph.get("names") == steps and bool(graph.get("svg")) == (drawn and len(steps) > 1):
            return
        number = {name: place for place, name in enumerate(steps)}
        needs = [[number[need] for need in state.needs.get(name, ()) if need in number] for name in steps]
        svg = live_svg(layout(steps, state.needs)).text if drawn and len(steps) > 1 else ""
        self._model.graph = {"names": steps, "needs": needs, "svg": svg, "list": len(steps) > GRAPH_STEPS}

    def _on_message(self, _model: Any, content: Any, _buffers: Any) -> None:
        """Handle a message of the front end, which may have any content."""
        if not isinstance(content, Mapping):
            return
        ask, step = content.get("ask"), content.get("step")
        if ask in ACTIONS:
            if isinstance(step, str) and not self._over:
                self._act(ask, step)
            return
        with self._lock:
            if ask == "graph":
                self._drawn = True
            if ask == "choose" and isinstance(step, str):
                self._chosen = step
                self._model.answer = ""
            if ask in ("all", "graph", "choose"):
                self._send(whole=ask == "all")


class _MendModel(anywidget.AnyWidget):  # type: ignore[misc]  # it comes without types
    """The state of a quick fix in the front end."""

    _esm = _STATIC / "quick_fix.js"
    _css = _STATIC / "card.css"
    label = traitlets.Unicode().tag(sync=True)
    source = traitlets.Unicode().tag(sync=True)
    others: Any = traitlets.List().tag(sync=True)


class QuickFixWidget:
    """A button under a refused cell that writes ``source`` into the cell; ``close`` removes it.

    ``others`` are the texts of other cells of the notebook, each with the one that replaces it: they are written by the
    same click, or none is.
    """

    def __init__(self, label: str, source: str, others: Sequence[tuple[str, str]] = ()) -> None:
        edits = [{"before": before, "after": after} for before, after in others]
        self._model = _MendModel(label=label, source=source, others=edits)
        written = "written into both cells: run them again" if others else "written into the cell: run it again"
        self._model.on_msg(lambda *_: self.close(written))
        self._handle: Any = display(_view(label, self._model), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def close(self, message: str = "") -> None:
        """Replace the button with a message."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.update({"text/plain": message}, raw=True)
            self._model.close()


def _view(text: str, model: anywidget.AnyWidget) -> dict[str, Any]:
    view = {"version_major": 2, "version_minor": 0, "model_id": model.model_id}
    return {"text/plain": text, "application/vnd.jupyter.widget-view+json": view}


class _Details:
    """The changes in the details of the steps."""

    def __init__(self) -> None:
        self._states: list[Any] = []
        self._number = 0

    def changes(self, steps: Sequence[ExecutionRecord], numbers: Mapping[str, int], *, whole: bool) -> dict[str, Any]:
        """Return what differs from the last time, or all; nothing is an empty dict."""
        states = [_state_of(record) for record in steps]
        if len(states) != len(self._states):
            whole = True
        changed: dict[str, Detail] = {
            str(place): detail(steps[place], numbers)
            for place, state in enumerate(states)
            if whole or state != self._states[place]
        }
        self._states = states
        if not changed:
            return {}
        self._number += 1
        return {"number": self._number, "whole": whole, "set": changed}


def _state_of(record: ExecutionRecord) -> tuple[Any, ...]:
    return record.status, record.attempts, record.seconds, record.started, record.origin, record.reasons, record.failure


class _Log:
    """The changes in the newest lines of a step's output: how many were dropped at the top, and which were added."""

    def __init__(self) -> None:
        self._step: str | None = None
        self._tail: tuple[str, ...] = ()
        self._lines: list[str] = []
        self._number = 0

    def changes(self, step: str | None, tail: tuple[str, ...], *, whole: bool) -> dict[str, Any]:
        """Return what differs from the last time, or all; nothing is an empty dict."""
        if step == self._step and tail == self._tail and not whole:
            return {}
        lines, before = log_lines(tail), self._lines
        fresh = whole or step != self._step
        unchanged = 0 if fresh else _unchanged(before, lines)
        drop = 0 if fresh else _dropped(before, lines)
        self._step, self._tail, self._lines = step, tail, lines
        self._number += 1
        return {"number": self._number, "whole": fresh, "drop": drop, "keep": unchanged, "add": lines[unchanged:]}


def _dropped(before: list[str], lines: list[str]) -> int:
    """Return how many shown lines were dropped at the top: the remaining ones, except the last, begin the new lines."""
    drops = (drop for drop in range(len(before)) if before[drop:-1] == lines[: len(before) - 1 - drop])
    return next(drops, 0)


def _unchanged(before: list[str], lines: list[str]) -> int:
    """Return how many of the new lines are shown already; the last shown line may have been overwritten."""
    rest = before[_dropped(before, lines) :]
    same = 0
    for old, new in zip(rest, lines, strict=False):
        if old != new:
            break
        same += 1
    return same
