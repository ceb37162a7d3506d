"""What is kept and what is collected: nothing that is reachable is lost, and what is lost says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_in_process import said
from hypothesis import given
from hypothesis import strategies as st
from in_process_executor import InProcess

from nbpipe.errors import BadUsage
from nbpipe.history.retention import RetentionRepository
from nbpipe.history.runs import RunRepository
from nbpipe.model import Outcome, Status
from nbpipe.model.retention import ResultUse, Retention, RetentionPolicy
from nbpipe.planning.retention import retained, within_size
from nbpipe.resolve.retention_settings import policy_in
from nbpipe.run.attempt_control import AttemptControl
from nbpipe.run.collection import CollectionPlan, Collector
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.process_identity import this_owner
from nbpipe.run.submission import RunOptions
from nbpipe.workspace.retention import collect, collectable, pin_run
from nbpipe.workspace.run_execution import execute_run
from nbpipe.workspace.workspace import Workspace, request_for

DAY = 24 * 3600.0
NOW = 1_000 * DAY


def use(attempt: str, number: int, *, step: str = "s", pipeline: str = "p", days: float = 0.0) -> ResultUse:
    return ResultUse(attempt, pipeline, step, f"run{number}", number, NOW - days * DAY)


def kept_of(uses: Iterable[ResultUse], policy: RetentionPolicy, pinned: Iterable[str] = ()) -> dict[str, Retention]:
    return retained(uses, policy, NOW, pinned=set(pinned), named={})


def test_the_newest_result_of_each_step_is_kept_whatever_its_age() -> None:
    uses = [use("old", 1, days=900), use("older", 1, step="t", days=900), use("new", 2, days=800)]
    kept = kept_of(uses, RetentionPolicy(runs=0, days=0))
    assert set(kept) == {"new", "older"}
    assert all(each.by_name for each in kept.values())


def test_what_runs_use_that_go_on_is_kept_whatever_the_policy() -> None:
    uses = [use("a", 1, days=90), use("b", 2, days=80)]
    kept = retained(uses, RetentionPolicy(runs=0, days=0), NOW, pinned=(), active=["run1"], named={})
    assert kept["a"] == Retention("run 1 goes on", by_name=True, newest=NOW - 90 * DAY)


def test_recent_runs_and_what_they_reused_are_kept() -> None:
    uses = [use("a", 1, days=90), use("b", 2, days=80), use("c", 3, days=70), use("a", 4, days=60)]
    assert set(kept_of(uses, RetentionPolicy(runs=1, days=0))) == {"a"}
    assert set(kept_of(uses, RetentionPolicy(runs=2, days=0))) == {"a", "c"}
    assert set(kept_of(uses, RetentionPolicy(runs=0, days=85))) == {"a", "b", "c"}
    assert set(kept_of(uses, RetentionPolicy(runs=0, days=0), ["run2"])) == {"a", "b"}


def test_above_the_size_the_oldest_go_but_not_those_with_a_name() -> None:
    uses = [use("a", 1, days=3), use("b", 2, days=2), use("c", 3, days=1)]
    kept = kept_of(uses, RetentionPolicy(), ["run1"])
    sizes = dict.fromkeys("abc", 10)
    assert set(within_size(kept, sizes, None)) == {"a", "b", "c"}
    assert set(within_size(kept, sizes, 30)) == {"a", "b", "c"}
    assert set(within_size(kept, sizes, 20)) == {"a", "c"}
    assert set(within_size(kept, sizes, 0)) == {"a", "c"}


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("st"), st.integers(0, 60)), max_size=30),
    st.integers(0, 5), st.integers(0, 40), st.one_of(st.none(), st.integers(0, 60)),
)  # fmt: skip
def test_a_stricter_policy_keeps_no_more(
    history: list[tuple[str, str, int]], runs: int, days: int, size: int | None
) -> None:
    uses = [use(attempt, number, step=step, days=age) for number, (attempt, step, age) in enumerate(history)]
    sizes = dict.fromkeys("abcdef", 10)
    strict = within_size(kept_of(uses, RetentionPolicy(runs, days)), sizes, size)
    wide = kept_of(uses, RetentionPolicy(runs + 1, days + 1))
    assert set(strict) <= set(wide)
    newest = {each.step: each.attempt for each in uses}
    assert set(newest.values()) <= set(strict)


@pytest.mark.parametrize(
    "table, expected",
    [
        ({"run": 3}, "Did you mean `runs`?"),
        ({"runs": -1}, "`runs` of [keep] is -1"),
        ({"runs": True}, "`runs` of [keep] is True"),
        ({"days": "x"}, "It is a number of days"),
        ({"days": float("inf")}, "It is a number of days"),
        ({"size": "many"}, 'for example "200 GiB"'),
        ({"size": 5}, 'for example "200 GiB"'),
        ([], "is not a table"),
    ],
)
def test_wrong_settings_are_told(table: object, expected: str) -> None:
    with pytest.raises(BadUsage) as told:
        policy_in(table, "[keep]")
    assert expected in str(told.value)


def test_settings() -> None:
    assert policy_in({}, "") == RetentionPolicy(20, 30.0, None, 3)
    assert policy_in({"runs": 1, "days": 0.5, "size": "1.5 GB", "failed": 0}, "") == RetentionPolicy(
        1, 0.5, 1_500_000_000, 0
    )


def notebook(folder: Path, value: int) -> Path:
    cells = [f"%%step make -o x:json,parts:dir\nx = {value}\n(parts / 'a').write_text('{value % 2}')",
             "%%step use -i x -o y:json\ny = x * 2"]  # fmt: skip
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nbpipe.toml").write_text("[keep]\nruns = 1\ndays = 0\n")
    return tmp_path


def run(folder: Path, value: int) -> list[str]:
    path = notebook(folder, value)
    with Workspace.open(folder) as workspace:
        report = execute_run(workspace, request_for(path, workspace.layout), RunOptions(), executors=InProcess)
    return [record.status.value for record in report.steps]


def objects(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".nbpipe/store/objects").glob("*/*/*"))


def document_of(*words: str) -> dict[str, Any]:
    code, text = said(*words, "--json")
    assert code == 0, text
    document: dict[str, Any] = json.loads(text.splitlines()[0])
    return document


def test_what_nothing_keeps_is_collected_and_says_so(project: Path) -> None:
    for value in (1, 2, 3):
        assert run(project, value) == ["succeeded", "succeeded"]
    before = len(objects(project))
    shown = document_of("gc")
    assert [(each["step"], each["run"]) for each in shown["results"]] == [
        ("make", 1), ("use", 1), ("make", 2), ("use", 2)
    ]  # fmt: skip
    assert len(objects(project)) == before
    assert document_of("gc", "--apply") == {**shown, "applied": True}
    # x, y, and one of the two folders, whose bytes run 1 and run 3 share.
    assert objects(project) == ["parts", "x.json", "y.json"]
    assert said("gc") == (0, "there is nothing to collect\n")
    assert said("verify")[0] == 0
    assert run(project, 3) == ["reused", "reused"]
    steps = document_of("plan", str(notebook(project, 1)))["steps"]
    assert steps[0]["reasons"][0]["now"].startswith("it was collected on ")
    assert run(project, 1) == ["succeeded", "succeeded"]
    assert run(project, 1) == ["reused", "reused"]


def test_a_pinned_run_keeps_its_results(project: Path) -> None:
    for value in (1, 2, 3):
        run(project, value)
    assert said("pin", "1") == (0, "run 1 is pinned: its results are kept\n")
    assert [each["run"] for each in document_of("gc", "--apply")["results"]] == [2, 2]
    assert run(project, 1) == ["reused", "reused"]
    run(project, 3)
    assert said("unpin", "1") == (0, "run 1 is no longer pinned\n")
    assert said("unpin", "1")[0] == 2
    assert [each["run"] for each in document_of("gc", "--apply")["results"]] == [1, 1]


def test_what_keeps_an_output_is_told(project: Path) -> None:
    run(project, 1)
    (make, _) = document_of("show", "1")["steps"]
    digest = make["outputs"]["x"]["digest"]
    (told,) = document_of("gc", "--why", digest.removeprefix("blake3:")[:12])["outputs"]
    assert (told["output"], told["digest"]) == ("x", digest)
    assert told["why"] == "it is the newest result of step make, of run 1"
    assert said("gc", "--why", "ffff")[0] == 2
    assert said("gc", "--why", digest, "--apply")[0] == 2


def test_what_runs_may_use_is_deleted_after_they_have_ended(project: Path) -> None:
    for value in (1, 2):
        run(project, value)
    before = objects(project)
    with Workspace.open(project) as workspace:
        history = workspace.context.history
        active = _begin(workspace)
        done = collect(workspace)
        assert (len(done.results), done.objects, done.waiting) == (2, 3, 3)
        assert objects(project) == before
        # No new run finds them, also not before the others have ended.
        assert history.results.withdrawn([use.attempt for use in history.retention.uses() if use.number == 1])
        later = _begin(workspace)
        assert collect(workspace).waiting == 3
        history.runs.end(active, Status.SUCCEEDED, workspace.now())
        assert collect(workspace).waiting == 0
        assert len(objects(project)) == len(before) - 3
        history.runs.end(later, Status.SUCCEEDED, workspace.now())
        assert history.condemnation.is_any()
        collect(workspace)
        assert not history.condemnation.is_any()


def test_what_is_condemned_and_pinned_is_offered_again(project: Path) -> None:
    for value in (1, 2):
        run(project, value)
    before = objects(project)
    with Workspace.open(project) as workspace:
        active = _begin(workspace)
        collect(workspace)
        pin_run(workspace, "1")
        workspace.context.history.runs.end(active, Status.SUCCEEDED, workspace.now())
        collect(workspace)
    assert objects(project) == before
    assert run(project, 1) == ["reused", "reused"]


def test_a_run_that_planned_before_a_collection_runs_again_what_it_took_away(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (1, 2):
        run(project, value)
    begin = RunRepository.begin

    def late(repository: RunRepository, **more: Any) -> object:
        with Workspace.open(project) as other:
            collect(other)
        return begin(repository, **more)

    with monkeypatch.context() as patched:
        patched.setattr(RunRepository, "begin", late)
        assert run(project, 1) == ["succeeded", "succeeded"]
    assert run(project, 1) == ["reused", "reused"]


def test_an_attempt_whose_output_was_collected_meanwhile_runs_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has found the bytes there, in a run that began after they were condemned."""
    for value in (1, 2):
        run(project, value)
    with Workspace.open(project) as workspace:
        first = _begin(workspace)
        collect(workspace)
        collected: list[int] = []
        ended = AttemptControl._ended

        def late(control: AttemptControl, state: ExecutionState, outcome: Outcome) -> None:
            if not collected:
                workspace.context.history.runs.end(first, Status.SUCCEEDED, workspace.now())
                collected.append(collect(workspace).waiting)
            ended(control, state, outcome)

        monkeypatch.setattr(AttemptControl, "_ended", late)
        assert run(project, 1) == ["succeeded", "succeeded"]
        assert collected == [0]
        make = next(
            each for each in workspace.context.history.executions.of_run(run_id(workspace)) if each.step == "make"
        )
        assert make.attempts == 2
    assert said("verify")[0] == 0
    assert run(project, 1) == ["reused", "reused"]


