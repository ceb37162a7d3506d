"""What a step's kernel has of nbpipe comes from one archive, whose bytes are checked before anything in it runs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from notebook_author import Author

from nbpipe.execution.attempt.runtime_bundle import write_bundle

EVIL = b"import pathlib\npathlib.Path('evil').touch()\n"


def loaded(folder: Path, loading: str, code: str = "import nbpipe") -> subprocess.CompletedProcess[str]:
    """Run code in a process that has the bundle and the standard library alone."""
    command = [sys.executable, "-I", "-S", "-c", f"{loading}{code}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_it_is_the_same_in_every_process(tmp_path):
    code = (
        "import sys, pathlib\nfrom nbpipe.execution.attempt.runtime_bundle import write_bundle\n"
        "print(write_bundle(pathlib.Path(sys.argv[1])).digest)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    digests = {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)}
    assert digests == {write_bundle(tmp_path).digest}
    assert len(list((tmp_path / "kernel").iterdir())) == 1


def test_its_bytecode_is_taken_and_none_is_written(tmp_path):
    bundle = write_bundle(tmp_path)
    code = "from nbpipe.execution.kernel_runtime import step_runtime as it; print(it.__cached__)"
    assert loaded(tmp_path, bundle.loading, code).stdout.strip().endswith("step_runtime.pyc")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [bundle.path.name]


def test_s22_an_archive_with_other_bytes_is_not_loaded(tmp_path):
    bundle = write_bundle(tmp_path)
    with zipfile.ZipFile(bundle.path, "a") as archive:
        archive.writestr("colorsys.py", EVIL)
    done = loaded(tmp_path, bundle.loading, "import colorsys")
    assert "not what nbpipe wrote" in done.stderr
    assert not (tmp_path / "evil").exists()
    assert write_bundle(tmp_path) == bundle
    assert loaded(tmp_path, bundle.loading, "import colorsys").returncode == 0
    assert not (tmp_path / "evil").exists()


def test_s22_a_link_in_its_place_is_replaced_and_not_written_through(tmp_path):
    bundle = write_bundle(tmp_path / "store")
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    bundle.path.unlink()
    bundle.path.symlink_to(other)
    assert write_bundle(tmp_path / "store") == bundle
    assert not bundle.path.is_symlink()
    assert other.read_bytes() == b"precious"


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["colorsys.py", "nbpipe/__init__.py", "json/__init__.py", "__pycache__/colorsys.pyc"])
def test_s22_what_others_put_beside_it_is_on_no_kernels_path(tmp_path, name):
    author = Author(tmp_path, "%%step a -o x\nimport colorsys\nx = colorsys.rgb_to_hsv(0, 0, 1)[2]")
    author.run()
    kernels = author.folder / ".nbpipe" / "store" / "kernel"
    for folder in (kernels, *(kernels / path.stem for path in kernels.iterdir())):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(EVIL)
    author.cells[0] += " + 1"
    author.run()
    assert author.value("x") == 2
    assert not list(tmp_path.rglob("evil"))
