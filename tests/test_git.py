"""The author's repository as it is at submit: told without credentials, and left as it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nbpipe.resolve.git import git_state, without_credentials

AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    """Run git as an author does."""
    command = ["git", *AUTHOR, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    """Get a repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.py").write_text("one\ntwo\nthree\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_repository(repository):
    state = git_state(repository)

    assert (state.branch, state.dirty, state.patch, state.remote) == ("main", False, "", "")
    assert state.commit == git(repository, "rev-parse", "HEAD").strip()


def test_the_state_is_that_of_the_whole_repository_from_any_folder_of_it(repository):
    (repository / "sub").mkdir()
    (repository / "a.py").write_text("changed\n")

    assert git_state(repository / "sub") == git_state(repository)


def test_the_patch_makes_the_commit_what_the_author_had(repository, tmp_path):
    """It applies: every blank and line end is in it."""
    text = "one\nzwei  \n\n\tthree"
    (repository / "a.py").write_text(text)
    state = git_state(repository)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    (tmp_path / "it.patch").write_text(state.patch)
    git(clone, "apply", "--whitespace=nowarn", str(tmp_path / "it.patch"))

    assert state.dirty
    assert (clone / "a.py").read_text() == text


def test_staged_changes_are_in_the_patch(repository):
    (repository / "a.py").write_text("staged\n")
    git(repository, "add", ".")

    assert "+staged" in git_state(repository).patch


def test_a_file_that_git_does_not_know_makes_it_dirty(repository):
    (repository / "new.txt").write_text("new")

    assert (git_state(repository).dirty, git_state(repository).patch) == (True, "")


def test_ignored_files_do_not_count(repository):
    (repository / ".git" / "info" / "exclude").write_text(".nbpipe\n")
    (repository / ".nbpipe").mkdir()
    (repository / ".nbpipe" / "history.db").write_text("")

    assert not git_state(repository).dirty


def test_a_detached_head_has_no_branch(repository):
    git(repository, "checkout", "-q", "--detach")

    assert git_state(repository).branch == ""


def test_no_repository_no_state(tmp_path):
    assert git_state(tmp_path) is None


def test_a_repository_without_a_commit_has_no_state(tmp_path):
    git(tmp_path, "init", "-q")

    assert git_state(tmp_path) is None


def test_a_folder_that_is_gone_has_no_state(tmp_path):
    assert git_state(tmp_path / "nowhere") is None


def test_without_git_there_is_no_state(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))

    assert git_state(repository) is None


