"""Whatever an author does, a run makes what a clean run would make, and executes exactly what it must.

Random pipelines are edited at random. What they mean and what a step's result is made of is told by ``imagined``, which
asks nbpipe nothing. ``NBPIPE_EXAMPLES=2000 pytest -s tests/test_reuse_machine.py`` tries more and says how much.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from expected_executions import Ledger
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from in_process_executor import InProcess
from pipeline_models import VARIABLE, Pipeline, Step, chance_from, folder_texts
from random_edits import EDITS, edited, imagine
from sample_pipelines import cells, word
from stored import path_in

from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Artifact, ExecutionRecord, Status
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.reports import PlanResult, RunReport
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import execute_run

EXAMPLES = int(os.environ.get("NBPIPE_EXAMPLES", "0"))
SEEDS = st.integers(0, 2**20)
ACTS = (*sorted(EDITS), "rename output", "variable", *["undo"] * 6, *["damage"] * 3, "touch")
TRIED: Counter[str] = Counter()


class Folder:
    """A folder with a pipeline in it, run in workspaces of one's choice."""

    def __init__(self, path: Path, *, remembers: bool) -> None:
        self.path = path
        self.remembers = remembers
        self.written: dict[str, str] = {}

    def write(self, pipeline: Pipeline) -> None:
        """Write what differs, as an author does."""
        wanted = {**dict(pipeline.files), **pipeline.python_files}
        for name in self.written.keys() - wanted.keys():
            (self.path / name).unlink()
        for name, text in wanted.items():
            if self.written.get(name) != text:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_text(text)
        self.written = wanted

    def request(self, pipeline: Pipeline, **asked: Any) -> PipelineRequest:
        """Get the request for a pipeline that is written here."""
        reading = parse_cells(cells(*pipeline.sources, parameters=pipeline.parameters_text))
        given = {item.name: item.given for item in pipeline.parameters if item.given is not None}
        return PipelineRequest(str(self.path / "work.ipynb"), reading, self.path, values=given, **asked)

    @contextmanager
    def workspace(self, pipeline: Pipeline, named: Path | None = None) -> Iterator[Workspace]:
        """Open a workspace in the environment that the pipeline is imagined in."""
        kept = os.environ.pop(VARIABLE, None)
        if pipeline.variable is not None:
            os.environ[VARIABLE] = pipeline.variable
        try:
            with Workspace.open(self.path, named) as workspace:
                if self.remembers:
                    # A minute later every file is old enough to be remembered; what hides an edit is the clock's
                    # tick, which the machine waits for.
                    kept_digests = workspace.context.history.digests
                    workspace.context.digests = PersistentDigestCache(
                        kept_digests.recall, kept_digests.remember, lambda: time.time() + 60
                    )
                yield workspace
        finally:
            os.environ.pop(VARIABLE, None)
            if kept is not None:
                os.environ[VARIABLE] = kept


