"""Settings and workspaces above a notebook are taken from this user's and root's folders only, and never silently."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from other_user import STRANGER, needs_other_users
from scripted_executor import Bench

from nbpipe.errors import BadCode
from nbpipe.resolve.workspace_layout import FOLDER, SETTINGS, find_workspace

MODULE = 'raise SystemExit("a stranger\'s code")\n'


@pytest.fixture
def above(tmp_path):
    """Get a folder above a notebook's, with settings and a workspace in it."""
    folder = tmp_path / "above"
    (folder / "planted").mkdir(parents=True)
    (folder / SETTINGS).write_text('source = ["planted"]')
    (folder / FOLDER).mkdir()
    (folder / "project").mkdir()
    return folder


def test_settings_and_workspaces_in_one_s_own_folders_are_taken(above):
    layout = find_workspace(above / "project")
    assert (layout.root, layout.source, layout.passed_over) == (above / FOLDER, (above / "planted",), ())


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_nothing_is_taken_from_a_folder_that_everybody_may_write(above, mode):
    above.chmod(mode)
    layout = find_workspace(above / "project")
    assert (layout.root, layout.source) == (above / "project" / FOLDER, ())
    assert layout.passed_over == (f"{above / SETTINGS} is not used: {above} may be written by everybody",)


def test_nothing_is_taken_from_above_a_folder_that_everybody_may_write(above):
    (above / "project").chmod(0o1777)
    for near in (above / "project", above / "project" / "mine"):
        near.mkdir(exist_ok=True)
        layout = find_workspace(near)
        assert (layout.root, layout.source) == (near / FOLDER, ())
        assert "may be written by everybody" in layout.passed_over[0]


def test_what_is_passed_over_is_told_only_where_there_is_something(above):
    above.chmod(0o777)
    (above / SETTINGS).unlink()
    (above / FOLDER).rmdir()
    (above / "project" / FOLDER).mkdir()
    assert find_workspace(above / "project").passed_over == ()


@needs_other_users
@pytest.mark.parametrize("named", [SETTINGS, FOLDER])
def test_what_a_stranger_owns_in_a_folder_of_ours_is_passed_over(above, named):
    os.chown(above / named, STRANGER.number, STRANGER.number)
    if named == FOLDER:
        (above / SETTINGS).unlink()
    layout = find_workspace(above / "project")
    assert f"{above / named} is not used: it belongs to user {STRANGER.number}" in layout.passed_over
    assert (layout.source, layout.root.parent) == ((), above / "project" if named == FOLDER else above)


@needs_other_users
def test_settings_in_a_folder_of_a_group_that_is_not_ours_are_passed_over(above):
    for path in (above, above / SETTINGS):
        os.chown(path, STRANGER.number, STRANGER.number)
    above.chmod(0o2775)
    assert find_workspace(above).source == ()


@needs_other_users
def test_the_search_ends_at_a_stranger_s_folder(above):
    os.chown(above, STRANGER.number, STRANGER.number)
    layout = find_workspace(above / "project")
    assert (layout.root, layout.source) == (above / "project" / FOLDER, ())
    assert f"{above} belongs to user {STRANGER.number}" in layout.passed_over[0]


@needs_other_users
def test_a_folder_that_is_shared_with_a_group_of_ours_counts(above):
    os.chown(above, STRANGER.number, os.getegid())
    above.chmod(0o2775)
    os.chown(above / SETTINGS, STRANGER.number, os.getegid())
    layout = find_workspace(above / "project")
    assert (layout.root, layout.source) == (above / FOLDER, (above / "planted",))


def test_what_is_passed_over_is_a_warning_of_the_plan(above):
    above.chmod(0o777)
    bench = Bench(above / "project", ["%%step a -o x\nx = 1"])
    warnings = bench.plan().warnings
    assert [warning.code for warning in warnings] == ["workspace"]
    assert "may be written by everybody" in warnings[0].message


IMPORTING = ["%%step a -o x\nimport colorsys, tabnanny\nx = 1"]


def test_a_module_beside_the_notebook_that_hides_another_is_told(tmp_path):
    (tmp_path / "colorsys.py").write_text(MODULE)
    warnings = Bench(tmp_path, IMPORTING).plan().warnings
    assert [(warning.code, warning.place.step) for warning in warnings] == [("shadowed-module", "a")]
    hidden = Path(os.__file__).parent / "colorsys.py"
    assert warnings[0].message == f"`colorsys` is {tmp_path / 'colorsys.py'}, and hides {hidden}"


def test_a_module_of_another_folder_must_not_hide_one(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / SETTINGS).write_text('source = ["src"]')
    (tmp_path / "src" / "colorsys.py").write_text(MODULE)
    with pytest.raises(BadCode, match=r"src/colorsys\.py, and hides .*, which a folder of `source` must not"):
        Bench(tmp_path, IMPORTING).plan()


def test_a_package_that_is_installed_from_the_folder_itself_hides_nothing(tmp_path, monkeypatch):
    (tmp_path / "src" / "mine").mkdir(parents=True)
    (tmp_path / "src" / "mine" / "__init__.py").write_text("")
    (tmp_path / SETTINGS).write_text('source = ["src"]')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))
    monkeypatch.syspath_prepend(tmp_path / "src")
    assert Bench(tmp_path, ["%%step a -o x\nimport mine\nx = 1"]).plan().warnings == ()
