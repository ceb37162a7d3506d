"""Steps and datasets: outputs that become versions with the commit, and inputs bound to versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_executor import Bench, Fail

from nbpipe.data.job_file import write_job
from nbpipe.errors import BadDirective, BadPipeline, DataChanged, DataGone, Refusals, UnknownDataset
from nbpipe.model.datasets import DatasetKind
from nbpipe.views.dataset_tables import version_lines
from nbpipe.workspace import Workspace
from nbpipe.workspace.datasets import Datasets, Keeping
from nbpipe.workspace.verification import verify_workspace

MAKE = "%%step make -o a:json, b:json --register a=numbers\na = b = 3"
USE = "%%step use -i given=ds:numbers -o c:json\nc = given"


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, [MAKE])
    yield bench
    bench.executor.close()


def versions(bench: Bench) -> list[str]:
    with Workspace.open(bench.folder) as workspace:
        return [str(version) for version in workspace.context.history.datasets.versions()]


def register(bench: Bench, name: str, source: str, keeping: Keeping = Keeping.COPY) -> str:
    with Workspace.open(bench.folder) as workspace:
        return str(Datasets(workspace.context).register(name, source, bench.folder, keeping).version)


def dataset_of(bench: Bench, step: str, output: str = "a") -> str:
    return next(artifact.dataset for artifact in bench.step(step).artifacts if artifact.name == output)


def test_an_output_becomes_a_version_when_its_step_succeeds(bench):
    assert bench.run() == ["make"]

    assert versions(bench) == ["numbers@1"]
    assert (dataset_of(bench, "make"), dataset_of(bench, "make", "b")) == ("numbers@1", "")
    with Workspace.open(bench.folder) as workspace:
        version = Datasets(workspace.context).find("numbers")
    assert (version.origin.run, version.origin.step, version.origin.output) == (bench.report.run.id, "make", "a")


def test_a_reused_result_is_the_same_version(bench):
    bench.run()

    assert bench.run() == []

    assert versions(bench) == ["numbers@1"]
    assert dataset_of(bench, "make") == "numbers@1"


def test_a_step_that_is_up_to_date_is_registered_without_running(bench):
    bench.sources = [MAKE.replace("--register a=numbers", "")]
    bench.run()
    assert versions(bench) == []
    bench.sources = [MAKE]

    assert bench.run() == []

    assert versions(bench) == ["numbers@1"]


def test_the_same_bytes_are_the_same_version_and_others_a_new_one(bench):
    bench.run(work=lambda job, output: "same")
    bench.run(work=lambda job, output: "same", force=())
    assert versions(bench) == ["numbers@1"]

    bench.run(work=lambda job, output: "other", force=())
    assert versions(bench) == ["numbers@1", "numbers@2"]


def test_a_failed_step_registers_nothing(bench):
    def fail(job, output):
        raise Fail("no")

    bench.run(work=fail)

    assert bench.ended() == "failed"
    assert versions(bench) == []


def test_a_lost_database_gets_registered_versions_back(bench):
    bench.run()
    for path in (bench.folder / ".nbpipe").glob("history.db*"):
        path.unlink()

    verify_workspace(bench.folder, repair=True)

    assert versions(bench) == ["numbers@1"]
    assert verify_workspace(bench.folder).problems == ()


@pytest.mark.parametrize(
    "line, message",
    [
        ("x=numbers", "registers `x`, which is not one of its outputs"),
        ("a=b c", "`b c` is not the name of a dataset"),
        ("a=numbers@3", "`numbers@3` is not the name of a dataset"),
        ("a", "names no dataset"),
        ("a=n, b=n", "two outputs are registered as `n`"),
        ("a=n, a=m", "`a` is registered twice"),
        ("a=../n", "is not the name"),
    ],
)
def test_bad_registrations_are_refused_before_anything_runs(bench, line, message):
    bench.sources = [f"%%step make -o a:json, b:json\n#| register: {line}\na = b = 3"]

    with pytest.raises((BadPipeline, BadDirective), match=message):
        bench.run()
    assert bench.executor.jobs == []


def test_two_steps_cannot_register_one_dataset(bench):
    bench.sources = [MAKE, "%%step other -o d:json --register d=numbers\nd = 1"]

    with pytest.raises(BadPipeline, match="registered by `make` and `other`"):
        bench.run()


def test_an_input_is_the_newest_version_at_submit(bench):
    bench.run(work=lambda job, output: output)
    bench.sources = [USE]
    bench.run()

    (job,) = bench.executor.jobs
    assert (job.inputs[0].format, job.inputs[0].dataset) == ("json", "numbers@1")
    assert Path(job.inputs[0].paths[0]).read_text() == "a"
    assert bench.step("use").datasets == {"given": "numbers@1"}


def test_a_plan_names_the_version(bench):
    bench.run()
    bench.sources = [USE]

    assert bench.plan().datasets == {"use": {"given": "numbers@1"}}


def test_a_step_runs_again_for_a_new_version_and_not_for_another_name_of_the_same_content(bench):
    bench.run(work=lambda job, output: "1")
    bench.sources = [USE]
    bench.run()
    assert bench.run() == []
    with Workspace.open(bench.folder) as workspace:
        Datasets(workspace.context).label("numbers", "golden")
    bench.sources = [USE.replace("ds:numbers", "ds:numbers@golden")]
    assert bench.run() == []

    bench.sources = [MAKE]
    bench.run(work=lambda job, output: "2", force=())
    bench.sources = [USE.replace("ds:numbers", "ds:numbers@golden")]
    assert bench.run() == []
    bench.sources = [USE]
    assert bench.run() == ["use"]
    bench.sources = [USE.replace("ds:numbers", "ds:numbers@1")]
    assert bench.run() == []


def test_a_run_that_makes_a_version_still_reads_the_one_that_it_was_bound_to(bench):
    bench.run(work=lambda job, output: "1")
    bench.sources = [USE, MAKE.replace("a = b = 3", "a = b = 4")]
    bench.run(work=lambda job, output: job.step)

    assert bench.step("use").datasets == {"given": "numbers@1"}
    assert dataset_of(bench, "make") == "numbers@2"


def test_a_parameter_may_hold_a_dataset(bench):
    bench.run()
    bench.sources, bench.parameters = (
        ["%%step use -i given=param:source -o c:json\nc = given"],
        'source = "ds:numbers@1"',
    )
    bench.run()

    assert bench.step("use").datasets == {"given": "numbers@1"}


@pytest.mark.parametrize(
    "source, message, hint",
    [
        ("ds:nubmers", "there is no dataset `nubmers`", "numbers"),
        ("ds:numbers@7", "has no version 7", "numbers@1"),
        ("ds:numbers@goldn", "no label `goldn`", "golden"),
        ("ds:numbers@", "neither the number", "NAME@LABEL"),
        ("ds:../x", "not the name", "NAME@3"),
    ],
)
def test_an_unknown_dataset_is_an_error_with_the_nearest_one(bench, source, message, hint):
    bench.run()
    with Workspace.open(bench.folder) as workspace:
        Datasets(workspace.context).label("numbers@1", "golden")
    bench.sources = [USE.replace("ds:numbers", source)]

    with pytest.raises(UnknownDataset, match=message) as raised:
        bench.run()
    assert hint in raised.value.hint
    assert raised.value.place.cell is not None
    assert bench.executor.jobs == []


def test_every_unknown_dataset_is_told(bench):
    bench.sources = ["%%step use -i x=ds:one, y=ds:two -o c:json\nc = x, y"]

    with pytest.raises(Refusals) as raised:
        bench.run()
    assert [type(error) for error in raised.value.errors] == [UnknownDataset] * 2


def test_files_and_folders_are_bound_as_paths(bench):
    (bench.folder / "data").mkdir()
    (bench.folder / "data" / "one.txt").write_text("1")
    (bench.folder / "data" / "two.txt").write_text("2")
    for name, source in (("file", "./data/one.txt"), ("folder", "./data"), ("glob", "./data/t*.txt")):
        register(bench, name, source)
    bench.sources = ["%%step use -i x=ds:file, y=ds:folder, z=ds:glob, t:text=ds:file -o c:json\nc = x, y, z, t"]
    bench.run()

    file, folder, glob, text = (item for item in bench.executor.jobs[0].inputs)
    assert Path(file.paths[0]).read_text() == "1"
    assert (text.kind, text.format) == ("value", "text")
    assert [item.kind for item in (file, folder, glob)] == ["path"] * 3
    with Workspace.open(bench.folder) as workspace:
        kinds = {version.name: version.content.kind for version in workspace.context.history.datasets.versions()}
    assert set(kinds.values()) == {DatasetKind.KEPT}


def test_a_format_is_not_given_for_what_is_no_file(bench):
    bench.run()
    bench.sources = [USE.replace("given=", "given:csv=")]

    with pytest.raises(BadPipeline, match="not a file to be read as csv"):
        bench.run()


def test_a_kept_version_stays_what_it_was_when_its_source_changes(bench):
    source = bench.folder / "raw.txt"
    source.write_text("old")
    register(bench, "raw", "./raw.txt")
    source.write_text("new")
    register(bench, "raw", "./raw.txt")
    bench.sources = ["%%step use -i x=ds:raw@1 -o c:json\nc = x"]
    bench.run()

    assert Path(bench.executor.jobs[0].inputs[0].paths[0]).read_text() == "old"


@pytest.mark.parametrize("change, error", [("overwrite", DataChanged), ("longer", DataChanged), ("delete", DataGone)])
def test_a_referenced_version_is_what_was_registered_or_an_error(bench, change, error):
    source = bench.folder / "raw.txt"
    source.write_text("old")
    assert register(bench, "raw", "./raw.txt", Keeping.REFERENCE) == "raw@1"
    bench.sources = ["%%step use -i x=ds:raw -o c:json\nc = x"]
    bench.run()
    assert Path(bench.executor.jobs[0].inputs[0].paths[0]).read_text() == "old"

    if change == "delete":
        source.unlink()
    else:
        source.write_text("new" if change == "overwrite" else "longer")

    with pytest.raises(error, match=r"raw@1.*raw\.txt") as raised:
        bench.run()
    assert raised.value.exit_code == 3
    assert "datasets pin" in raised.value.hint


def test_a_referenced_folder_has_only_its_own_files(bench):
    (bench.folder / "data").mkdir()
    (bench.folder / "data" / "one.txt").write_text("1")
    register(bench, "data", "./data", Keeping.REFERENCE)
    (bench.folder / "data" / "two.txt").write_text("2")
    bench.sources = ["%%step use -i x=ds:data -o c:json\nc = x"]
    bench.run()

    with Workspace.open(bench.folder) as workspace:
        datasets = Datasets(workspace.context)
        found = datasets.local(datasets.find("data"))
    assert sorted(path.name for path in found.path.iterdir()) == ["one.txt"]


def test_a_file_that_changes_while_the_step_runs_is_noted(bench):
    source = bench.folder / "raw.txt"
    source.write_text("old")
    register(bench, "raw", "./raw.txt", Keeping.REFERENCE)

    def change(job, output):
        source.write_text("new")
        return "c"

    bench.sources = ["%%step use -i x=ds:raw -o c:json\nc = x"]
    bench.run(work=change)

    assert any("changed while the step ran" in note for note in bench.step("use").notes)


def test_a_pinned_version_survives_its_source(bench):
    source = bench.folder / "raw.txt"
    source.write_text("old")
    register(bench, "raw", "./raw.txt", Keeping.REFERENCE)
    with Workspace.open(bench.folder) as workspace:
        kept = Datasets(workspace.context).keep("raw@1")
    source.unlink()

    assert (str(kept), kept.content.kind) == ("raw@1", DatasetKind.KEPT)
    bench.sources = ["%%step use -i x=ds:raw -o c:json\nc = x"]
    bench.run()
    assert Path(bench.executor.jobs[0].inputs[0].paths[0]).read_text() == "old"


def test_kept_bytes_that_are_lost_are_a_loud_error(bench):
    bench.run()
    bench.stored("make", "a").unlink()
    bench.sources = [USE]
    bench.run()

    assert bench.step("use").failure.ename == "DataGone"


def test_lineage_goes_both_ways(bench):
    bench.run()
    bench.sources = ["%%step mid -i given=ds:numbers -o m:json\nm = given",
                     "%%step last -i m -o z:json --register z=models\nz = m"]  # fmt: skip
    bench.run()

    with Workspace.open(bench.folder) as workspace:
        datasets = Datasets(workspace.context)
        numbers, models = datasets.lineage("numbers"), datasets.lineage("models@1")
        details = datasets.details("models@1")
    shown = version_lines(details.version, (), details.members, 200, workspace.now(), run=details.run)
    assert "by step last in run 2, output z" in "\n".join(shown)
    assert (models.version.origin.parents, models.version.origin.step, models.run) == (("numbers@1",), "last", 2)
    assert (numbers.children, numbers.readers) == (("models@1",), ((2, "mid"),))


def test_the_kernel_is_told_the_versions(bench):
    bench.run()
    bench.sources = [USE]
    bench.run()

    written = json.loads(write_job(bench.executor.jobs[0]).read_bytes())
    assert written["inputs"][0]["dataset"] == "numbers@1"


def test_a_result_that_is_taken_over_from_a_dead_run_is_registered_once(tmp_path):
    first = Bench(tmp_path, [MAKE])
    first.run()
    first.executor.close()
    source = "%%step later -i given=ds:numbers -o d:json --register d=later\nd = given"
    program = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\nfrom test_recovery import Dying\n"
        "from scripted_executor import Bench\nBench(Path(sys.argv[1]), [sys.argv[3]], executor=Dying()).run()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent), source]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9

    with Workspace.open(tmp_path) as workspace:
        version = Datasets(workspace.context).find("later")
    assert (version.number, version.origin.step, version.origin.parents) == (1, "later", ("numbers@1",))

    again = Bench(tmp_path, [source])
    assert again.run() == []
    assert (dataset_of(again, "later", "d"), versions(again)) == ("later@1", ["later@1", "numbers@1"])
    again.executor.close()


def test_two_runs_at_once_register_a_version_each_or_the_same_one(tmp_path):
    Workspace.open(tmp_path).close()
    program = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from test_dataset_steps import registered_by\nprint(registered_by(Path(sys.argv[1]), int(sys.argv[3])))\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    running = [subprocess.Popen([*words, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    made = [process.communicate(timeout=120)[0].strip() for process in running]

    assert made[0] == made[2]
    assert made[1] == made[3]
    assert set(made) == {"numbers@1", "numbers@2"}


def registered_by(folder: Path, number: int) -> str:
    """Run a step whose output has one of two contents; return the version that it was registered as."""
    bench = Bench(folder, [f"%%step make -o a:json --register a=numbers\na = {number}"], notebook=f"n{number}.ipynb")
    bench.run(work=lambda job, output: str(number % 2))
    bench.executor.close()
    return dataset_of(bench, "make")
