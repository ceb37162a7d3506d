"""Where a workspace lies, what its settings say, and that everything else about them is refused in words."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nbpipe.errors import BadUsage, StoreOutOfReach
from nbpipe.resolve.workspace_layout import (
    FOLDER,
    SETTINGS,
    EnvironmentPolicy,
    absolute,
    find_workspace,
    make_workspace,
    settings_near,
    write_settings,
)


def test_without_any_the_workspace_is_beside_the_notebook(tmp_path):
    assert find_workspace(tmp_path).root == tmp_path / FOLDER
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("sign", [FOLDER, SETTINGS])
def test_the_nearest_workspace_upward_is_the_one(tmp_path, sign):
    near = tmp_path / "a" / "b" / "c"
    near.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "a"):
        (folder / sign).mkdir() if sign == FOLDER else (folder / sign).write_text("")

    assert find_workspace(near).root == tmp_path / "a" / FOLDER


def test_a_file_called_like_the_folder_is_no_workspace(tmp_path):
    near = tmp_path / "a"
    near.mkdir()
    (near / FOLDER).write_text("")
    (tmp_path / SETTINGS).write_text("")

    assert find_workspace(near).root == tmp_path / FOLDER


def test_a_named_workspace_holds_everything_and_settings_still_count(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / SETTINGS).write_text('source = ["src"]')
    place = find_workspace(tmp_path, tmp_path / "other")

    assert place.root == tmp_path / "other"
    assert place.source == (tmp_path / "src",)
    assert place.database.parent == place.store.parent == place.root
    assert place.path(place.attempt_directory("r1", "train", "a1")) == place.root / "runs" / "r1" / "train" / "a1"


def test_settings_of_other_libraries_are_named_in_the_workspace(tmp_path):
    text = (
        '[settings]\n"mylib.configure" = "mylib"\n"mylib.get().*" = ["mylib", "any module"]\n"%mylib" = "every step"\n'
    )
    (tmp_path / SETTINGS).write_text(text)

    assert find_workspace(tmp_path).more_settings == {
        "mylib.configure": ("mylib",), "mylib.get().*": ("mylib", "any module"), "%mylib": ("every step",),
    }  # fmt: skip
    (tmp_path / "sub").mkdir()
    assert settings_near(tmp_path / "sub") == settings_near(tmp_path)
    (tmp_path / SETTINGS).write_text("settings = 1")
    assert settings_near(tmp_path) == {}


def test_the_policy_of_reuse_is_a_setting(tmp_path):
    assert find_workspace(tmp_path).policy == EnvironmentPolicy("observed", "patch")
    (tmp_path / SETTINGS).write_text('[reuse]\npackages = "strict"\npython = "minor"\n')
    assert find_workspace(tmp_path, tmp_path / "other").policy == EnvironmentPolicy("strict", "minor")


@pytest.mark.parametrize(
    "text, said",
    [
        ("reuse = 1", "not a table"),
        ('[reuse]\npackage = "strict"', "Did you mean `packages`"),
        ('[reuse]\npackages = "none"', '"observed" or "strict"'),
        ("[reuse]\npython = 3", '"patch" or "minor"'),
        ("[reuse]\npackages = []", "observed"),
        ("settings = 1", "not a table"),
        ('[settings]\n"np printoptions" = ""', "It may be the name of a library"),
        ('[settings]\n"np.set-it" = "np"', "with its module"),
        ('[settings]\n"mylib.configure" = []', "every step"),
        ('[settings]\n"mylib.configure" = "my lib"', "every step"),
    ],
)
def test_a_policy_that_is_none_is_refused(tmp_path, text, said):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(BadUsage, match=said):
        find_workspace(tmp_path)


def test_the_settings_that_are_written_are_the_defaults(tmp_path):
    write_settings(tmp_path)
    assert find_workspace(tmp_path).policy == EnvironmentPolicy()


def test_a_workspace_keeps_itself_out_of_git(tmp_path):
    place = find_workspace(tmp_path)
    make_workspace(place)
    make_workspace(place)

    assert (place.root / ".gitignore").read_text() == "*\n"


def test_an_ignore_file_that_somebody_changed_stays(tmp_path):
    place = find_workspace(tmp_path)
    make_workspace(place)
    (place.root / ".gitignore").write_text("store\n")
    make_workspace(place)

    assert (place.root / ".gitignore").read_text() == "store\n"


def test_many_can_make_one_workspace_at_once(tmp_path):
    start = threading.Barrier(8)
    errors = []

    def make() -> None:
        start.wait()
        try:
            make_workspace(find_workspace(tmp_path))
        except StoreOutOfReach as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert (tmp_path / FOLDER / ".gitignore").read_text() == "*\n"


def test_a_workspace_that_cannot_be_made_is_told_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreOutOfReach, match="cannot be made") as caught:
        make_workspace(find_workspace(tmp_path, tmp_path / "file" / "inside"))

    assert "--workspace" in caught.value.hint


@pytest.mark.parametrize(
    "text, message",
    [
        ("source = [", "cannot be read"),
        ("sources = ['src']", "has the key `sources`"),
        ("source = 'src'", "not a list of folders"),
        ("source = [1]", "not a list of folders"),
        ("source = ['nowhere']", "'nowhere', which is not a folder"),
        ("\udcff", "cannot be read"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, text, message):
    (tmp_path / SETTINGS).write_bytes(os.fsencode(text))

    with pytest.raises(BadUsage, match=message) as caught:
        find_workspace(tmp_path)
    assert str(tmp_path / SETTINGS) in caught.value.message


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path):
    (tmp_path / SETTINGS).write_text("sorce = []")

    with pytest.raises(BadUsage) as caught:
        find_workspace(tmp_path)
    assert "`source`" in caught.value.hint


def test_settings_written_by_us_are_read_by_us_and_never_replaced(tmp_path):
    write_settings(tmp_path)
    assert find_workspace(tmp_path).source == ()
    (tmp_path / SETTINGS).write_text("source = ['.']")
    write_settings(tmp_path)

    assert find_workspace(tmp_path).source == (tmp_path,)


def test_a_notebooks_identity_keeps_the_links_that_its_author_wrote(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)

    assert absolute(Path("link/./x/../n.ipynb")) == tmp_path / "link" / "n.ipynb"
