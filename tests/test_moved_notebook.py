"""A notebook is known by an id: wherever it or its project is brought, results are reused and nothing is lost.

What becomes of its history is said once.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process_executor import InProcess, carry_out
from notebook_author import write_notebook
from sample_pipelines import word

from nbpipe.authoring.step_context import StepContext
from nbpipe.codec import gunzip_text
from nbpipe.data.digests import NoDigestCache
from nbpipe.data.installed_packages import InstalledPackages
from nbpipe.data.observations import EnvironmentProbe, settle_observations
from nbpipe.errors import BadUsage
from nbpipe.execution.attempt.attempt_directory import AttemptDirectory
from nbpipe.history.runs import RunFilter
from nbpipe.model import AttemptEnded, AttemptStarted, Job, Status
from nbpipe.run.reports import RunReport
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.acceptance import accept_step
from nbpipe.workspace.run_execution import execute_run
from nbpipe.workspace.step_contexts import context_in_run, context_now
from nbpipe.workspace.verification import verify_workspace

CELLS = (
    "import kit\nOFFSET = 1",
    "%%step load -i raw=./data/raw.json -o rows:json\nimport json\nrows = json.loads(raw.read_text())",
    "%%step total -i rows -o total:json\nprint('adding')\ntotal = kit.add(rows) + OFFSET",
    "%%step text -i total -o note:file.txt --hash ./data/raw.json\nnote.write_text(str(total))",
)


class InProcessNotebooks(InProcess):
    """Leaves what a worker leaves in an attempt's directory: the job, and the executed notebook."""

    def submit(self, job: Job) -> None:
        """Carry out an attempt."""
        self.jobs.append(job)
        directory = AttemptDirectory(Path(job.directory))
        directory.write_job(job)
        directory.notebook.write_text(job.notebook)
        self._reports.expect(job.attempt)
        self._reports.put(AttemptStarted(job.attempt, 1.0))
        outcome = dataclasses.replace(carry_out(job), notebook=directory.notebook.name)
        self._reports.put(AttemptEnded(outcome))


@dataclasses.dataclass
class Project:
    """A folder with a notebook, its data, a local module and a workspace."""

    folder: Path
    name: str = "work.ipynb"
    cells: tuple[str, ...] = CELLS

    @property
    def path(self) -> Path:
        """Return where the notebook lies."""
        return self.folder / self.name

    def write(self) -> Project:
        """Write everything."""
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "data" / "raw.json").write_text("[1, 2]")
        (self.folder / "kit.py").write_text("def add(rows):\n    return sum(rows)\n")
        (self.folder / "nbpipe.toml").write_text('source = ["."]\n')
        write_notebook(self.path, self.cells)
        return self

    def open(self) -> Workspace:
        """Open the workspace."""
        return Workspace.open(self.path.parent)

    def run(self) -> list[str]:
        """Run the notebook as it lies there; return the steps that were executed."""
        return [step.step for step in self.report().steps if step.attempts]

    def report(self) -> RunReport:
        """Run the notebook as it lies there."""
        with self.open() as workspace:
            request = request_for(self.path, workspace.layout)
            return execute_run(workspace, request, RunOptions(), executors=InProcessNotebooks)

    def verdicts(self) -> dict[str, str]:
        """Return what a plan says of each step."""
        with self.open() as workspace:
            planned = workspace.plans.plan(request_for(self.path, workspace.layout))
        return {step: word(decision) for step, decision in planned.decisions.items()}

    def notes(self) -> list[str]:
        """Return what a plan says of the notebook itself."""
        with self.open() as workspace:
            planned = workspace.plans.plan(request_for(self.path, workspace.layout))
        return [warning.message for warning in planned.warnings if warning.code == "notebook"]

    def runs(self) -> list[int]:
        """Return the numbers of the notebook's runs, the newest first."""
        with self.open() as workspace:
            pipeline = workspace.catalog.pipeline(str(self.path)).pipeline.id
            return [run.number for run in workspace.runs.find(RunFilter(pipeline))]

    def debug(self, step: str) -> StepContext:
        """Return what a step found."""
        with self.open() as workspace:
            return context_in_run(workspace, str(self.path), step)

    def edit(self, old: str, new: str) -> None:
        """Change the notebook's cells."""
        self.cells = tuple(source.replace(old, new) for source in self.cells)
        write_notebook(self.path, self.cells)


