"""What is installed, told from folder names alone: versions, owners of modules, and what can be imported."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from nbpipe.data.digests import NoDigestCache
from nbpipe.data.installed_packages import InstalledPackages, canonical, holds, installed, site_folders
from nbpipe.data.observations import content_of


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


def packages(*folders: Path) -> InstalledPackages:
    return InstalledPackages(tuple(map(str, folders)), lambda path: content_of(path, NoDigestCache()))


def install(site: Path, name: str, version: str, *files: str, top: str | None = None) -> Path:
    """Describe a distribution; its files are not made."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
    if top is not None:
        (info / "top_level.txt").write_text(top)
    return info


def test_versions_are_those_that_the_metadata_tell():
    """In the environment of these tests, every distribution."""
    found = packages(*map(Path, site_folders(sys.path)))
    known = {canonical(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}

    assert known
    for name, version in known.items():
        assert found.state(name).split(" ")[0] == version


@pytest.mark.parametrize("module, owner", [("sklearn", "scikit-learn"), ("PIL", "pillow"), ("pandas", "pandas")])
def test_owners_are_found_whatever_the_module_is_called(module, owner):
    assert packages(*map(Path, site_folders(sys.path))).owners(module) == (owner,)


def test_a_module_that_several_install_belongs_to_all(site):
    install(site, "space_one", "1", "space/one.py")
    install(site, "space_two", "1", "space/two.py", "../../bin/space", "space_two-1.dist-info/RECORD")
    assert packages(site).owners("space") == ("space-one", "space-two")


def test_a_list_of_top_level_modules_is_believed(site):
    install(site, "thing", "1", "x.py", top="other\n")
    assert packages(site).owners("other") == ("thing",)


def test_a_module_of_no_distribution_counts_by_its_content(site):
    (site / "lonely.py").write_text("1")
    found = packages(site)
    assert found.owners("lonely") == ("lonely",)
    before = found.state("lonely")
    (site / "lonely.py").write_text("2")
    assert packages(site).state("lonely") != before


def test_what_is_not_installed_is_absent(site):
    assert packages(site).state("nothing") == "absent"


def test_a_distribution_from_a_folder_counts_by_its_list_of_files_too(site):
    info = install(site, "mine", "1", "mine.py")
    assert packages(site).state("mine") == "1"
    (info / "direct_url.json").write_text("{}")
    before = packages(site).state("mine")
    assert before.startswith("1 blake3:")
    (info / "RECORD").write_text("mine.py,sha256=y,1\n")
    assert packages(site).state("mine") != before


def test_the_first_folder_that_has_a_distribution_wins(site, tmp_path):
    other = tmp_path / "dist-packages"
    other.mkdir()
    install(site, "thing", "1")
    install(other, "thing", "2")
    assert packages(site, other).state("thing") == "1"
    assert packages(other, site).state("thing") == "2"


def test_a_refresh_sees_what_was_installed_meanwhile(site):
    found = packages(site)
    found.refresh()
    assert found.state("thing") == "absent"
    install(site, "thing", "1")
    assert found.state("thing") == "absent", "one moment is one answer"
    found.refresh()
    assert found.state("thing") == "1"


def test_names_of_modules_are_found_in_every_form():
    names = frozenset({"plain.py", "package", "compiled.cpython-311-x86_64-linux-gnu.so", "stable.abi3.so", "text.txt"})
    assert [holds(names, name) for name in ("plain", "package", "stable", "text", "none")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_only_folders_of_packages_are_taken_from_a_path(site, tmp_path):
    assert site_folders([str(tmp_path), str(site), str(tmp_path / "x" / "site-packages")]) == (str(site),)


def test_installed_names_are_those_of_descriptions(site):
    install(site, "b", "1")
    install(site, "a", "2.0rc1")
    (site / "old-1.0-py3.11.egg-info").write_text("")
    (site / "module.py").write_text("")
    assert installed([str(site)]) == ["a-2.0rc1.dist-info", "b-1.dist-info", "old-1.0-py3.11.egg-info"]
    assert packages(site).all() == ["a==2.0rc1", "b==1", "old==1.0"]