def test_one_process_collects_at_a_time(project: Path) -> None:
    run(project, 1)
    with Workspace.open(project) as workspace:
        retention = workspace.context.history.retention
        retention.begin(owner=this_owner("other"), now=workspace.now(), lease=60, alive=lambda _: True)
        with pytest.raises(BadUsage, match="another process collects"):
            collect(workspace)
        assert collectable(workspace).results == ()


def test_who_was_stopped_for_too_long_deletes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (1, 2):
        run(project, value)
    before = objects(project)
    with Workspace.open(project) as workspace:
        plan = Collector.plan

        def late(collector: Collector) -> CollectionPlan:
            planned = plan(collector)
            # Its right has expired, and another process collects.
            claims, retention = workspace.context.history.claims, workspace.context.history.retention
            claims.renew(this_owner("gc"), now=0.0, lease=1.0)
            retention.begin(owner=this_owner("other"), now=workspace.now(), lease=60, alive=lambda _: True)
            return planned

        monkeypatch.setattr(Collector, "plan", late)
        with pytest.raises(BadUsage, match="stopped for too long"):
            collect(workspace)
    assert objects(project) == before


def test_what_is_registered_before_the_collection_begins_is_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, 1)
    (project / "late.csv").write_text("late")
    with Workspace.open(project) as workspace:
        begin = RetentionRepository.begin

        def late(repository: RetentionRepository, **more: Any) -> object:
            assert said("datasets", "register", "late", "./late.csv")[0] == 0
            return begin(repository, **more)

        monkeypatch.setattr(RetentionRepository, "begin", late)
        collect(workspace)
    assert "late.csv" in objects(project)


