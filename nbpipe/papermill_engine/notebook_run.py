"""The run of a notebook with steps under papermill: the pipeline in a thread, the other cells one after the other.

An ordinary cell runs when the cells above it have run and the outputs that it reads are ready. Only this thread changes
papermill's notebook; updates of the pipeline come from its thread through a queue.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.iorw import papermill_io
from papermill.log import logger

from nbpipe.data.notebook_widgets import models_in
from nbpipe.errors import NbpipeError, Refusals
from nbpipe.language.cell_identity import identities
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.model import Artifact, AttemptRecord, ExecutionRecord, Status, StepOutput
from nbpipe.papermill_engine import cell_outputs
from nbpipe.papermill_engine.cell_schedule import CellSchedule, cell_schedule, code_cells, is_for_nbpipe
from nbpipe.papermill_engine.dask_log import without_dask_log
from nbpipe.papermill_engine.ordinary_kernel import OrdinaryKernelManager
from nbpipe.papermill_engine.output_binding_code import binding_code
from nbpipe.papermill_engine.output_log import OutputLog
from nbpipe.papermill_engine.widget_models import add_models
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import absolute, settings_near
from nbpipe.run.reports import RunReport
from nbpipe.run.run_watcher import NewAttemptEvents, RunUpdate
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import execute_run

_PAUSE = 0.05
_DONE = (Status.SUCCEEDED, Status.REUSED)


def run_notebook(nb_man: Any, kernel_name: str, options: Mapping[str, Any]) -> None:
    """Run all cells; failures are recorded in the notebook, where papermill finds them."""
    try:
        with without_dask_log():
            _run(nb_man, kernel_name, options)
    except NbpipeError as error:
        _refuse(nb_man, error)


def _run(nb_man: Any, kernel_name: str, options: Mapping[str, Any]) -> None:
    path = _path(options.get("input_path"))
    cells = code_cells(nb_man.nb.cells)
    home = path.parent if path else Path.cwd()
    more = settings_near(home)
    reading = _within(parse_cells(cells, more), options.get("execution_timeout"))
    request = PipelineRequest(
        str(path or home / "(papermill)"), reading, _working_folder(options, home), _kernel(nb_man, kernel_name),
        cells=identities(str(path), cells), more_settings=more,
    )  # fmt: skip
    schedule = cell_schedule(cells, reading)
    with Workspace.open(home) as workspace:
        workspace.plans.pin(request)
        NotebookRun(nb_man, kernel_name, options, workspace, schedule, request).carry_out()


def _path(name: object) -> Path | None:
    """Return the notebook's path if it is a local file."""
    if not isinstance(name, str) or "://" in name or name == "-":
        return None
    path = absolute(_first_folder(name) / name)
    return path if path.is_file() else None


def _first_folder(name: str) -> Path:
    """Return the folder that relative paths start from: papermill may have changed the current one for ``--cwd``."""
    return Path(getattr(papermill_io.get_handler(name), "_cwd", None) or Path.cwd())


def _working_folder(options: Mapping[str, Any], home: Path) -> Path:
    """Return the folder in which steps run: that of the notebook, or the one that ``--cwd`` names."""
    first, current = _first_folder(str(options.get("input_path") or "notebook.ipynb")), Path.cwd()
    return home if absolute(first) == absolute(current) else current


def _within(reading: ParsedNotebook, seconds: float | None) -> ParsedNotebook:
    """Return a parsed notebook with papermill's limit for each cell as a limit for steps."""
    if not seconds:
        return reading
    steps = (
        replace(
            step, options=replace(step.options, timeout=min(step.options.timeout or inf, seconds * len(step.pieces)))
        )
        for step in reading.steps
    )
    return replace(reading, steps=tuple(steps))


def _kernel(nb_man: Any, kernel_name: str) -> str | None:
    return kernel_name or nb_man.nb.metadata.get("kernelspec", {}).get("name")


def _refuse(nb_man: Any, error: NbpipeError) -> None:
    """Put each refusal, or what made the run impossible, into its cell, so that papermill fails."""
    for one in error.errors if isinstance(error, Refusals) else (error,):
        place = min(max((one.place.cell or 1) - 1, 0), len(nb_man.nb.cells) - 1)
        place = next((at for at in (place, *_code_places(nb_man.nb)) if nb_man.nb.cells[at].cell_type == "code"), 0)
        cell = nb_man.nb.cells[place]
        cell.outputs = [*cell.get("outputs", []), cell_outputs.refusal_output(one.code, str(one))]
        nb_man.cell_start(cell, place)
        nb_man.cell_exception(cell, cell_index=place, exception=error)
        nb_man.cell_complete(cell, cell_index=place)


