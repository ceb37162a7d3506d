"""What an attempt is made of: its folder, notebook and inputs where they lie, and an environment never written down."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_pipelines import cells, no_datastores
from stored import artifact_of, materializer_of

from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.execution.attempt.attempt_directory import AttemptDirectory
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import InputKind, JobInput, JobOutput, StepOutput
from nbpipe.resolve.resolved_request import PipelineRequest, resolve_request
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.job_factory import AttemptJobFactory, slug

PREPARE = "%%step prepare -o features, pictures:dir\nfeatures = 1"
TRAIN = """\
%%step train -i features, pictures, raw=./raw.csv, table:csv=./raw.csv, all=./*.csv, each:csv=./*.csv \\
    -o model, log:file.txt
model = features, pictures, raw, table, all, each, depth
"""

DIGEST = f"blake3:{7:064}"
FEATURES = artifact_of("features", "json", DIGEST)
PICTURES = artifact_of("pictures", "dir", DIGEST, basename="pictures")
NAMES = st.text(st.characters(categories=["L", "Nd", "Pc", "Mn"]), min_size=1, max_size=300).filter(str.isidentifier)


@pytest.fixture
def workshop(tmp_path):
    """Get the workshop of a run of two steps."""
    (tmp_path / "raw.csv").write_text("a,b\n1,2\n")
    environ = {"PATH": os.defpath, "TOKEN": "hunter2", "HOME": "/home/author", "LANG": "C.UTF-8"}
    memory = PersistentDigestCache(lambda paths: {}, lambda entries: None, lambda: 0.0)
    train = TRAIN.replace("-o model", "--envvar TOKEN --timeout 5m --memory 2GiB -o model")
    reading = parse_cells(cells("import math", PREPARE, train, parameters="depth = 3\nname = 'best'"))
    situation = resolve_request(
        PipelineRequest(str(tmp_path / "n.ipynb"), reading, tmp_path),
        WorkspaceLayout(tmp_path / ".nbpipe"),
        environ,
        memory,
        no_datastores,
    )
    materializer = materializer_of(tmp_path)
    return AttemptJobFactory(
        "r1",
        "2026-07-01",
        WorkspaceLayout(tmp_path / ".nbpipe"),
        situation,
        memory,
        materializer,
        environ,
        no_datastores,
        "",
        ("math",),
    )


def job(workshop, step="train", attempt="a1"):
    """Get a job of the run."""
    upstream = {
        StepOutput("features", "prepare"): FEATURES,
        StepOutput("pictures", "prepare"): PICTURES,
    }
    return workshop.job(step, attempt=attempt, token=7, upstream=upstream)


def test_a_job_says_all_that_a_worker_needs(workshop, tmp_path):
    made = job(workshop)

    assert (made.attempt, made.token, made.run, made.step, made.timeout) == ("a1", 7, "r1", "train", 300.0)
    assert (made.cwd, made.store) == (str(tmp_path), str(tmp_path / ".nbpipe" / "store"))
    assert made.kernel[0] == sys.executable
    assert (made.memory, made.preload) == (2 << 30, ("math",))
    assert made.outputs == (JobOutput("model", None), JobOutput("log", "file.txt"))


def test_inputs_are_values_paths_or_lists_of_either(workshop, tmp_path):
    raw = (str(tmp_path / "raw.csv"),)

    assert job(workshop).inputs == (
        JobInput("features", InputKind.VALUE, (), "json", FEATURES),
        JobInput("pictures", InputKind.PATH, (), artifact=PICTURES),
        JobInput("raw", InputKind.PATH, raw),
        JobInput("table", InputKind.VALUE, raw, "csv"),
        JobInput("all", InputKind.PATHS, raw),
        JobInput("each", InputKind.VALUES, raw, "csv"),
    )


def test_the_notebook_is_the_steps_own(workshop):
    text = json.dumps(json.loads(job(workshop).notebook))

    assert "depth = 3" in text
    assert "best" not in text
    assert "import math" not in text


def test_each_attempt_has_a_folder_of_its_own_that_only_its_author_may_read(workshop, tmp_path):
    folders = [tmp_path / ".nbpipe" / "runs" / "r1" / "train" / attempt for attempt in ("a1", "a2")]

    assert [job(workshop, attempt=attempt).directory for attempt in ("a1", "a2")] == [str(folder) for folder in folders]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_the_environment_is_delivered_but_written_nowhere(workshop, tmp_path):
    """A secret that a step sees stays out of its folder, its notebook and what a log would show of the job."""
    made = job(workshop)
    desk = AttemptDirectory(Path(made.directory))
    desk.write_job(made)
    files = [path for path in (tmp_path / ".nbpipe").rglob("*") if path.is_file()]

    assert desk.job in files
    assert stat.S_IMODE(desk.job.stat().st_mode) == 0o600
    assert "hunter2" in made.env.values()
    assert "hunter2" not in repr(made) + made.notebook + "".join(path.read_text() for path in files)
    assert "TOKEN" not in job(workshop, "prepare").env


def test_destinations_are_filled_in(workshop):
    step = workshop.resolved.graph.steps["train"]
    output = step.output("model")
    for text, filled in {
        "./{run-id}/{step}/{output-name}.bin": "./r1/train/model.bin", "./{date}/{name}-{depth}": "./2026-07-01/best-3",
        "./{nothing}": "./{nothing}", "./plain": "./plain",
    }.items():  # fmt: skip
        destined = type(output)(output.name, output.format, text)
        assert workshop.destination(step, destined) == filled


PLAIN = ["train", "fit_2", "a", "x" * 40, "none"]


@pytest.mark.parametrize("name", PLAIN)
def test_an_ordinary_name_is_its_own_folder(name):
    assert slug(name) == name


AWKWARD = ["Train", "TRAIN", "größe", "gr\u00f6\u00dfe", "模型", "_a", "__", "con", "nul", "com1", "lpt9", "aux", "prn",
           "x" * 41, "x" * 300, "x" * 299 + "y", "é", "e\u0301", "ﬁt", "İ", "i̇", "ſ", "Ω", "Ω"]  # fmt: skip


def test_names_that_a_file_system_may_take_for_one_are_told_apart():
    """Case twins, composed and decomposed letters, reserved names, names that are too long."""
    distinct = list(dict.fromkeys([*PLAIN, *AWKWARD]))
    folded = {slug(name).casefold() for name in distinct}

    assert len(folded) == len(distinct)


@given(NAMES, NAMES)
def test_two_names_never_share_a_folder(one, other):
    assert (slug(one).casefold() == slug(other).casefold()) == (one == other)


@given(NAMES)
def test_every_name_becomes_one_short_plain_part_of_a_path(name):
    made = slug(name)

    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert 1 <= len(made) <= 60
    assert not made.startswith("-")
    assert made not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


def test_a_hashed_folder_is_no_name_that_a_step_can_have():
    """However somebody names a step, it never gets another one's folder."""
    assert not any(slug(name).isidentifier() for name in AWKWARD)