def said(report: RunReport) -> list[str]:
    """Return what a run said of the notebook itself."""
    return [warning.message for warning in report.warnings if warning.code == "notebook"]


REUSED = {"load": "reuse", "total": "reuse", "text": "reuse"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Get a project whose notebook was run."""
    made = Project(tmp_path / "first" / "project").write()
    assert made.run() == ["load", "total", "text"]
    return made


def moved(folder: Path, target: Path) -> None:
    """Move the project."""
    folder.rename(target)


def copied(folder: Path, target: Path) -> None:
    """Copy the project; the first one stays, and goes on otherwise."""
    shutil.copytree(folder, target)
    (folder / "data" / "raw.json").write_text("[7]")
    (folder / "kit.py").write_text("def add(rows):\n    return 0\n")
    shutil.rmtree(folder / ".nbpipe" / "store")


def linked(folder: Path, target: Path) -> None:
    """Reach the project by another path."""
    target.symlink_to(folder)


@pytest.fixture(params=[moved, copied, linked], ids=lambda how: how.__name__)
def elsewhere(request: pytest.FixtureRequest, project: Project, tmp_path: Path) -> Project:
    """Get a project that was brought elsewhere after its run."""
    target = tmp_path / "second place"
    bring: Callable[[Path, Path], None] = request.param
    bring(project.folder, target)
    return Project(target)


def test_a_project_elsewhere_is_reused_and_says_nothing(elsewhere):
    assert elsewhere.verdicts() == REUSED
    assert elsewhere.notes() == []
    report = elsewhere.report()

    assert {step.status for step in report.steps} == {Status.REUSED}
    assert said(report) == []
    assert elsewhere.runs() == [2, 1]


def test_a_project_elsewhere_has_its_status_logs_and_outputs(elsewhere, tmp_path):
    with elsewhere.open() as workspace:
        run, steps = workspace.runs.last(str(elsewhere.path))
        log = workspace.results.log(str(elsewhere.path), "total")
        workspace.results.pull(str(elsewhere.path), "text.note", tmp_path / "note.txt")

    assert (run.number, [step.status for step in steps]) == (1, [Status.SUCCEEDED] * 3)
    assert Path(run.notebook) == elsewhere.path.resolve()
    assert log.executed_notebook is not None
    assert log.executed_notebook.is_relative_to(elsewhere.folder.resolve())
    assert (tmp_path / "note.txt").read_text() == "4"


def test_a_project_elsewhere_explains_what_changes_there(elsewhere):
    elsewhere.edit("OFFSET = 1", "OFFSET = 5")
    with elsewhere.open() as workspace:
        explained = workspace.plans.why(request_for(elsewhere.path, workspace.layout), "total")

    assert [reason.component for reason in explained.verdict.reasons] == ["definition:OFFSET"]
    assert explained.before is not None
    assert explained.last is not None
    assert explained.before.status is explained.last.status is Status.SUCCEEDED


def test_a_project_elsewhere_debugs_with_its_own_files(elsewhere):
    context = elsewhere.debug("load")

    assert context.notes == ()
    assert [Path(path).resolve() for path in context.inputs[0].paths] == [
        (elsewhere.folder / "data" / "raw.json").resolve()
    ]
    assert elsewhere.debug("total").notes == ()
    (elsewhere.folder / "kit.py").write_text("def add(rows):\n    return 1\n")
    (elsewhere.folder / "data" / "raw.json").write_text("[9]")
    assert "has changed since the run" in elsewhere.debug("load").notes[0]
    assert elsewhere.debug("total").notes == ("the local module `kit` has changed since the run",)


def test_a_project_elsewhere_finds_what_a_step_would_get_now(elsewhere):
    with elsewhere.open() as workspace:
        context = context_now(workspace, request_for(elsewhere.path, workspace.layout), "total")

    assert Path(context.inputs[0].paths[0]).read_text() == "[1, 2]"


def test_a_project_elsewhere_accepts_its_old_result(elsewhere):
    elsewhere.edit("'adding'", "'adding up'")
    assert elsewhere.verdicts()["total"] == "run"
    with elsewhere.open() as workspace:
        accept_step(workspace, request_for(elsewhere.path, workspace.layout), "total")

    assert elsewhere.verdicts() == REUSED
    assert elsewhere.run() == []


def test_a_project_elsewhere_keeps_what_it_is_told_to_keep(elsewhere):
    elsewhere.edit("-o total:json\nprint('adding')", "-o total:json --reuse keep\nprint('other')")

    assert elsewhere.run() == []


@pytest.mark.parametrize("full", [True, False])
def test_a_project_elsewhere_verifies_and_a_repair_loses_nothing(elsewhere, full):
    found = verify_workspace(elsewhere.folder, full=full)
    repaired = verify_workspace(elsewhere.folder, full=full, repair=True)

    assert (found.is_intact, found.outputs, found.problems) == (True, 3, ())
    assert (repaired.problems, repaired.unknown) == ((), 0)
    assert elsewhere.run() == []
    assert elsewhere.runs() == [2, 1]


def test_a_project_elsewhere_gets_a_lost_history_back_under_its_own_notebook(elsewhere):
    (elsewhere.folder / ".nbpipe" / "history.db").unlink()

    assert verify_workspace(elsewhere.folder, repair=True).unknown == 3
    assert elsewhere.runs() == [1]
    assert elsewhere.notes() == []
    assert elsewhere.run() == []


def test_a_workspace_with_a_name_of_its_own_moves_with_the_project(tmp_path):
    project = Project(tmp_path / "project").write()
    named = project.folder / "kept"

    def report(at: Project, where: Path) -> RunReport:
        with Workspace.open(at.folder, where) as workspace:
            return execute_run(
                workspace, request_for(at.path, workspace.layout), RunOptions(), executors=InProcessNotebooks
            )

    report(project, named)
    shutil.copytree(project.folder, tmp_path / "copy")
    again = report(Project(tmp_path / "copy"), tmp_path / "copy" / "kept")

    assert {step.status for step in again.steps} == {Status.REUSED}
    assert again.run.number == 2
    assert said(again) == []


def test_no_record_tells_where_the_project_lies(project):
    """But for the command line and the folders that one attempt was given."""
    database = (project.folder / ".nbpipe" / "history.db").read_bytes()
    archived = [path.read_text() for path in project.folder.rglob(".nbpipe/runs/**/run.json")]
    archived += [gunzip_text(path.read_bytes()) for path in project.folder.rglob(".nbpipe/runs/**/record.json.gz")]

    assert str(project.folder).encode() not in database
    assert len(archived) == 4
    assert not any(str(project.folder) in text for text in archived)


# A notebook of its own


def renamed(project: Project, name: str) -> Project:
    """Give the notebook another name."""
    target = project.folder / name
    target.parent.mkdir(exist_ok=True)
    project.path.rename(target)
    return Project(project.folder, name, project.cells)


def copy_of(project: Project, name: str) -> Project:
    """Copy the notebook."""
    shutil.copyfile(project.path, project.folder / name)
    return Project(project.folder, name, project.cells)


def test_a_renamed_notebook_goes_on_and_it_is_said_once(project):
    after = renamed(project, "better.ipynb")
    expected = ["better.ipynb is work.ipynb, moved or renamed: its history continues"]

    assert after.notes() == expected
    assert after.verdicts() == REUSED
    report = after.report()
    assert said(report) == expected
    assert {step.status for step in report.steps} == {Status.REUSED}
    assert said(after.report()) == []
    assert after.notes() == []
    assert after.runs() == [3, 2, 1]


def test_what_only_reads_finds_the_history_of_a_renamed_notebook_and_writes_nothing(project):
    after = renamed(project, "better.ipynb")
    path = str(after.path)
    with Workspace.read(after.folder) as workspace:
        before = workspace.context.history.pipelines.all()
        run, steps = workspace.runs.last(path)
        assert (run.number, len(steps)) == (1, 3)
        assert workspace.results.executed_notebook(path, "total").is_file()
        assert workspace.results.output(path, "total").format == "json"
        assert context_in_run(workspace, path, "load").notes == ()
        explained = workspace.plans.why(request_for(after.path, workspace.layout), "total")
        assert explained.last is not None
        assert workspace.context.history.pipelines.all() == before
    assert after.runs() == [1]


def test_a_renamed_notebook_may_be_edited_too(project):
    after = renamed(project, "better.ipynb")
    after.edit("OFFSET = 1", "OFFSET = 2")

    assert after.run() == ["total", "text"]
    assert after.runs() == [2, 1]


def test_a_notebook_moved_into_a_folder_goes_on(project):
    after = renamed(project, "sub/work.ipynb")
    after.edit("raw=./data", "raw=../data")
    after.edit("--hash ./data", "--hash ../data")

    assert after.notes() == ["sub/work.ipynb is work.ipynb, moved or renamed: its history continues"]
    # The files behind `hash` are named in the key as they are written.
    assert after.verdicts() == {**REUSED, "text": "run"}
    assert after.run() == ["text"]
    assert after.runs() == [2, 1]
    assert said(after.report()) == []


def test_a_copy_has_a_history_of_its_own_and_reuses_results(project):
    copy = copy_of(project, "copy.ipynb")
    expected = ["copy.ipynb is a copy of work.ipynb: it has its own history and reuses results"]

    assert copy.notes() == expected
    assert copy.runs() == []
    with copy.open() as workspace, pytest.raises(BadUsage, match="has not been run"):
        workspace.runs.last(str(copy.path))
    report = copy.report()
    assert said(report) == expected
    assert {step.status for step in report.steps} == {Status.REUSED}
    assert said(copy.report()) == []
    assert copy.runs() == [3, 2]
    assert project.runs() == [1]
    assert project.notes() == []


def test_when_two_notebooks_look_like_the_one_that_is_gone_nothing_is_guessed(project):
    first = copy_of(project, "a.ipynb")
    second = renamed(project, "b.ipynb")
    expected = (
        "a.ipynb and b.ipynb both look like work.ipynb, which no longer exists: "
        "it starts its own history and reuses results by content"
    )

    assert first.notes() == [expected]
    assert [note.count("both look like work.ipynb") for note in second.notes()] == [1]
    report = first.report()
    assert said(report) == [expected]
    assert {step.status for step in report.steps} == {Status.REUSED}
    assert said(first.report()) == []
    assert first.runs() == [3, 2]
    # Where only one is left that has no history of its own, the old one goes on.
    assert second.notes() == ["b.ipynb is work.ipynb, moved or renamed: its history continues"]
    assert second.verdicts() == REUSED
    with second.open() as workspace:
        assert [run.number for run in workspace.runs.find(RunFilter())] == [3, 2, 1]


def without_ids(project: Project) -> Project:
    """Take the ids from the cells of the notebook, as formats before 4.5 have it."""
    document = json.loads(project.path.read_text())
    for cell in document["cells"]:
        cell.pop("id", None)
    project.path.write_text(json.dumps(document | {"nbformat_minor": 4}))
    return project


def test_a_notebook_without_ids_is_recognised_by_the_texts_of_its_cells(project):
    other = Project(project.folder, "other.ipynb", project.cells)
    write_notebook(other.path, [cell.replace("\n", "\n# another notebook\n", 1) for cell in other.cells])
    for each in (project, other):
        assert said(without_ids(each).report()) == []

    assert renamed(project, "a.ipynb").notes() == ["a.ipynb is work.ipynb, moved or renamed: its history continues"]
    assert copy_of(other, "b.ipynb").notes() == [
        "b.ipynb is a copy of other.ipynb: it has its own history and reuses results"
    ]


def test_a_notebook_without_ids_with_equal_names_of_steps_is_another_one(project):
    without_ids(project).report()
    project.path.unlink()
    other = Project(project.folder, "other.ipynb", project.cells)
    write_notebook(other.path, [cell.replace("\n", "\nprint('other')\n", 1) for cell in project.cells])

    report = without_ids(other).report()

    assert said(report) == []
    assert {step.reasons[0].component for step in report.steps if step.status is not Status.REUSED} == {"first run"}


def test_what_papermill_has_written_beside_it_is_no_rival_of_a_renamed_notebook(project):
    output = copy_of(project, "out.ipynb")
    document = json.loads(output.path.read_text())
    document["metadata"]["papermill"] = {"input_path": "work.ipynb", "output_path": "out.ipynb"}
    output.path.write_text(json.dumps(document))

    assert renamed(project, "b.ipynb").notes() == ["b.ipynb is work.ipynb, moved or renamed: its history continues"]


def test_two_notebooks_that_swap_their_names_say_so_once(project):
    other = Project(project.folder, "other.ipynb", ("%%step plot -o p:json\np = 1",))
    write_notebook(other.path, other.cells)
    # Two notebooks of a front end never share an id.
    other.path.write_text(other.path.read_text().replace("cell-", "other-"))
    other.run()
    content = other.path.read_bytes()
    project.path.replace(other.path)
    project.path.write_bytes(content)

    assert len(project.notes()) == 1
    assert "work.ipynb has the cells of other.ipynb" in project.notes()[0]
    notes = [note for each in (project, other, project, other) for note in said(each.report())]
    assert len(notes) == 1


def test_a_notebook_that_comes_back_has_its_history(project):
    content = project.path.read_bytes()
    project.path.unlink()
    project.path.write_bytes(content)

    assert project.notes() == []
    assert project.runs() == [1]


def test_a_renamed_and_moved_project_goes_on(project, tmp_path):
    project.folder.rename(tmp_path / "elsewhere")
    after = renamed(Project(tmp_path / "elsewhere"), "better.ipynb")

    assert after.notes() == ["better.ipynb is work.ipynb, moved or renamed: its history continues"]
    assert after.verdicts() == REUSED


def test_a_kernel_goes_on_under_the_new_name_of_its_notebook(project):
    """The kernel knows the path at which its notebook was opened, and after a restart only the cells run since."""
    with project.open() as workspace:
        whole = request_for(project.path, workspace.layout)
    old, one_cell = project.path, dataclasses.replace(whole, cells=frozenset(sorted(whole.cells)[:1]))
    old.rename(project.folder / "better.ipynb")
    with project.open() as workspace:
        before = execute_run(workspace, one_cell, RunOptions(), executors=InProcessNotebooks)
    after = dataclasses.replace(project, name="better.ipynb")
    assert after.notes() == ["better.ipynb is work.ipynb, moved or renamed: its history continues"]
    with after.open() as workspace:
        moved = execute_run(
            workspace, request_for(after.path, workspace.layout), RunOptions(), executors=InProcessNotebooks
        )
        again = execute_run(workspace, one_cell, RunOptions(), executors=InProcessNotebooks)

    assert {report.run.pipeline for report in (before, moved, again)} == {before.run.pipeline}


def test_cells_of_a_kernel_that_knows_no_notebook_are_not_taken_for_a_moved_one(project):
    """Such a kernel is known by its folder, where no file ever was."""
    with project.open() as workspace:
        request = dataclasses.replace(
            request_for(project.path, workspace.layout), notebook=str(project.folder / "(kernel)")
        )
        report = execute_run(workspace, request, RunOptions(), executors=InProcessNotebooks)

    assert {step.status for step in report.steps} == {Status.REUSED}
    assert said(report) == []
    assert renamed(project, "better.ipynb").notes() == [
        "better.ipynb is work.ipynb, moved or renamed: its history continues"
    ]


# What a step used without declaring it


def probe(base: Path) -> EnvironmentProbe:
    """Return what tells how things are around a notebook."""
    return EnvironmentProbe(base, (), NoDigestCache(), InstalledPackages((), lambda _path: ""))


def used(base: Path, file: Path) -> dict[str, object]:
    """Return a kernel's report of one undeclared file, named as the code spelled it."""
    status = file.stat()
    stamp = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    nothing = {"listed": {}, "left": {}, "probed": {}, "packages": [], "missing": [], "programs": []}
    return {**nothing, "reads": {str(file): stamp}, "reinstalled": False}


def test_an_undeclared_file_by_its_absolute_path_moves_with_the_project(tmp_path):
    base = tmp_path / "project" / "notebooks"
    base.mkdir(parents=True)
    file = base.parent / "x.json"
    file.write_text("1")
    observed, doubts = settle_observations(used(base, file), probe(base), base.parent)

    assert doubts == ()
    assert {item.name for item in observed} == {"../x.json", str(file)}
    copy = tmp_path / "copy"
    shutil.copytree(base.parent, copy)
    assert probe(copy / "notebooks").differences(observed) == ()
    (copy / "x.json").write_text("2")
    assert [reason.component for reason in probe(copy / "notebooks").differences(observed)] == ["read:../x.json"]
    (copy / "x.json").write_text("1")
    file.write_text("2")
    assert [reason.component for reason in probe(copy / "notebooks").differences(observed)] == [f"read:{file}"]
    shutil.rmtree(base.parent)
    assert probe(copy / "notebooks").differences(observed) == ()
    assert json.dumps([item.name for item in probe(copy / "notebooks").renewed(observed)])