def _code_places(nb: Any) -> Iterator[int]:
    yield from (place for place, cell in enumerate(nb.cells) if cell.cell_type == "code")


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill comes without types
    """Runs ordinary cells; each message of the kernel also triggers an update of the steps' cells."""

    def __init__(self, nb_man: Any, on_message: Callable[[], None], **options: Any) -> None:
        super().__init__(nb_man, **options)
        self._on_message = on_message

    def process_message(self, *message: Any, **more: Any) -> Any:
        output = super().process_message(*message, **more)
        self._on_message()
        return output


@dataclass(slots=True)
class NotebookRun:
    """The state of a notebook's run."""

    nb_man: Any
    kernel_name: str
    options: Mapping[str, Any]
    workspace: Workspace
    schedule: CellSchedule
    request: PipelineRequest
    _updates: queue.SimpleQueue[RunUpdate | None] = field(default_factory=queue.SimpleQueue)
    _records: dict[str, ExecutionRecord] = field(default_factory=dict)
    _live: dict[int, list[Any]] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)
    _bound: set[StepOutput] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _report: RunReport | None = None
    _error: BaseException | None = None
    _steps: dict[str, str] = field(default_factory=dict)
    _attempts: dict[str, int] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)
    _models: dict[str, Any] = field(default_factory=dict)
    _cell_failed: bool = False

    def carry_out(self) -> None:
        """Run steps and cells to their end."""
        thread = threading.Thread(target=self._run_steps, name="nbpipe-pipeline", daemon=True)
        thread.start()
        try:
            self._run_all(thread)
        finally:
            self._end()

    def _run_all(self, thread: threading.Thread) -> None:
        try:
            with contextlib.ExitStack() as stack:
                self._run_cells(stack)
            self._wait(thread)
        except BaseException:
            self._stop.set()
            self._wait(thread)
            raise
        if self._error is not None:
            raise self._error

    @property
    def _log(self) -> OutputLog:
        return OutputLog.of(self.options)

    def _run_steps(self) -> None:
        try:
            self._report = execute_run(
                self.workspace, self.request, RunOptions(), self._updates.put, cancelled=self._stop.is_set
            )
        except BaseException as error:  # noqa: BLE001  # a thread's border: carry_out raises it in its own thread
            self._error = error
        self._updates.put(None)

    def _run_cells(self, stack: contextlib.ExitStack) -> None:
        """Run the ordinary cells in order, until one fails or a step above it has failed."""
        client: _Client | None = None
        stack.callback(lambda: client is not None and client.set_widgets_metadata())
        for place, cell in enumerate(self.nb_man.nb.cells):
            if place in self.schedule.step_places:
                continue
            if cell.cell_type != "code" or is_for_nbpipe(cell.source) or not cell.source.strip():
                self._pass_over(cell, place)
                continue
            needed = self.schedule.needed(place, cell.source)
            while not self._stop.is_set() and any(not self._is_over(source.step) for source in needed):
                self._take_updates(_PAUSE)
            self._take_updates(0)
            if self._failed_above(place) or self._error is not None:
                return
            client = client or self._client(stack)
            self._bind(client, needed)
            if not self._run_cell(client, cell, place):
                self._cell_failed = True
                self._stop.set()
                return

    def _client(self, stack: contextlib.ExitStack) -> _Client:
        """Return the client of the ordinary cells' kernel, which is started for the first of them."""
        options = {
            name: self.options[name] for name in ("log_output", "stdout_file", "stderr_file") if name in self.options
        }
        options["startup_timeout"] = self.options.get("start_timeout", 60)
        options["timeout"] = self.options.get("execution_timeout")
        client = _Client(
            self.nb_man, lambda: self._take_updates(0), kernel_name=self.kernel_name, log=logger,
            kernel_manager_class=OrdinaryKernelManager, **options,
        )  # fmt: skip
        client.reset_execution_trackers()
        stack.enter_context(client.setup_kernel())
        info = client.wait_for_reply(client.kc.kernel_info())
        self.nb_man.nb.metadata["language_info"] = info["content"]["language_info"]
        return client

    def _run_cell(self, client: _Client, cell: Any, place: int) -> bool:
        try:
            self.nb_man.cell_start(cell, place)
            client.execute_cell(cell, place)
        except CellExecutionError as error:
            self.nb_man.cell_exception(cell, cell_index=place, exception=error)
            return False
        finally:
            self.nb_man.cell_complete(cell, cell_index=place)
        return True

    def _pass_over(self, cell: Any, place: int) -> None:
        if cell.cell_type == "code":
            self.nb_man.cell_start(cell, place)
        self.nb_man.cell_complete(cell, cell_index=place)

    def _bind(self, client: _Client, needed: Sequence[StepOutput]) -> None:
        """Bind the outputs that the next cell reads in the kernel, each once."""
        fresh = [source for source in needed if source not in self._bound]
        artifacts = [
            (source.step or "", artifact) for source in fresh if (artifact := self._artifact(source)) is not None
        ]
        if artifacts:
            workspace = self.workspace
            code = binding_code(artifacts, self.request.reading, workspace.layout.store, workspace.materializer)
            reply = client.wait_for_reply(client.kc.execute(code, silent=False, store_history=False))
            if reply["content"]["status"] == "error":
                logger.error("outputs could not be bound: %s", reply["content"]["evalue"])
        self._bound |= set(fresh)

    def _artifact(self, source: StepOutput) -> Artifact | None:
        record = self._records.get(source.step or "")
        return next((a for a in record.artifacts if a.name == source.output), None) if record else None

    def _is_over(self, step: str | None) -> bool:
        record = self._records.get(step or "")
        return self._error is not None or (record is not None and record.status.terminal)

    def _failed_above(self, place: int) -> bool:
        return any(
            record.status.terminal and record.status not in _DONE and self.schedule.steps[name][0] < place
            for name, record in self._records.items()
        )

    def _take_updates(self, seconds: float) -> None:
        """Apply the pipeline's updates to the steps' cells, waiting up to ``seconds`` for the first one."""
        with contextlib.suppress(queue.Empty):
            update = self._updates.get(timeout=seconds) if seconds else self._updates.get_nowait()
            while True:
                self._take(update)
                update = self._updates.get_nowait()
        self.nb_man.autosave_cell()

    def _take(self, update: RunUpdate | None) -> None:
        """Show an update; once a step is retried, the output of the previous attempt is dropped."""
        if update is None:
            return
        for record in update.executions:
            self._records[record.step] = record
            self._steps[record.id] = record.step
        for attempt in update.attempts:
            self._begin(attempt)
        for output in update.attempt_outputs:
            self._add_live(output)
        changed = [record.step for record in update.executions]
        for step in dict.fromkeys((*(output.step for output in update.attempt_outputs), *changed)):
            self._show(self._records[step])

    def _wait(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            self._take_updates(_PAUSE)
        self._take_updates(0)

    def _begin(self, attempt: AttemptRecord) -> None:
        """Drop the output of earlier attempts of a step, once a new one has begun."""
        step = self._steps[attempt.execution]
        if self._attempts.get(step, 0) < attempt.number:
            self._attempts[step] = attempt.number
            for place in self.schedule.steps[step]:
                self._live.pop(place, None)

    def _add_live(self, output: NewAttemptEvents) -> None:
        for place in self.schedule.steps[output.step]:
            own = [event for event in output.events if event.cell == place + 1]
            cell_outputs.live_outputs(own, self._live.setdefault(place, []))
            fresh: list[Any] = []
            cell_outputs.live_outputs(own, fresh)
            self._log.tell(fresh)
            if fresh:
                self._logged.add(output.step)

    def _show(self, record: ExecutionRecord) -> None:
        """Update a step's cells."""
        places = self.schedule.steps[record.step]
        first = self.nb_man.nb.cells[places[0]]
        if record.status is Status.RUNNING and record.step not in self._started:
            self._started.add(record.step)
            for place in places:
                self.nb_man.cell_start(self.nb_man.nb.cells[place], place)
        if record.status.terminal:
            self._show_ended(record, places)
            return
        for place in places:
            self.nb_man.nb.cells[place].outputs = list(self._live.get(place, []))
        first.outputs.insert(0, cell_outputs.status_output(record, {}))

    def _show_ended(self, record: ExecutionRecord, places: Sequence[int]) -> None:
        numbers = self.workspace.runs.origin_numbers([record])
        log = self.workspace.results.shown_again(record)
        self._models |= models_in(log.notebook_json)
        outputs = cell_outputs.ended_outputs(log, len(places))
        if record.step not in self._logged:
            for cell_output in outputs:
                self._log.tell(cell_output)
        if self._cell_failed and record.status is Status.CANCELLED:
            cell_outputs.drop_errors(outputs)
        else:
            cell_outputs.require_error(outputs, record.failure, cancelled=record.status is Status.CANCELLED)
        outputs[0].insert(0, cell_outputs.status_output(record, numbers))
        for place, cell_output in zip(places, outputs, strict=True):
            cell = self.nb_man.nb.cells[place]
            if record.step not in self._started:
                self.nb_man.cell_start(cell, place)
            cell.outputs = cell_output
            cell.metadata["nbpipe"] = {"step": record.step, "status": record.status.value}
            if record.failure is not None and any(out.output_type == "error" for out in cell_output):
                self.nb_man.cell_exception(cell, cell_index=place, exception=RuntimeError(record.failure.message))
            self.nb_man.cell_complete(cell, cell_index=place)

    def _end(self) -> None:
        """Write the run's id, number and status, and the steps' widgets, into the notebook's metadata."""
        add_models(self.nb_man.nb, self._models)
        if self._report is not None:
            run = self._report.run
            self.nb_man.nb.metadata["nbpipe"] = {"run": run.id, "number": run.number, "status": run.status.value}