def test_another_repository_that_the_environment_names_is_not_looked_at(repository, tmp_path, monkeypatch):
    """Inside a git hook these variables are set."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    commit = git(repository, "rev-parse", "HEAD").strip()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))

    assert git_state(repository).commit == commit
    assert not git_state(repository).dirty


def test_looking_changes_nothing_and_runs_nothing(repository, tmp_path):
    """Neither the index nor a program that a configuration names."""
    mark = tmp_path / "ran"
    (repository / ".gitattributes").write_text("*.py diff=own\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "config", "diff.own.textconv", f"touch {mark};cat")
    git(repository, "config", "diff.external", f"touch {mark};true")
    git(repository, "config", "core.fsmonitor", f"touch {mark};true")
    (repository / "a.py").write_text("four\n")
    os.utime(repository / "a.py", (1, 1))
    before = (repository / ".git" / "index").read_bytes()
    state = git_state(repository)

    assert "+four" in state.patch
    assert not mark.exists()
    assert (repository / ".git" / "index").read_bytes() == before


def test_a_change_that_is_no_text_does_not_break_it(repository):
    (repository / "a.py").write_bytes(b"\xff\xfe\x00binary")
    (repository / "b.py").write_bytes(b"latin-1: \xe9\n")
    git(repository, "add", ".")

    assert "latin-1: \ufffd" in git_state(repository).patch


@pytest.mark.parametrize(
    "url, told",
    [
        ("https://github.com/o/r.git", "https://github.com/o/r.git"),
        ("https://user:hunter2@github.com/o/r.git", "https://github.com/o/r.git"),
        ("https://hunter2@github.com/o/r", "https://github.com/o/r"),
        ("https://user:hunter2@x@github.com/o/r", "https://github.com/o/r"),
        ("https://user:hun#ter2@github.com/o/r", "https://github.com/o/r"),
        ("https://user:hun?ter2@github.com/o/r", "https://github.com/o/r"),
        ("https://github.com/o/r?token=hunter2", "https://github.com/o/r"),
        ("https://github.com/o/r#hunter2", "https://github.com/o/r"),
        ("https://[::1]:8080/o/r", "https://[::1]:8080/o/r"),
        ("https://user:hunter2@[::1]:8080/o/r", "https://[::1]:8080/o/r"),
        ("https://host/o/r@v1", "https://host/o/r@v1"),
        ("ssh://git:hunter2@host:22/o/r", "ssh://host:22/o/r"),
        ("git@github.com:o/r.git", "git@github.com:o/r.git"),
        ("user:hunter2@host:o/r.git", "host:o/r.git"),
        ("/srv/git/r.git", "/srv/git/r.git"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_remote_is_told_without_its_credentials(url, told):
    assert without_credentials(url) == told


def test_the_remote_of_a_state_has_no_credentials(repository):
    git(repository, "remote", "add", "origin", "https://user:hunter2@example.org/o/r.git?private_token=hunter2")

    assert git_state(repository).remote == "https://example.org/o/r.git"
    assert "hunter2" not in repr(git_state(repository))


EVIL = "touch '{marker}'; cat"


def _packed(folder: Path, marker: Path, setting: str, attribute: str = "") -> None:
    """Make a repository whose own configuration names a command, as one does that somebody has packed."""
    git(folder, "init", "-q")
    (folder / "data.txt").write_text("one\n")
    git(folder, "add", "data.txt")
    git(folder, "commit", "-q", "-m", "first")
    if attribute:
        (folder / ".gitattributes").write_text(f"*.txt {attribute}\n")
    git(folder, "config", setting, EVIL.format(marker=marker))
    (folder / "data.txt").write_text("two\n")


@pytest.mark.parametrize(
    "setting, attribute",
    [
        ("filter.evil.clean", "filter=evil"),
        ("filter.evil.process", "filter=evil"),
        ("filter.a=b.c.clean", "filter=a=b.c"),
        ("filter.evil.smudge", "filter=evil"),
        ("diff.evil.textconv", "diff=evil"),
        ("diff.evil.command", "diff=evil"),
        ("diff.external", ""),
        ("core.fsmonitor", ""),
        ("core.pager", ""),
    ],
)
def test_no_command_of_a_repository_is_run(tmp_path, setting, attribute):
    marker = tmp_path / "evil"
    (tmp_path / "work").mkdir()
    _packed(tmp_path / "work", marker, setting, attribute)
    marker.unlink(missing_ok=True)
    state = git_state(tmp_path / "work")
    assert state is not None
    assert state.dirty
    assert "+two" in state.patch
    assert not marker.exists()


def test_a_filter_that_must_succeed_is_not_run_either(tmp_path):
    marker = tmp_path / "evil"
    (tmp_path / "work").mkdir()
    _packed(tmp_path / "work", marker, "filter.evil.clean", "filter=evil")
    git(tmp_path / "work", "config", "filter.evil.required", "true")
    state = git_state(tmp_path / "work")
    assert state is not None
    assert "+two" in state.patch
    assert not marker.exists()


def test_no_command_of_a_submodule_is_run(tmp_path):
    marker, inner, work = tmp_path / "evil", tmp_path / "inner", tmp_path / "work"
    for folder in (inner, work):
        folder.mkdir()
    _packed(inner, tmp_path / "unused", "core.pager")
    git(work, "init", "-q")
    git(work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    git(work, "commit", "-q", "-m", "first")
    (work / "sub" / ".gitattributes").write_text("*.txt filter=evil\n")
    git(work / "sub", "config", "filter.evil.clean", EVIL.format(marker=marker))
    (work / "sub" / "data.txt").write_text("two\n")
    assert git_state(work) is not None
    assert not marker.exists()


@pytest.mark.parametrize("setting", ["diff.external", "diff.evil.command", "diff.evil.textconv"])
def test_no_command_of_a_submodule_is_run_to_show_its_commits(tmp_path, setting):
    marker, inner, work = tmp_path / "evil", tmp_path / "inner", tmp_path / "work"
    for folder in (inner, work):
        folder.mkdir()
    _packed(inner, tmp_path / "unused", "core.pager")
    git(work, "init", "-q")
    git(work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    git(work, "commit", "-q", "-m", "first")
    (work / "sub" / ".gitattributes").write_text("*.txt diff=evil\n")
    (work / "sub" / "data.txt").write_text("two\n")
    git(work / "sub", "add", ".")
    git(work / "sub", "commit", "-q", "-m", "second")
    git(work / "sub", "config", setting, EVIL.format(marker=marker))
    git(work, "config", "diff.submodule", "diff")
    state = git_state(work)
    assert state is not None
    assert "+Subproject commit" in state.patch
    assert not marker.exists()