def run_id(workspace: Workspace) -> str:
    last = workspace.context.history.runs.last()
    assert last is not None
    return last.id


def _begin(workspace: Workspace) -> str:
    runs = workspace.context.history.runs
    last = runs.last()
    assert last is not None
    pipeline = workspace.catalog.pipeline(str(workspace.layout.base / "n.ipynb")).pipeline
    runs.begin(
        run=f"{last.id}x", pipeline=pipeline, experiment="", parameters={}, tags={}, git=None, owner=last.owner,
        now=workspace.now(),
    )  # fmt: skip
    return f"{last.id}x"


def test_a_collection_that_is_killed_is_finished_by_the_next(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (1, 2, 3):
        run(project, value)
    before = len(objects(project))

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, Workspace.open(project) as workspace:
        patched.setattr("nbpipe.data.datastores.LocalStore.remove", killed)
        with pytest.raises(Killed):
            collect(workspace)
    assert len(objects(project)) == before
    assert said("verify")[0] == 0
    assert run(project, 3) == ["reused", "reused"]
    assert run(project, 1) == ["succeeded", "succeeded"]
    with Workspace.open(project) as workspace:
        collect(workspace)
    assert said("verify")[0] == 0
    assert run(project, 1) == ["reused", "reused"]


def test_results_that_the_history_has_lost_are_kept_for_its_repair(project: Path) -> None:
    for value in (1, 2):
        run(project, value)
    before = objects(project)
    for file in (project / ".nbpipe").glob("history.db*"):
        file.unlink()
    run(project, 3)
    with Workspace.open(project) as workspace:
        collect(workspace)
    assert set(before) <= set(objects(project))
    assert said("verify", "--repair")[0] == 0
    assert run(project, 2) == ["reused", "reused"]
