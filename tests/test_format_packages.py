"""Formats of other packages, installed by pip: found, offered, written, read, and told of where they cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest

from nbpipe.data import formats
from nbpipe.data.format_packages import problem
from nbpipe.data.installed_packages import site_folders
from nbpipe.errors import BadDirective, FormatUnavailable
from nbpipe.language.completion import CompletionNames, complete
from nbpipe.language.declaration_items import format_names
from nbpipe.language.directives import read_step
from nbpipe.model import Cell

ROOT = Path(__file__).resolve().parents[1]
CODE = """
suffix = ".points"
def write(value, path):
    path.write_text("VERSION\\n" + ";".join(f"{x},{y}" for x, y in value))
    return "as text"
def read(path):
    return [tuple(map(int, each.split(","))) for each in path.read_text().splitlines()[1].split(";")]
"""
STEPS = (
    "%%step make -o track:points\ntrack = [(1, 2), (3, 4)]",
    "%%step far -i track, old:points=./old.points -o n:json\nn = [track == [(1, 2), (3, 4)], old]",
)


def wheel(
    folder: Path, name: str, code: str = CODE, *, version: str = "1.0", target: str = "", format: str = "points"
) -> Path:
    """Write a wheel with one module that adds a format."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": code.replace("VERSION", version),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[nbpipe.formats]\n{format} = {target or module}\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    folder.mkdir(exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(each, content)
    return path


def install(into: Path | tuple[str, ...], *wheels: Path) -> None:
    """Install into a folder, or where pip's options say."""
    place, options = ((), ("--target", str(into))) if isinstance(into, Path) else (into, ())
    words = [sys.executable, "-m", "pip", *place, "install", "--quiet", "--no-index", "--no-deps", *options]
    subprocess.run([*words, *map(str, wheels)], check=True, capture_output=True)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Make a folder of packages that this process imports from."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("points_"):
            del sys.modules[name]


def declared(text: str):
    return read_step(Cell(1, f"%%step a {text}\nx = 1", id="c"))


def test_an_installed_format_is_found_offered_written_and_read(site, tmp_path):
    with pytest.raises(BadDirective, match="there is no format `points`"):
        declared("-o x:points")
    install(site, wheel(tmp_path / "w", "points-text"))

    assert declared("-o x:points").outputs[0].format == "points"
    assert "points" in format_names()
    assert "points" in formats.names()
    assert formats.known("points")
    assert not formats.is_own("points")
    assert formats.libraries("points") == ("points_text",)
    assert problem("points") is None
    assert "points_text" not in sys.modules
    saved = formats.save([(1, 2)], name="x", format="points", folder=tmp_path)
    assert (saved.format, saved.basename, saved.note) == ("points", "x.points", "as text")
    assert formats.load(tmp_path / "x.points", "points") == [(1, 2)]


def test_a_misspelled_one_is_told(site, tmp_path):
    install(site, wheel(tmp_path / "w", "points-text"))
    with pytest.raises(BadDirective, match="there is no format `pointz`") as caught:
        declared("-o x:pointz")
    assert caught.value.hint == "Did you mean `points`?"


def test_completion_offers_it(site, tmp_path):
    install(site, wheel(tmp_path / "w", "points-text"))
    text = "%%step a -o x:"
    assert "points" in str(complete(text, 0, len(text), CompletionNames()))


def test_no_package_takes_a_name_of_ours(site, tmp_path):
    install(site, wheel(tmp_path / "w", "points-csv", format="csv"), wheel(tmp_path / "w", "points-f", format="file.x"))
    assert format_names().count("csv") == formats.names().count("csv") == 1
    assert "file.x" not in format_names()
    assert formats.libraries("csv") == ("pandas",)


def test_two_packages_with_one_format_are_told(site, tmp_path):
    install(site, wheel(tmp_path / "w", "points-text"), wheel(tmp_path / "w", "points-other"))
    with pytest.raises(FormatUnavailable, match=r"more than one package: points-other 1.0 and points-text 1.0") as told:
        formats.save([(1, 2)], name="x", format="points", folder=tmp_path)
    assert told.value.hint == "Uninstall all but one of them."


@pytest.mark.parametrize(
    "code, target, expected",
    [
        ("import not_there_4711", "", r"of points-bad 1.0 cannot be loaded: ModuleNotFoundError: .*not_there_4711"),
        ("1 / 0", "", "of points-bad 1.0 cannot be loaded: ZeroDivisionError: division by zero"),
        (CODE, "points_bad:Nothing", "cannot be loaded: AttributeError: .*Nothing"),
        ("write = read = print", "", "of points-bad 1.0 has no valid suffix"),
        ("suffix = '/../x'\nwrite = read = print", "", "has no valid suffix"),
        ("suffix = '.x'\nread = 1", "", "has no valid write and no valid read"),
        (CODE, "points_elsewhere:Format", "whose module points_elsewhere is not there"),
    ],
)
def test_a_broken_one_is_told(site, tmp_path, code, target, expected):
    install(site, wheel(tmp_path / "w", "points-bad", code, target=target))
    with pytest.raises(FormatUnavailable, match=expected) as caught:
        formats.save([(1, 2)], name="x", format="points", folder=tmp_path)
    assert caught.value.hint
    with pytest.raises(FormatUnavailable, match=expected):
        formats.load(tmp_path / "x", "points")


def test_a_writer_that_writes_nothing_or_a_link_is_refused(site, tmp_path):
    nothing = "suffix = '.n'\ndef write(value, path):\n    pass\ndef read(path): pass"
    link = "suffix = '.n'\ndef write(value, path):\n    path.symlink_to('/etc/hostname')\ndef read(path): pass"
    install(site, wheel(tmp_path / "w", "points-n", nothing, format="n"))
    install(site, wheel(tmp_path / "w", "points-l", link, format="l"))
    for format in ("n", "l"):
        with pytest.raises(formats.NotStorable, match=r"`x` \(int\) cannot be stored as .: points-. 1.0 wrote no file"):
            formats.save(1, name="x", format=format, folder=tmp_path)
        assert not (tmp_path / "x.n").is_symlink()


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_pipeline_with_it_is_reused_until_the_package_changes(tmp_path):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    environment = ("--python", str(tmp_path / "env/bin/python"))
    site, project = next((tmp_path / "env").glob("lib/*/site-packages")), tmp_path / "project"
    # What is installed here, too.
    (site / "these.pth").write_text("\n".join([str(ROOT), *site_folders(sys.path)]))
    project.mkdir()
    (project / "nbpipe.toml").write_text("source = []\n")
    (project / "old.points").write_text("0\n5,6")
    cells = [nbformat.v4.new_code_cell(source) for source in STEPS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "n.ipynb")

    def nbpipe(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "env/bin/python"), "-m", "nbpipe", *words]
        return subprocess.run(
            command, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    def statuses() -> list[str]:
        told = nbpipe("run", "n.ipynb", "--json")
        assert told.returncode == 0, told.stdout + told.stderr
        return [step["status"] for step in json.loads(told.stdout)["steps"]]

    assert "there is no format `points`" in nbpipe("plan", "n.ipynb").stderr
    install(environment, wheel(tmp_path / "w", "points-text"))
    assert statuses() == ["succeeded", "succeeded"]
    assert nbpipe("pull", "n.ipynb", "far.n", "--to", "n.json").returncode == 0
    assert json.loads((project / "n.json").read_text()) == [True, [[5, 6]]]
    assert statuses() == ["reused", "reused"]
    install(environment, wheel(tmp_path / "w", "points-text", version="2.0"))
    assert statuses() == ["succeeded", "succeeded"]

    words = [sys.executable, "-m", "pip", *environment, "uninstall", "--quiet", "--yes", "points-text"]
    subprocess.run(words, check=True, capture_output=True)
    told = nbpipe("plan", "n.ipynb")
    assert told.returncode == 2
    assert "the format `points` of `track` is of no package that is installed here" in told.stderr