class Reuse(RuleBasedStateMachine):
    """An author at work on one pipeline; each rule that runs it checks everything."""

    @initialize(seed=SEEDS, remembers=st.booleans())
    def begin(self, seed: int, *, remembers: bool) -> None:
        """Imagine a pipeline and write it."""
        self.path = Path(tempfile.mkdtemp(prefix="nbpipe-machine-"))
        self.folder = Folder(self.path, remembers=remembers)
        self.ledger = Ledger()
        self.pipeline = imagine(chance_from(seed))
        self.past: list[Pipeline] = []
        self.report: RunReport | None = None
        TRIED["pipelines"] += 1
        self.write(self.pipeline)
        self.run_all(chance_from(0))

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "path"):
            shutil.rmtree(self.path, ignore_errors=True)

    @rule(
        edits=st.lists(st.tuples(st.sampled_from(ACTS), SEEDS), max_size=3),
        how=st.sampled_from(("all", "all", "all", "forced", "one", "afresh")),
        seed=SEEDS,
    )
    def work(self, edits: list[tuple[str, int]], how: str, seed: int) -> None:
        """Edit the pipeline, damage what it has made, go back to how it was, then run."""
        pipeline = self.pipeline
        for name, chance in edits:
            TRIED[f"edit: {name}"] += 1
            if name in EDITS:
                pipeline = edited(pipeline, name, chance)
            else:
                pipeline = getattr(self, name)(pipeline, chance_from(chance))
        self.write(pipeline)
        getattr(self, f"run_{how}")(chance_from(seed))

    def undo(self, _: Pipeline, chance: Random) -> Pipeline:
        """Go back to an earlier state."""
        return chance.choice(self.past[-6:])

    def touch(self, pipeline: Pipeline, chance: Random) -> Pipeline:
        """Touch some files, and change who may read them."""
        for name in chance.sample(sorted(self.folder.written), 3):
            os.utime(self.path / name, (chance.randrange(10**9), chance.randrange(10**9)))
            (self.path / name).chmod(0o600 + chance.randrange(8))
        return pipeline

    def damage(self, pipeline: Pipeline, chance: Random) -> Pipeline:
        """Damage an output of the last run by hand."""
        assert self.report is not None
        found = [(record.step, made) for record in self.report.steps for made in record.artifacts]
        if found:
            name, made = chance.choice(found)
            step = next(step for step in self.pipeline.steps if step.name == name)
            content = next(held for held in self.pipeline.stored(step) if held[0] == made.basename)
            if content in self.ledger.whole:
                TRIED["damaged outputs"] += 1
                spoil(path_in(self.path, made), chance.choice(("gone", "cut", "flipped", "longer")))
                self.ledger.whole.discard(content)
        return pipeline

    def write(self, pipeline: Pipeline) -> None:
        """Write the pipeline as it is now."""
        if self.folder.remembers:
            time.sleep(0.012)
        self.past.append(pipeline)
        self.pipeline = pipeline
        self.folder.write(pipeline)

    def run_all(self, _: Random) -> None:
        """Run, and run again: nothing is left to do."""
        with self.folder.workspace(self.pipeline) as workspace:
            self.check(workspace, self.everything, set())
            _, again = self.check(workspace, self.everything, set())
        assert all(step.never for step in again)

    def run_forced(self, chance: Random) -> None:
        """Run one step whatever is known."""
        forced = chance.choice(self.pipeline.steps)
        with self.folder.workspace(self.pipeline) as workspace:
            self.check(workspace, self.everything, {forced.uid}, force=(forced.name,))

    def run_one(self, chance: Random) -> None:
        """Run one step and what it needs."""
        wanted = chance.choice(self.pipeline.steps)
        with self.folder.workspace(self.pipeline) as workspace:
            self.check(workspace, self.pipeline.with_ancestors({wanted.uid}), set(), steps=(wanted.name,))

    def run_afresh(self, _: Random) -> None:
        """Run, and run in an empty workspace: the same bytes come out."""
        with self.folder.workspace(self.pipeline) as workspace:
            report, _ = self.check(workspace, self.everything, set())
        with (
            tempfile.TemporaryDirectory(prefix="nbpipe-afresh-") as elsewhere,
            self.folder.workspace(self.pipeline, Path(elsewhere)) as workspace,
        ):
            clean = execute_run(workspace, self.folder.request(self.pipeline), RunOptions(), executors=InProcess)
            TRIED["clean runs"] += 1
            assert digests(report) == digests(clean)

    @property
    def everything(self) -> set[int]:
        """Get all steps."""
        return {step.uid for step in self.pipeline.steps}

    def check(
        self, workspace: Workspace, selected: set[int], forced: set[int], **asked: Any
    ) -> tuple[RunReport, list[Step]]:
        """Plan and run, compare with what must be, and get the steps that were executed."""
        pipeline, executor = self.pipeline, InProcess()
        request = self.folder.request(pipeline, **asked)
        planned = workspace.plans.plan(request)
        verdicts = self.ledger.plan(pipeline, selected, forced)
        expected = self.ledger.expect(pipeline, selected, forced)
        report = execute_run(workspace, request, RunOptions(), executors=lambda: executor)
        by_name = {step.name: step for step in pipeline.steps}
        executed = [by_name[job.step] for job in executor.jobs]
        self.ledger.commit(pipeline, executed)
        self.report = report
        TRIED["runs"] += 1
        TRIED["steps executed"] += len(executed)
        TRIED["steps reused"] += sum(record.status is Status.REUSED for record in report.steps)
        self.compare_plan(planned, verdicts)
        self.compare_values(report, selected)
        ran = Counter(pipeline.signature(step) for step in executed)
        wrong = {step.name for step in pipeline.steps if step.uid in selected - pipeline.skipped
                 and not expected.least[key := pipeline.signature(step)] <= ran[key] <= expected.most[key]}  # fmt: skip
        assert not wrong, (wrong, [step.name for step in executed], verdicts)
        self.compare_fates(planned, report, {name for name in by_name if self._is_alone(by_name[name])})
        return report, executed

    def _is_alone(self, step: Step) -> bool:
        """Say whether no other step makes the same objects: only then nothing but itself decides about it."""
        mine = set(self.pipeline.stored(step))
        return all(other is step or not mine & set(self.pipeline.stored(other)) for other in self.pipeline.steps)

    def compare_plan(self, planned: PlanResult, verdicts: dict[int, str]) -> None:
        """Each verdict is what it must be, and has a reason."""
        names = {step.uid: step.name for step in self.pipeline.steps}
        assert {name: word(each) for name, each in planned.decisions.items()} == {
            names[uid]: verdict for uid, verdict in verdicts.items()
        }
        assert all(each.verdict.reasons for each in planned.decisions.values())

    def compare_values(self, report: RunReport, selected: set[int]) -> None:
        """Each output holds what it means."""
        assert report.run.status is Status.SUCCEEDED, [record.failure for record in report.steps]
        pipeline = self.pipeline
        found = {
            (record.step, made.name): read(self.path, made) for record in report.steps for made in record.artifacts
        }
        assert found == {
            (step.name, item.name): means(item.format, pipeline.results[step.uid][item.uid])
            for step in pipeline.steps if step.uid in selected - pipeline.skipped for item in step.outputs
        }  # fmt: skip

    def compare_fates(self, planned: PlanResult, report: RunReport, alone: set[str]) -> None:
        """Hold a plan to its word: what depended was decided, and every step says why it is as it is."""
        fates = {record.step: record for record in report.steps}
        kept = {"reuse": Status.REUSED, "skip": Status.SKIPPED, "run": Status.SUCCEEDED}
        for name, decision in planned.decisions.items():
            assert fates[name].reasons, name
            if word(decision) == "depends":
                assert fates[name].status in (Status.REUSED, Status.SUCCEEDED), name
            elif word(decision) != "run" or name in alone:
                assert fates[name].status is kept[word(decision)], name
        assert all(has_origin(record) for record in report.steps)


