"""Papermill's side of an attempt: an engine that runs the one-step notebook on the attempt's own kernel.

Papermill's own result is ignored (it counts ``sys.exit(0)`` as a success): :class:`NotebookExecution` has what ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from nbpipe.data.atomic_file import write_file
from nbpipe.execution.attempt import slow_import_blocker  # noqa: F401  # must come first: it speeds up the imports below

# isort: split
import nbformat
import papermill
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from nbpipe.data.event_writer import EventFileWriter
from nbpipe.execution.attempt.attempt_registry import ActiveAttempt
from nbpipe.execution.attempt.runtime_bundle import RuntimeBundle
from nbpipe.execution.kernel_runtime.step_api import MIME
from nbpipe.execution.kernels import standby_kernel
from nbpipe.execution.kernels.kernel_manager import KernelStartError, StepKernelManager, StepKernelSpec
from nbpipe.execution.output_limits import output_budget, output_limiter
from nbpipe.model import Job, StepEventKind

_ENGINE = "nbpipe-step"
_START_SECONDS = 60
_ALIVE_SECONDS = 0.1
# After a cell's reply its last messages follow at once; after this long without any, none will come.
_SILENCE_SECONDS = 10
_LOST_OUTPUT_NOTE = "the end of its output did not arrive"
# Installs the output limiter in its own namespace; a forked kernel has it already.
_LIMITER_CODE = (
    "'nbpipe_warm' in __import__('sys').modules or "
    "(lambda space: (exec({source!r}, space), space['install']()))({{'__name__': 'nbpipe_outlet'}})"
).format(source=Path(output_limiter.__file__).read_text("utf-8"))
# The late messages, after the end of their cell, that can still be shown.
_LATE = ("stream", "display_data")
_CHANGES_ENVIRONMENT = re.compile(
    r"environb?\s*\[[^\]\n]*\]\s*=(?!=)|environb?\s*\|=|environb?\.(?:setdefault|update|pop|clear)|del\s+(?:os\.)?environ"
    r"|\b(?:putenv|unsetenv|setenv|load_dotenv)\b|%(?:set_)?env\b"
)
_NO_ERROR = "NoneType"
_ERROR_MARKER = "papermill-error-cell-tag"
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


@dataclass(frozen=True, slots=True)
class CellError:
    """The error that ended a cell."""

    ename: str
    evalue: str
    traceback: str


@dataclass(slots=True)
class NotebookExecution:
    """The progress of a notebook: ``position`` is the cell started last, ``died`` whether its kernel died there.

    ``took`` is the memory in bytes that it used if that exceeded its limit, else 0; ``oom`` says whether the system ran
    out of memory.
    """

    notebook: nbformat.NotebookNode
    position: int | None = None
    finished: bool = False
    raised: CellError | None = None
    died: bool = False
    exit_code: int | None = None
    took: int = 0
    oom: bool = False
    notes: list[str] = field(default_factory=list)
    trouble: str = ""

    @property
    def cell_metadata(self) -> Mapping[str, Any]:
        """Return nbpipe's metadata of the cell started last: its role, and the author's cell."""
        if self.position is None:
            return {}
        metadata: Mapping[str, Any] = self.notebook.cells[self.position].metadata.get("nbpipe", {})
        return metadata


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """The context of one execution: ``runtime`` is the archive that its kernel loads.

    ``ahead`` is code that kernels for later steps may run in advance.
    """

    job: Job
    attempt: ActiveAttempt
    progress: NotebookExecution
    log_path: Path
    events: EventFileWriter
    runtime: RuntimeBundle
    ahead: str = ""


class StepNotebookClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill comes without types
    """Runs cells in order, in a thread without a running event loop.

    It waits for output as long as there is any, but not for kernels that have ended.
    """

    km: Any
    kc: Any

    def __init__(self, nb_man: Any, context: ExecutionContext, **kwargs: Any) -> None:
        super().__init__(nb_man, raise_on_iopub_timeout=False, **kwargs)
        self.context = context
        self.on_cell_executed = self._look_for_quit
        # nbclient waits 4 seconds in total for a cell's output after its reply; here, until there is no more.
        self.iopub_timeout = 10**6
        self._idle_since: float | None = None
        self._earlier: dict[str, tuple[Any, int]] = {}
        self._budget = output_budget.OutputBudget()
        self._record_budget = output_budget.OutputBudget(output_budget.RECORDS)
        self._outputs: dict[int, output_budget.CellOutputs] = {}

    def execute(self, **kwargs: Any) -> None:
        """Run the notebook's cells in the kernel, and end it."""
        # A separate event loop, closed at the end: nbclient would leave one behind in every thread.
        asyncio.run(self._execute(**kwargs))

    async def _execute(self, **kwargs: Any) -> None:
        self.reset_execution_trackers()
        await self.async_start_new_kernel(**kwargs)
        await self.async_start_new_kernel_client()
        try:
            if not self.km.known_to_be_forked:
                await self.async_wait_for_reply(self.kc.execute(_LIMITER_CODE, silent=True, store_history=False))
            self.nb.metadata["language_info"] = self.kc.language_info
            standby_kernel.HERE.prepare(self.km.spec)
            self.context.attempt.devices.used_below(self.km.supervisor_number)
            await self._execute_cells()
        finally:
            if output_budget.fits(self.widget_state):
                self.set_widgets_metadata()
            await self._async_cleanup_kernel()

    async def _async_cleanup_kernel(self) -> None:
        """Request the kernel's end, and close its channels meanwhile; :meth:`StepKernelManager.end` waits."""
        kernel, client = self.km, self.kc
        self.km = self.kc = None
        if kernel is None:
            return
        kernel.kill()
        if client is not None:
            client.stop_channels()
        await kernel.cleanup_resources()

    async def _execute_cells(self) -> None:
        """Run cells until one raises or the attempt is stopped."""
        progress = self.context.progress
        for index, cell in enumerate(self.nb.cells):
            if self.context.attempt.stopped or progress.raised:
                return
            progress.position = index
            self.context.events.begin_cell(progress.cell_metadata.get("cell"))
            self.nb_man.cell_start(cell, index)
            try:
                await self.async_execute_cell(cell, index)
            except CellExecutionError as error:
                progress.raised = _raised(error, cell)
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
            finally:
                self._outputs_of(cell, index).settle()
                self.nb_man.cell_complete(cell, cell_index=index)
        progress.finished = progress.raised is None

    def process_message(self, message: Mapping[str, Any], cell: Any, cell_index: int) -> Any:
        """Process one message of the running cell: as an event for watchers, and as output in the notebook."""
        metadata = cell.metadata.get("nbpipe", {})
        event = _event(message["msg_type"], message["content"]) if metadata.get("role") == "step" else None
        if event is not None:
            self.context.events.tell(event[0], metadata.get("cell"), event[1])
        return self._take(message, cell, cell_index)

    def _take(self, message: Mapping[str, Any], cell: Any, cell_index: int) -> Any:
        """Add a message to the cell's outputs, within the output budget."""
        outputs, kind, content = self._outputs_of(cell, cell_index), message["msg_type"], message["content"]
        if kind == "stream" and not self.output_hook_stack[message["parent_header"].get("msg_id")]:
            if self.clear_before_next_output:
                self._clear_now(cell, cell_index)
            return outputs.say(content["name"], content["text"])
        if kind in ("display_data", "execute_result", "update_display_data"):
            # What a step records has its share, whatever else it displays.
            budget = self._record_budget if _is_record(content) else self._budget
            content = output_budget.shown(content, budget)
            if content is None:
                return None
        elif kind == "error":
            content = output_budget.error(content)
        if kind == "clear_output" and not content.get("wait"):
            outputs.forget()
        elif kind in ("display_data", "execute_result", "error"):
            outputs.settle()
        return super().process_message({**message, "content": content}, cell, cell_index)

    def _clear_now(self, cell: Any, cell_index: int) -> None:
        self._outputs_of(cell, cell_index).forget()
        cell.outputs[:] = []
        self.clear_display_id_mapping(cell_index)
        self.clear_before_next_output = False

    def _outputs_of(self, cell: Any, index: int) -> output_budget.CellOutputs:
        if index not in self._outputs:
            self._outputs[index] = output_budget.CellOutputs(cell.setdefault("outputs", []), self._budget)
        return self._outputs[index]

    def _look_for_quit(self, execute_reply: Mapping[str, Any], **_: Any) -> None:
        """Treat ``quit()`` as an exit: Jupyter leaves that to the front end, and later cells would run."""
        payload = execute_reply["content"].get("payload") or ()
        if any(action.get("source") == "ask_exit" for action in payload):
            self.context.progress.raised = CellError("SystemExit", "", "")

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        self._idle_since = None
        while True:
            try:
                message = await self.kc.iopub_channel.get_msg(timeout=_SILENCE_SECONDS)
            except Empty:
                # A cell's last message can get lost in a flood; its reply, on another channel, cannot.
                if "shell.execute_reply" in cell.metadata.get("execution", {}):
                    if _LOST_OUTPUT_NOTE not in self.context.progress.notes:
                        self.context.progress.notes.append(_LOST_OUTPUT_NOTE)
                    return
                continue
            if message["msg_type"] == output_limiter.NOTE:
                self.context.progress.notes.append(message["content"]["text"])
            parent = message["parent_header"].get("msg_id")
            if parent != parent_msg_id and parent in self._earlier:
                self._take_late(message, *self._earlier[parent])
            elif parent == parent_msg_id:
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    # The reply was sent before, on another channel.
                    self._idle_since = time.monotonic()
                    self._earlier[parent_msg_id] = (cell, cell_index)
                    return

    def _take_late(self, message: Mapping[str, Any], cell: Any, cell_index: int) -> None:
        """Process late output of a thread or process of an earlier cell."""
        if message["msg_type"] in _LATE:
            self.process_message(message, cell, cell_index)
            self._outputs_of(cell, cell_index).settle()

    async def _async_poll_kernel_alive(self) -> None:
        kernel, stopped = self.km, None
        while kernel.exit_code is None:
            if kernel.stopped != stopped:
                stopped = kernel.stopped
                self._report_stopped(stopped)
            if self._idle_since is not None and time.monotonic() > self._idle_since + _SILENCE_SECONDS:
                self.context.progress.trouble = "it ran the cell, but gives no answer"
                kernel.kill()
            await asyncio.sleep(_ALIVE_SECONDS)
        self.task_poll_for_reply.cancel()

    def _report_stopped(self, process: int | None) -> None:
        """Tell watchers why the step is not making progress."""
        message = f"stopped by a signal; to continue it: kill -CONT {process}" if process else "running again"
        content = {"name": "stderr", "text": f"[nbpipe: the kernel is {message}]\n"}
        self.context.events.tell(StepEventKind.STREAM, self.context.progress.cell_metadata.get("cell"), content)


