"""The façade that every face talks to: open a workspace, plan, run, explain, list."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nbpipe.compute.targets import default_target, executor_of
from nbpipe.data.artifacts import copy_out
from nbpipe.data.datastores import LocalStore
from nbpipe.data.digests import Forgetful
from nbpipe.data.events import Tail
from nbpipe.data.snapshot import DigestMemory
from nbpipe.errors import BadUsage, ClusterOutOfReach, HistoryDamaged
from nbpipe.history.database import is_ours
from nbpipe.history.store import History
from nbpipe.language.notebook import read_notebook
from nbpipe.language.reading import read_cells
from nbpipe.language.text import nearest
from nbpipe.model import (
    Artifact,
    Event,
    Metric,
    Origin,
    RunRecord,
    Status,
    StepRecord,
    Warned,
)
from nbpipe.planning.plan import Planner, plan
from nbpipe.planning.progress import Progress
from nbpipe.run.acceptance import Accepted, accept
from nbpipe.run.adoption import recover
from nbpipe.run.advice import advice
from nbpipe.run.answers import Explained, Planned, Report
from nbpipe.run.driver import Driver, Executor, Hear, Watch
from nbpipe.run.following import Following
from nbpipe.run.git import git_state
from nbpipe.run.interrupts import Asked, interrupts
from nbpipe.run.launch import launch
from nbpipe.run.owner import is_alive, this_owner, this_user
from nbpipe.run.past import Recall
from nbpipe.run.place import Place, absolute, find_place, make_place, write_settings
from nbpipe.run.readings import Readings
from nbpipe.run.scene import Scene, recorded_scene, scene_now
from nbpipe.run.situation import Request, Situation, needs_among, survey
from nbpipe.run.submission import Submission, Wishes, new_run_id
from nbpipe.run.verification import Problem, Verified, keep_ending, set_aside, verify
from nbpipe.run.workshop import Workshop

Executors = Callable[[], Executor]

CANCEL_SECONDS = 30.0
_PAUSE = 0.1
_LOOKED_BACK = 50

# What the contract names and this version does not have: every face gives the same answer to it.
LATER_VERBS = ("datasets", "datastores", "compute", "env", "publish",
               "schedule", "gc")  # fmt: skip


@dataclass(slots=True)
class Workspace:
    """One workspace on disk, open. Use it as a context manager, or ``close`` it."""

    place: Place
    history: History
    store: LocalStore
    digests: DigestMemory
    clock: Callable[[], float] = time.time
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def open(cls, near: Path, named: Path | None = None) -> Self:
        """Open the workspace of a notebook in folder ``near``, or the one named; it is made if absent."""
        place = find_place(near, named)
        make_place(place)
        return cls._opened(place, History.open(place.database))

    @classmethod
    def read(cls, near: Path, named: Path | None = None) -> Self:
        """Open the workspace to look into it, for which reading it is enough; in another user's, nothing is written."""
        place = find_place(near, named)
        if is_ours(place.database):
            make_place(place)
        return cls._opened(place, History.read(place.database))

    @classmethod
    def _opened(cls, place: Place, history: History) -> Self:
        digests = DigestMemory(history.recall, history.remember, time.time)
        workspace = cls(place, history, LocalStore(place.store), digests)
        recover(history, digests, alive=is_alive, now=time.time())
        return workspace

    @classmethod
    def create(cls, folder: Path, named: Path | None = None) -> Self:
        """Make a workspace in a folder, with a settings file if it has none, and open it."""
        if not folder.is_dir():
            raise BadUsage(f"there is no folder {folder}", "Make it first.")
        write_settings(folder)
        return cls.open(folder, named)

    def close(self) -> None:
        """Write what is remembered and close the run store."""
        try:
            self.digests.flush()
        finally:
            self.history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, request: Request) -> tuple[Warned, ...]:
        """Get advice about a notebook; what is wrong with it is raised."""
        situation = survey(request, self.place, self.environ, self.digests)
        return (*situation.graph.pipeline.warnings, *advice(situation, self.history))

    def plan(self, request: Request) -> Planned:
        """Get what would run, what is reused, and why; nothing is executed."""
        situation, planner = self._planner(request)
        decisions = plan(planner, situation.selected)
        return Planned(request.notebook, decisions, situation.graph.pipeline.needs, situation.graph.pipeline.warnings)

    def run(
        self,
        request: Request,
        wishes: Wishes,
        watch: Watch = lambda _record: None,
        executors: Executors | None = None,
        began: Callable[[RunRecord, Planned], None] = lambda _run, _planned: None,
        *,
        hear: Hear = lambda _step, _events: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Carry out a run to its end; a step's failure is in the report, only what is out of reach is raised.

        An executor that ``executors`` gives stays open; without it one is made for this run and closed. ``watch`` is
        told of each step's state, ``hear`` of what running steps tell; ``cancelled`` is asked whether to stop.
        """
        begin = time.monotonic()
        situation, planner = self._planner(request)
        record = self._begin(request, situation, wishes)
        needs = situation.graph.pipeline.needs
        began(record, Planned(request.notebook, {}, needs, situation.graph.pipeline.warnings))
        made: list[Executor] = []
        own = executors or (lambda: _own_executor(made))
        driver = self._driver(record, situation, planner, wishes=wishes, watch=watch, executors=own)
        status = Status.LOST
        try:
            with interrupts() as interrupted:
                asked = Asked(lambda: self.history.stops(record.id))
                driver.cancelled = lambda: interrupted() or cancelled() or asked().whole
                driver.unwanted = lambda: asked().steps
                driver.attach = wishes.attach
                driver.hear = hear
                status = driver.carry_out()
        finally:
            for executor in made:
                executor.close()
            self.history.end_run(record.id, status, self.clock())
        done = self.history.run(record.id) or record
        keep_ending(self.place, done)
        return Report(done, self._ended_steps(driver), time.monotonic() - begin, situation.graph.pipeline.warnings)

    def _ended_steps(self, driver: Driver) -> tuple[StepRecord, ...]:
        """Get the steps of a run as history keeps them, read only where somebody else has had a hand in them."""
        mine = sorted(driver.records.values(), key=lambda record: (record.position, record.step))
        if {record.step: record.status for record in mine} == self.history.statuses(driver.run.id):
            return tuple(mine)
        return tuple(self.history.steps(driver.run.id))

    def launch(self, submission: Submission) -> tuple[RunRecord, list[StepRecord]]:
        """Hand a run to a process of its own; what is wrong with the notebook is raised here, before that.

        A leashed one is cancelled when this process ends.
        """
        survey(submission.asked, self.place, self.environ, self.digests)
        self.digests.flush()
        return self.show(launch(submission, self.place).run)

    def cancel(self, notebook: str, patience: float = CANCEL_SECONDS) -> list[RunRecord]:
        """Cancel all runs of a notebook that are going on, and return when they have ended.

        BadUsage when there is none; ClusterOutOfReach when one does not end.
        """
        live = self.history.live(notebook)
        if not live:
            raise BadUsage(f"no run of {Path(notebook).name} is going on")
        for run in live:
            self.history.ask_cancel(run.id, self.clock())
        ends = time.monotonic() + patience
        while any(not run.status.terminal for run in live):
            if time.monotonic() > ends:
                numbers = ", ".join(str(run.number) for run in live if not run.status.terminal)
                raise ClusterOutOfReach(f"run {numbers} was asked to stop and has not ended yet", "Look again later.")
            time.sleep(_PAUSE)
            recover(self.history, self.digests, alive=is_alive, now=self.clock())
            live = [self.history.run(run.id) or run for run in live]
        return live

    def cancel_step(self, run: str, step: str) -> None:
        """Ask for one step of a run to stop; what does not need it goes on."""
        self.history.ask_cancel_step(run, step, self.clock())

    def step(self, run: str, step: str) -> StepRecord | None:
        """Get a step of a run; None if the run does not have it, or has not begun."""
        return next(iter(self.history.steps_named(run, [step])), None)

    def follow(self, run: str) -> Following:
        """Get a way to watch a run, whoever carries it."""
        return Following(self.history, run)

    def live(self, notebook: str) -> list[RunRecord]:
        """Get the runs of a notebook that are going on, oldest first."""
        recover(self.history, self.digests, alive=is_alive, now=self.clock())
        return self.history.live(notebook)

    def why(self, request: Request, step: str) -> Explained:
        """Get why a step would run or be reused now, compared with its nearest earlier result."""
        situation, planner = self._planner(dataclasses.replace(request, steps=(step,)))
        decision = plan(planner, situation.selected)[step]
        last = self.history.last_run(request.notebook)
        recorded = {record.step: record for record in self.history.steps(last.id)} if last else {}
        before = self.history.latest_steps(request.notebook).get(step)
        return Explained(step, decision.verdict, before, decision.components, recorded.get(step))

    def accept(self, request: Request, step: str) -> Accepted:
        """Let a step's newest result stand for what the step is now; BadUsage when that cannot be."""
        situation, planner = self._planner(dataclasses.replace(request, steps=(step,)))
        decision = plan(planner, situation.selected)[step]
        return accept(decision, planner, situation.around, self.history, user=this_user(), now=self.clock())

    @classmethod
    def verify(cls, near: Path, named: Path | None = None, *, full: bool = False, repair: bool = False) -> Verified:
        """Look whether all that is recorded is there, all bytes read again with ``full``.

        With ``repair`` what is wrong is offered no more, and a lost or damaged history is made anew from kept results.
        """
        damaged: list[Problem] = []
        try:
            workspace = cls.open(near, named)
            damaged += [Problem("history", said) for said in workspace.history.damage()]
        except HistoryDamaged as error:
            if not repair:
                raise
            damaged.append(Problem("history", error.message))
            workspace = cls._anew(near, named)
        else:
            if damaged and repair:
                workspace.close()
                workspace = cls._anew(near, named)
        with workspace:
            digests = Forgetful() if full else workspace.digests
            now = workspace.clock()
            found = verify(workspace.history, workspace.store, workspace.place, digests, repair=repair, now=now)
        return dataclasses.replace(found, problems=(*damaged, *found.problems))

    @classmethod
    def _anew(cls, near: Path, named: Path | None) -> Self:
        """Open the workspace with a new history, the old one set aside."""
        set_aside(find_place(near, named))
        return cls.open(near, named)

    def metrics(self, run: str, steps: Iterable[StepRecord] | None = None) -> list[Metric]:
        """Get the numbers that a run's steps logged, in their order; of a reused step, those of the run it is from.

        ``steps`` are the run's records where somebody has them already.
        """
        given = self.history.steps(run) if steps is None else steps
        origins = {step.step: step.origin or Origin(run, step.step) for step in given}
        logged: dict[Origin, list[Metric]] = {}
        for made in dict.fromkeys(origin.run for origin in origins.values()):
            for metric in self.history.metrics(made):
                logged.setdefault(Origin(made, metric.step), []).append(metric)
        return [
            dataclasses.replace(metric, run=run, step=name)
            for name, origin in origins.items()
            for metric in logged.get(origin, ())
        ]

    def tails(self, run: str) -> dict[str, Tail]:
        """Get a tail on the newest attempt of each of a run's steps, to follow what they tell."""
        attempts = {step.step: self.history.attempts(run, step.step) for step in self.history.steps(run)}
        return {step: Tail(Path(rows[-1].directory)) for step, rows in attempts.items() if rows}

    def last(self, notebook: str) -> tuple[RunRecord, list[StepRecord]]:
        """Get the newest run of a notebook; BadUsage when there is none."""
        run = self.history.last_run(notebook)
        if run is None:
            raise BadUsage(
                f"{Path(notebook).name} has not been run in this workspace", f"Run it: nbpipe run {notebook}"
            )
        return run, self.history.steps(run.id)

    def newest(self, notebook: str) -> tuple[RunRecord, list[StepRecord]] | None:
        """Get the newest run of a notebook, if there is one."""
        run = self.history.last_run(notebook)
        return None if run is None else (run, self.history.steps(run.id))

    def show(self, reference: str) -> tuple[RunRecord, list[StepRecord]]:
        """Get a run by number, id or the beginning of its id."""
        run = self.history.run(reference)
        if run is None:
            raise BadUsage(f"there is no run `{reference}` in {self.place.root}", "`nbpipe runs` lists them.")
        return run, self.history.steps(run.id)

    def recorded(self, reference: str) -> tuple[RunRecord, list[StepRecord], list[Metric]]:
        """Get a run with its steps and the numbers that they logged."""
        run, steps = self.show(reference)
        return run, steps, self.metrics(run.id)

    def runs(self, notebook: str | None = None, limit: int = 50) -> list[RunRecord]:
        """Get the newest runs, newest first."""
        return self.history.runs(limit=limit, notebook=notebook)

    def log(self, notebook: str, step: str) -> Path | list[Event]:
        """Get the executed notebook of a step's newest attempt, or what it has told so far when there is none yet.

        Of an attempt whose worker was lost there never will be one.
        """
        run, steps = self.last(notebook)
        record = next((record for record in steps if record.step == step), None)
        tail = self.tails(run.id).get(step)
        if record is None or tail is None or (record.notebook and Path(record.notebook).is_file()):
            return self.executed_notebook(notebook, step)
        return tail.read()

    def executed_notebook(self, notebook: str, step: str) -> Path:
        """Get the executed notebook of a step's newest attempt, or of the one it was reused from."""
        run, steps = self.last(notebook)
        record = next((record for record in steps if record.step == step), None)
        if record is None:
            names = [record.step for record in steps]
            raise BadUsage(f"there is no step `{step}` in run {run.number}", nearest(step, names))
        if not record.status.terminal:
            message = f"step `{step}` has not ended in run {run.number}: it is {record.status.value}"
            raise BadUsage(message, "`nbpipe status --follow` waits for the run's end.")
        if record.notebook is None:
            raise BadUsage(f"step `{step}` did not run in run {run.number}: it is {record.status.value}")
        executed = Path(record.notebook)
        if not executed.is_file():
            cure = f"Run it again with --force {step}."
            raise BadUsage(f"the executed notebook of step `{step}` in run {run.number} is gone: {executed}", cure)
        return executed

    def scene(self, request: Request, step: str) -> Scene:
        """Get what a step would find now: inputs from recorded results that are up to date, else BadUsage."""
        situation, planner = self._planner(dataclasses.replace(request, steps=(step,)))
        return scene_now(situation, plan(planner, situation.selected), step)

    def recorded_scene(self, notebook: str, step: str) -> Scene:
        """Get what a step found in the newest run of a notebook that executed or reused it; BadUsage without one."""
        run = None
        for run in self.history.runs(limit=_LOOKED_BACK, notebook=notebook):
            records = self.history.steps(run.id)
            record = next((record for record in records if record.step == step and record.notebook), None)
            if record is not None and record.status.terminal:
                return recorded_scene(run, records, record, store=self.store, digests=self.digests)
        names = [record.step for record in self.history.steps(run.id)] if run else []
        message = f"step `{step}` has not been executed in this workspace"
        raise BadUsage(message, nearest(step, names) or "`--here` runs it with what it would find now.")

    def output(self, notebook: str, name: str) -> Artifact:
        """Get the newest stored output called ``OUTPUT`` or ``STEP.OUTPUT``."""
        step, dot, output = name.rpartition(".")
        artifact = self.history.find_output(notebook, step if dot else None, output)
        if artifact is None:
            raise BadUsage(f"there is no stored output `{name}`", self._outputs_hint(notebook, name))
        return artifact

    def pull(self, notebook: str, name: str, target: Path) -> Artifact:
        """Copy a stored output to exactly that path."""
        artifact = self.output(notebook, name)
        copy_out(artifact, target)
        return artifact

    def numbers(self, runs: Iterable[str]) -> dict[str, int]:
        """Get the numbers of runs by their ids."""
        found = {run: self.history.run(run) for run in dict.fromkeys(runs)}
        return {run: record.number for run, record in found.items() if record is not None}

    def origin_numbers(self, steps: Iterable[StepRecord]) -> dict[str, int]:
        """Get the numbers of the runs whose results these steps reused."""
        return self.numbers(step.origin.run for step in steps if step.origin)

    def _outputs_hint(self, notebook: str, name: str) -> str:
        run = self.history.last_run(notebook)
        if run is None:
            return f"Run the notebook first: nbpipe run {notebook}"
        names = [f"{step.step}.{artifact.name}" for step in self.history.steps(run.id) for artifact in step.artifacts]
        return nearest(name, names) or (f"There are: {', '.join(names[:10])}." if names else "The last run made none.")

    def _planner(self, request: Request) -> tuple[Situation, Planner]:
        situation = survey(request, self.place, self.environ, self.digests)
        recall = Recall(self.history, self.store, self.digests, situation.around, self.clock)
        past = recall.past(request.notebook)
        return situation, Planner(situation.graph, situation.circumstances, past, situation.forced)

    def _begin(self, request: Request, situation: Situation, wishes: Wishes) -> RunRecord:
        now = self.clock()
        run = wishes.run or new_run_id(now)
        return self.history.begin_run(
            run=run, notebook=request.notebook, experiment=wishes.experiment or Path(request.notebook).stem,
            parameters=situation.values, tags=wishes.tags, git=git_state(request.base), owner=this_owner(run), now=now,
            needs=needs_among(situation.graph, situation.selected),
        )  # fmt: skip

    def _driver(
        self,
        run: RunRecord,
        situation: Situation,
        planner: Planner,
        *,
        wishes: Wishes,
        watch: Watch,
        executors: Executors,
    ) -> Driver:
        steps = [step for step in situation.graph.pipeline.steps if step.name in situation.selected]
        date = time.strftime("%Y-%m-%d", time.localtime(run.started))
        code = situation.graph.pipeline.code
        imports = tuple(dict.fromkeys(name for step in steps for name in code[step.name].imports))
        return Driver(
            run=run,
            planner=planner,
            history=self.history,
            workshop=Workshop(run.id, date, self.place, situation, self.digests, self.environ, run.experiment, imports),
            executor=executors,
            clock=self.clock,
            new_id=lambda: secrets.token_hex(8),
            watch=watch,
            positions={step.name: index for index, step in enumerate(situation.graph.pipeline.steps)},
            progress=Progress(run.needs, {step.name: step.options.retries for step in steps}, wishes.keep_going),
        )


def request_for(path: Path, place: Place | None = None) -> Request:
    """Get the request for all steps of a saved notebook; a workspace remembers how the notebook was read before."""
    path = absolute(path)
    notebook = read_notebook(path)
    reading = Readings(place.readings, time.time()).read(path, notebook.cells) if place else read_cells(notebook.cells)
    return Request(str(path), reading, path.parent, notebook.kernel)


def _own_executor(made: list[Executor]) -> Executor:
    executor = executor_of(default_target())
    made.append(executor)
    return executor