def has_origin(record: ExecutionRecord) -> bool:
    """Return whether a step is said to be reused exactly when its result is older than its run."""
    return (record.origin is not None and record.origin.run != record.run) == (record.status is Status.REUSED)


def read(folder: Path, made: Artifact) -> Any:
    """Get what an output holds: text, or a folder's texts."""
    path = path_in(folder, made)
    return {each.name: each.read_text() for each in path.iterdir()} if made.format == "dir" else path.read_text()


def means(format: str | None, value: float) -> Any:
    """Get what an output must hold."""
    return folder_texts(value) if format == "dir" else folder_texts(value)["one.txt"]


def digests(report: RunReport) -> dict[tuple[str, str], tuple[str, str]]:
    """Get all outputs of a run by content."""
    return {(r.step, made.name): (made.format, made.digest) for r in report.steps for made in r.artifacts}


def spoil(path: Path, how: str) -> None:
    """Damage an object in the store."""
    if path.is_dir():
        if how == "gone":
            shutil.rmtree(path)
            return
        if how == "longer":
            (path / "three.txt").write_text("3")
            return
        path /= "one.txt"
    text = path.read_bytes()
    path.chmod(0o600)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": text[:-1], "flipped": bytes([text[0] ^ 1]) + text[1:], "longer": text + b" "}[how])


@pytest.mark.slow
def test_whatever_is_edited_a_run_is_right_and_does_no_more_than_it_must():
    """Incremental equals clean, what ran is exactly what had to, and plan, run and reasons agree."""
    profile = settings(
        max_examples=EXAMPLES or 14, stateful_step_count=10, derandomize=not EXAMPLES, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    try:
        run_state_machine_as_test(Reuse, settings=profile)
    finally:
        for name, count in sorted(TRIED.items()) if EXAMPLES else ():
            print(f"{count:8,} {name}")  # noqa: T201  # the long run says how much it tried
    assert min(TRIED["steps reused"], TRIED["steps executed"]) > 0
