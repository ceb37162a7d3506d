"""Compute targets: their settings, what steps need of them, and GPUs that steps have for themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scripted_executor import Bench

from nbpipe.compute import machine_capacity
from nbpipe.errors import BadPipeline, BadUsage, Refused
from nbpipe.model.compute import ComputeTarget, Needs
from nbpipe.resolve.compute_settings import ComputeSettings, compute_settings
from nbpipe.resolve.workspace_layout import find_workspace

CORES = len(os.sched_getaffinity(0))
TWO_GPUS = '[compute.gpu]\ngpu = "simulate:2"\nworker = { cpu = 4, memory = "1 GiB" }\n'


def settings(folder: Path, text: str) -> ComputeSettings:
    """Get the settings of a workspace with such a file."""
    (folder / "nbpipe.toml").write_text(text)
    return compute_settings(find_workspace(folder))


def test_without_settings_there_is_this_machine(tmp_path):
    found = settings(tmp_path, "")
    assert (found.default, list(found.targets)) == ("local", ["local"])
    target = found.targets["local"].target()
    assert (target.cpu, target.memory, target.devices) == (CORES, machine_capacity.memory(), ())


def test_a_target_has_what_its_table_says(tmp_path):
    found = settings(tmp_path, f'[compute]\ndefault = "gpu"\n{TWO_GPUS}')
    assert found.default == "gpu"
    target = found.targets["gpu"].target()
    assert (target.cpu, target.memory, target.devices, target.simulated) == (4, 1 << 30, ("0", "1"), True)
    other = settings(tmp_path, TWO_GPUS.replace(".gpu]", ".other]")).targets["other"].target()
    assert target.pool != other.pool


@pytest.mark.parametrize(
    "text, said",
    [
        ("compute = 1", "`compute` in .* is not a table"),
        ('[compute]\ndefault = "gpu"', "`default` of .* is 'gpu', which is no compute target"),
        ("[compute]\nBig = {}", "has a target `Big`"),
        ("[compute]\ngpu = 2", r"Write \[compute.gpu\]"),
        ('[compute.gpu]\nuse = "locl"', "(?s)`use` .* is 'locl'.*`local`"),
        ('[compute.gpu]\nuse = ["local"]', "`use` of"),
        ("[compute.gpu]\nworkers = 2", "(?s)has the key `workers`.*`worker`"),
        ("[compute.gpu]\nworker = 2", "`worker` of"),
        ("[compute.gpu]\nworker = { cores = 2 }", "`worker` of .* has the key `cores`"),
        ("[compute.gpu]\nworker = { cpu = 0 }", "`cpu` in `worker` of .* is 0"),
        ("[compute.gpu]\nworker = { gpu = true }", "`gpu` in `worker` of .* is True"),
        ("[compute.gpu]\nworker = { memory = 4 }", "`memory` in `worker` of .* is 4"),
        ("[compute.gpu]\ngpu = 2", "(?s)`gpu` of .* is 2.*simulate:2"),
    ],
)
def test_wrong_settings_are_told_with_their_place(tmp_path, text, said):
    with pytest.raises(BadUsage, match=said):
        settings(tmp_path, text)


def test_needs_are_limited_by_what_there_is():
    target = ComputeTarget("gpu", 4, 100, ("0", "1"))
    assert target.possible(Needs(8, 500, 3)) == Needs(4, 100, 2)
    assert [target.concurrent(each) for each in (Needs(), Needs(3), Needs(1, 40), Needs(1, 0, 1), Needs(9))] == [
        4, 1, 2, 2, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "keys, said",
    [
        ("--gpu 3 --compute gpu", "(?s)needs 3 GPUs, and the compute target `gpu` has 2.*`gpu: 2` or less"),
        ("--cpu 5 --compute gpu", "needs 5 cores, and the compute target `gpu` has 4"),
        ("--memory 3GiB --compute gpu", "needs 3.0 GiB of memory, and the compute target `gpu` has 1.0 GiB"),
        ("--compute gpus", "(?s)there is no compute target `gpus`.*`gpu`"),
        ("--gpu 1 --envvar CUDA_VISIBLE_DEVICES --compute gpu", "(?s)CUDA_VISIBLE_DEVICES.*`gpu: 1`"),
    ],
)
def test_what_no_worker_could_have_is_an_error_of_the_plan(tmp_path, keys, said):
    (tmp_path / "nbpipe.toml").write_text(TWO_GPUS)
    bench = Bench(tmp_path, [f"%%step a -o x {keys}\nx = 1"])
    with pytest.raises(BadPipeline, match=said) as no:
        bench.run()
    assert (no.value.place.cell, no.value.place.step) == (1, "a")
    assert bench.executor.jobs == []


def test_a_step_without_a_target_is_told_which_one_has_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "nbpipe.toml").write_text(TWO_GPUS)
    with pytest.raises(BadPipeline, match=r"(?s)needs 1 GPU, and the compute target `local` has none.*`compute: gpu`"):
        Bench(tmp_path, ["%%step a -o x --gpu 1\nx = 1"]).run()


def test_where_a_step_runs_is_in_no_key(tmp_path):
    (tmp_path / "nbpipe.toml").write_text(TWO_GPUS)
    assert Bench(tmp_path, ["%%step a -o x\nx = 1"]).run() == ["a"]
    assert Bench(tmp_path, ["%%step a -o x --gpu 1 --compute gpu\nx = 1"]).run() == []


def test_the_plan_tells_where_a_step_runs(tmp_path):
    (tmp_path / "nbpipe.toml").write_text(TWO_GPUS)
    planned = Bench(tmp_path, ["%%step a -o x --gpu 1 --compute gpu\nx = 1", "%%step b -i x -o y\ny = x"]).plan()
    assert (planned.placements["a"].target.name, planned.placements["a"].needs) == ("gpu", Needs(1, 0, 1))
    assert planned.placements["b"].target.name == "local"


def test_steps_that_wait_for_gpus_do_not_hold_up_others(tmp_path):
    """More of them than there are slots come first, and none of them ends before the others have."""
    (tmp_path / "nbpipe.toml").write_text(TWO_GPUS)
    cells = [f"%%step g{n} -o a{n} --gpu 2 --compute gpu\na{n} = {n}" for n in range(12)]
    bench = Bench(tmp_path, [*cells, "%%step b -o y\ny = 1"])
    ran = bench.run()
    assert set(ran) == {f"g{n}" for n in range(12)} | {"b"}
    # One runs and one is ready, of those with the same needs.
    assert ran.index("b") <= 4


def test_a_machine_without_gpus_has_none(monkeypatch, tmp_path):
    machine_capacity._installed.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        assert machine_capacity.gpus({}) == ()
        assert machine_capacity.gpus({"CUDA_VISIBLE_DEVICES": "0,1"}) == ()
        (tmp_path / "nbpipe.toml").write_text('[compute.gpu]\nuse = "local-gpu"\n')
        with pytest.raises(Refused, match="no GPU was found on this machine"):
            Bench(tmp_path, ["%%step a -o x --compute gpu\nx = 1"]).run()
    finally:
        machine_capacity._installed.cache_clear()


def test_gpus_are_those_that_the_driver_lists_and_the_environment_leaves(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    program.chmod(0o755)
    machine_capacity._installed.cache_clear()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    try:
        assert machine_capacity.gpus({}) == ("0", "1", "2")
        for named, ids in {"2,0": ("2", "0"), "": (), "-1": (), "1,-1,0": ("1",), "GPU-8f, 1": ("GPU-8f", "1")}.items():
            assert machine_capacity.gpus({"CUDA_VISIBLE_DEVICES": named}) == ids
    finally:
        machine_capacity._installed.cache_clear()
