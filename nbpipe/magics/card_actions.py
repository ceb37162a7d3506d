"""Cards under cells, and the actions of their buttons."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.errors import NbpipeError
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.magics.run_view import RunView
from nbpipe.run.submission import RunOptions
from nbpipe.views.html import Html
from nbpipe.views.html_tables import lines_html
from nbpipe.views.why_report import why_html
from nbpipe.widget import CardWidget


def show_card(session: KernelSession, view: RunView, focus: str | None) -> None:
    """Show a run on a card under the running cell; ``focus`` is the cell's step, or None for the whole run."""
    shown = _Shown(session, view, focus)
    shown.card = CardWidget(shown.act)
    shown.card.show()
    view.add(shown.card, focus)


@dataclass(slots=True)
class _Shown:
    """A card with the run that it shows."""

    session: KernelSession
    view: RunView
    focus: str | None
    card: CardWidget | None = None

    def act(self, action: str, step: str) -> None:
        """Perform a button's action; errors are shown on the card."""
        try:
            answer = self._act(action, step or self.focus or "")
        except NbpipeError as error:
            answer = lines_html(str(error).splitlines())
        if answer and self.card is not None:
            self.card.tell(answer)

    def _act(self, action: str, step: str) -> Html:
        if action == "cancel":
            self._cancel(step)
        elif action in ("rerun", "force"):
            self._again(step, force=(step,) if action == "force" else None)
        elif action == "why":
            return self._why(step)
        elif action == "open":
            executed = self.session.readable.results.executed_notebook(self.session.identity, step)
            return lines_html([f"the executed notebook: {executed}"])
        elif action == "debug":
            return lines_html([f"%nbpipe debug {step}"])
        return Html()

    def _cancel(self, step: str) -> None:
        self.view.cancel(step)

    def _why(self, step: str) -> Html:
        workspace = self.session.readable
        explanation = workspace.plans.why(self.session.request([step]), step)
        parts = (explanation.step, explanation.verdict, explanation.now, explanation.before, explanation.last)
        return why_html(*parts, numbers=workspace.runs.numbers(explanation.runs))

    def _again(self, step: str, *, force: tuple[str, ...] | None) -> None:
        """Submit the step with its present cell; the card then shows the new run."""
        request = self.session.request([step], force=force)
        if self.view.goes_on_with(step):
            self.view.cancel(step)
        again = self.session.submit(request, self.session.executed_cells(), RunOptions())
        if self.card is not None:
            self.view.drop(self.card)
            again.add(self.card, self.focus)
        self.view = again