def _is_record(content: Mapping[str, Any]) -> bool:
    """Return whether a display is what the notebook shows of a record, which arrives in a file of its own."""
    return MIME in content["data"]


def _event(kind: str, content: Mapping[str, Any]) -> tuple[StepEventKind, Mapping[str, Any]] | None:
    """Return a message of one of the author's own cells as an event."""
    if kind == "stream":
        return StepEventKind.STREAM, {"name": content["name"], "text": content["text"]}
    if kind == "error":
        return StepEventKind.ERROR, {"text": f"{content['ename']}: {content['evalue']}"}
    if kind in ("display_data", "execute_result") and not _is_record(content):
        rich = len(content["data"]) > 1
        return StepEventKind.DISPLAY, {"text": str(content["data"].get("text/plain", "")), "rich": rich}
    return None


def _raised(error: CellExecutionError, cell: Any) -> CellError:
    """Return what a cell raised, with the traceback of its newest error output, including terminal colours."""
    errors = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
    name, text = error.ename, error.evalue
    if name == _NO_ERROR and errors:
        # A value could not be shown: a kernel replies without the error then.
        name, text = errors[-1]["ename"], errors[-1]["evalue"]
    return CellError(name, text, "\n".join(errors[-1]["traceback"]) if errors else "")


class StepNotebookEngine(Engine):  # type: ignore[misc]  # papermill comes without types
    """Runs a notebook on its own kernel, with exactly the environment and folder of its job."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        context: ExecutionContext,
        kernel_manager_class: type[StepKernelManager],
        log_output: bool = False,  # noqa: ARG003  # papermill passes it
        **_: Any,
    ) -> None:
        """Run the cells and record the progress in the context."""
        progress = context.progress
        progress.notebook = nb_man.nb
        spec = _kernel_spec(context)
        kernel = standby_kernel.HERE.take(spec) or kernel_manager_class(spec)
        context.attempt.runs_on(kernel)
        client = StepNotebookClient(
            nb_man, context, km=kernel, kernel_name=kernel_name, startup_timeout=_START_SECONDS, log=_quiet_logger()
        )
        try:
            if not context.attempt.stopped:
                client.execute(cwd=context.job.cwd, env=dict(context.job.env))
        except KernelStartError as error:
            progress.died, progress.exit_code, progress.trouble = True, error.exit_code, str(error)
        except DeadKernelError:
            progress.died, progress.exit_code = True, kernel.exit_code
        finally:
            kernel.end()
            progress.took, progress.oom = kernel.took, kernel.oom
            if message := kernel.log_tail():
                write_file(context.log_path, message, durable=False)


def _kernel_spec(context: ExecutionContext) -> StepKernelSpec:
    job, runtime = context.job, (str(context.runtime.path), context.runtime.digest)
    local = frozenset(module.name.partition(".")[0] for module in job.modules)
    # Libraries read the environment when they are loaded, which must then happen after the step has changed it.
    preload = () if _CHANGES_ENVIRONMENT.search(job.notebook) else job.preload
    return StepKernelSpec(
        job.kernel, job.env, job.cwd, job.memory, preload, local, runtime, context.ahead, job.by_message
    )


def _quiet_logger() -> logging.Logger:
    """Return papermill's logger, silenced: the notebook and the outcome have the same information."""
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


