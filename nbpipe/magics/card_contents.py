"""What cards show of a run: its steps, and for one step its displays and a preview of each output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nbpipe.data.previews import preview
from nbpipe.magics.run_view import RunView
from nbpipe.magics.step_log import StepLog, as_events
from nbpipe.model import Artifact, ExecutionRecord, Preview, Status, step_needs
from nbpipe.model.datasets import VersionDescription
from nbpipe.views.card_state import CardState, StepActivity
from nbpipe.views.html import Html, element
from nbpipe.views.rich_outputs import rich_outputs
from nbpipe.workspace import Workspace
from nbpipe.workspace.datasets import Datasets


@dataclass(frozen=True, slots=True)
class _ShownResult:
    displays: tuple[Html, ...]
    activity: StepActivity


@dataclass(eq=False, slots=True)
class CardContents:
    """Makes the states of cards; what was read for one card is kept for the next."""

    workspace: Callable[[], Workspace]
    _numbers: dict[str, int] = field(default_factory=dict)
    _shown_by_result: dict[str, _ShownResult] = field(default_factory=dict)
    _previews_by_artifact: dict[Artifact, Preview] = field(default_factory=dict)
    _described: dict[str, VersionDescription] = field(default_factory=dict)

    def picture(self, view: RunView, focus: str | None) -> CardState:
        """Return the state of a card with this focus."""
        steps = view.steps()
        origins = {step.origin.run for step in steps if step.origin}
        if origins - self._numbers.keys():
            self._numbers |= self.workspace().runs.numbers(origins)
        if focus is None and len(steps) == 1:
            focus = steps[0].step
        note = str(view.error) if view.error else _queued_because(view, focus)
        return CardState(
            run=view.run, steps=steps, needs={**view.needs, **step_needs(steps)}, focus=focus,
            activities={**view.activity(), **self._reused_activity(view, focus)},
            previews=self._previews(view, focus), numbers=self._numbers, now=time.time(),
            datasets=self._datasets(view, focus), note=note, error_line=view.failing_line(focus),
            displays=self._displays(view, focus),
        )  # fmt: skip

    def _displays(self, view: RunView, focus: str | None) -> tuple[Html, ...]:
        """Return the rich displays of an ended step."""
        record = view.record(focus) if focus else None
        if record is None or not record.status.terminal or record.notebook is None:
            return ()
        return self._shown(record).displays

    def _reused_activity(self, view: RunView, focus: str | None) -> dict[str, StepActivity]:
        """Return what the card's step printed and measured when its reused result was made."""
        record = view.succeeded(focus) if focus else None
        return {record.step: self._shown(record).activity} if record is not None and record.origin is not None else {}

    def _shown(self, record: ExecutionRecord) -> _ShownResult:
        """Return what a step displayed, printed and measured; of what is damaged, that it is."""
        name = record.origin.attempt if record.origin else record.notebook or record.id
        if name not in self._shown_by_result:
            workspace, step_log = self.workspace(), StepLog()
            log = workspace.results.shown_again(record)
            metrics = workspace.runs.metrics(record.run, [record]) if record.origin else ()
            step_log.take(as_events(log.notebook_json, metrics))
            problem = (element("div", log.problem),) if log.problem else ()
            displays = (*problem, *rich_outputs(log.notebook_json))
            self._shown_by_result[name] = _ShownResult(displays, step_log.activity())
        return self._shown_by_result[name]

    def _previews(self, view: RunView, focus: str | None) -> dict[str, Preview]:
        """Return a preview of each output of a successful step."""
        record = view.succeeded(focus) if focus else None
        previews: dict[str, Preview] = {}
        for artifact in record.artifacts if record else ():
            if artifact not in self._previews_by_artifact:
                self._previews_by_artifact[artifact] = preview(artifact, self.workspace().materializer)
            previews[f"{focus}.{artifact.name}"] = self._previews_by_artifact[artifact]
        return previews

    def _datasets(self, view: RunView, focus: str | None) -> dict[str, VersionDescription]:
        """Return the versions that the outputs of a successful step are, with what is known of them."""
        record = view.succeeded(focus) if focus else None
        references = [artifact.dataset for artifact in record.artifacts if artifact.dataset] if record else []
        for reference in references:
            known = self._described.get(reference)
            if known is None or known.is_awaited:
                self._described[reference] = Datasets(self.workspace().context).describe(reference)
        return {reference: self._described[reference] for reference in references}


def _queued_because(view: RunView, focus: str | None) -> str:
    """Return a sentence about what a queued step waits for."""
    record = view.record(focus) if focus else None
    if focus is None or (record is not None and record.status is not Status.QUEUED):
        return ""
    if record is not None and record.notes:
        return record.notes[0]
    open_ = [need for need in view.needs.get(focus, ()) if not view.is_done(need)]
    return f"waits for {', '.join(open_)}" if open_ else ""