def run_notebook(context: ExecutionContext) -> None:
    """Run the context's notebook with papermill, and record the progress in the context."""
    _quiet_logger()
    papermill_engines.register(_ENGINE, StepNotebookEngine)
    # Papermill raises a cell's error at the end; the progress has it already.
    with contextlib.suppress(PapermillExecutionError):
        papermill.execute_notebook(
            context.progress.notebook,
            None,
            engine_name=_ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_manager_class=StepKernelManager,
            context=context,
        )


def read(text: str) -> nbformat.NotebookNode:
    """Return a notebook from its JSON text."""
    notebook: nbformat.NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # theirs
    return notebook


def notebook_text(notebook: nbformat.NotebookNode) -> bytes:
    """Return an executed notebook as a file, without papermill's metadata.

    It is compact, one cell per line; only the author's cells keep the execution times of nbclient.
    """
    notebook.cells = [cell for cell in notebook.cells if _ERROR_MARKER not in cell.metadata.get("tags", [])]
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell["outputs"] = _joined(cell.get("outputs", []))
        if cell.metadata.get("nbpipe", {}).get("cell") is None:
            cell.metadata.pop("execution", None)
    notebook.metadata["kernelspec"] = _KERNELSPEC
    cells = ",\n".join(map(_ENCODER.encode, notebook.cells))
    parts = {name: part for name, part in notebook.items() if name != "cells"}
    return f'{{"cells":[\n{cells}\n],\n{_ENCODER.encode(parts)[1:]}\n'.encode("utf-8", "backslashreplace")


def _joined(outputs: list[Any]) -> list[Any]:
    """Join successive outputs of one stream, as a notebook's front end does."""
    joined: list[Any] = []
    texts: list[str] = []
    for output in outputs:
        if texts and output["output_type"] == "stream" and output["name"] == joined[-1]["name"]:
            texts.append(output["text"])
            continue
        _close(joined, texts)
        joined.append(output)
        texts = [output["text"]] if output["output_type"] == "stream" else []
    _close(joined, texts)
    return joined


def _close(joined: list[Any], texts: list[str]) -> None:
    if texts:
        joined[-1]["text"] = "".join(texts)
