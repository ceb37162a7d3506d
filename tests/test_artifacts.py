"""An artifact is its bytes: published once, checked before use, copied out unchanged."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.data import artifacts
from nbpipe.data.datastores import LocalStore, MemoryStore
from nbpipe.data.digests import Forgetful, file_digest
from nbpipe.errors import BadUsage, FileMissing, StoreOutOfReach
from nbpipe.model import Artifact

FRESH = Forgetful()


def staged(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "a store")


@pytest.fixture
def table(store, tmp_path) -> Artifact:
    return artifacts.publish(store, staged(tmp_path / "s", {"x.json": "[1]"}) / "x.json", name="x", format="json")


@pytest.fixture
def plots(store, tmp_path) -> Artifact:
    folder = staged(tmp_path / "s/plots", {"a.png": "1", "deep/b.png": "22"})
    return artifacts.publish(store, folder, name="plots", format="dir")


def test_a_published_file_is_known_by_its_bytes(table, store):
    path = artifacts.local_path(table)

    assert (table.name, table.format, table.bytes, table.basename) == ("x", "json", 3, "x.json")
    assert table.uri.startswith("file:///")
    assert file_digest(path) == table.digest
    assert artifacts.check(store, table, FRESH) is None


def test_a_published_folder_is_known_by_its_tree(plots, store):
    assert (plots.format, plots.bytes, plots.basename) == ("dir", 3, "plots")
    assert artifacts.local_path(plots).is_dir()
    assert artifacts.check(store, plots, FRESH) is None


def test_a_file_of_any_suffix_is_a_file(store, tmp_path):
    made = artifacts.publish(
        store, staged(tmp_path / "s", {"report.html": "x"}) / "report.html", name="report", format="file.html"
    )

    assert (made.format, made.is_path, made.basename) == ("file", True, "report.html")


def test_equal_outputs_are_one_object(store, tmp_path):
    one = artifacts.publish(store, staged(tmp_path / "1", {"x.json": "[1]"}) / "x.json", name="x", format="json")
    two = artifacts.publish(store, staged(tmp_path / "2", {"x.json": "[1]"}) / "x.json", name="y", format="json")

    assert (one.uri, one.digest) == (two.uri, two.digest)


def test_what_was_not_written_as_declared_is_refused(store, tmp_path):
    file = staged(tmp_path / "s", {"x": ""}) / "x"

    with pytest.raises(FileMissing, match="output `x` is declared as dir, but a file was written"):
        artifacts.publish(store, file, name="x", format="dir")
    with pytest.raises(FileMissing, match="a folder was"):
        artifacts.publish(store, file.parent, name="x", format="file")
    with pytest.raises(FileMissing, match="nothing was"):
        artifacts.publish(store, tmp_path / "none", name="x", format="json")


def test_a_memory_store_takes_artifacts_too(tmp_path):
    store = MemoryStore()
    made = artifacts.publish(store, staged(tmp_path / "s", {"x.json": "[1]"}) / "x.json", name="x", format="json")

    assert artifacts.check(store, made, FRESH) is None
    with pytest.raises(StoreOutOfReach, match="not lie on this machine"):
        artifacts.local_path(made)


class Dropping(MemoryStore):
    """A store that loses the end of what it is given."""

    def put(self, staged: Path, digest: str, basename: str) -> str:
        """Keep all but the last byte."""
        staged.write_bytes(staged.read_bytes()[:-1])
        return super().put(staged, digest, basename)


def test_a_short_object_is_noticed_at_once(tmp_path):
    """REUSE F25."""
    with pytest.raises(StoreOutOfReach, match="did not reach its datastore whole"):
        artifacts.publish(Dropping(), staged(tmp_path / "s", {"x.json": "[1]"}) / "x.json", name="x", format="json")


def damage(path: Path, content: str) -> None:
    path.chmod(0o644)
    path.write_text(content)


def test_check_tells_what_is_wrong(table, plots, store, tmp_path):
    path = artifacts.local_path(table)
    damage(path, "[2]")
    assert "damaged" in str(artifacts.check(store, table, FRESH))
    damage(path, "[")
    assert "1 bytes in its datastore, not the 3" in str(artifacts.check(store, table, FRESH))
    path.unlink()
    assert "no longer" in str(artifacts.check(store, table, FRESH))
    (artifacts.local_path(plots) / "deep/b.png").rename(artifacts.local_path(plots) / "deep/c.png")
    assert "damaged" in str(artifacts.check(store, plots, FRESH))
    assert "another datastore" in str(artifacts.check(LocalStore(tmp_path / "other"), plots, FRESH))


def test_a_remembered_digest_saves_the_reading(table, store):
    class Sure(Forgetful):
        """Remembers one digest for everything."""

        def recall(self, path: Path) -> str | None:
            """Get it."""
            return table.digest

    damage(artifacts.local_path(table), "[2]")

    assert artifacts.check(store, table, Sure()) is None


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_path_survives_its_address(name):
    path = Path("/data") / name
    if name not in (".", ".."):
        artifact = Artifact("x", "file", "", 0, path.as_uri(), name)

        assert artifacts.local_path(artifact) == path


def test_a_file_is_copied_out_to_exactly_that_path(table, tmp_path):
    target = tmp_path / "deep/out.anything"
    artifacts.copy_out(table, target)
    artifacts.copy_out(table, target)

    assert target.read_text() == "[1]"
    assert target.stat().st_mode & stat.S_IWUSR
    assert [entry.name for entry in target.parent.iterdir()] == ["out.anything"]


def test_a_folder_is_copied_out_as_a_folder_and_again(plots, tmp_path):
    target = tmp_path / "out"
    artifacts.copy_out(plots, target)
    (target / "a.png").write_text("edited")
    artifacts.copy_out(plots, target)

    assert {path.name: path.read_text() for path in target.rglob("*.png")} == {"a.png": "1", "b.png": "22"}


def test_copying_out_never_removes_what_is_not_ours(table, plots, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious.txt").write_text("")
    with pytest.raises(BadUsage, match=r"holds `.*precious.txt`"):
        artifacts.copy_out(plots, tmp_path / "home")
    with pytest.raises(BadUsage, match="is a folder, and the output is a file"):
        artifacts.copy_out(table, tmp_path / "home")
    with pytest.raises(BadUsage, match="is a file, and the output is a folder"):
        artifacts.copy_out(plots, tmp_path / "home/precious.txt")

    assert (tmp_path / "home/precious.txt").exists()


def test_a_damaged_output_is_not_handed_out(table, tmp_path):
    damage(artifacts.local_path(table), "[2]")
    with pytest.raises(StoreOutOfReach, match="damaged"):
        artifacts.copy_out(table, tmp_path / "out")
    with pytest.raises(StoreOutOfReach, match="no longer"):
        artifacts.copy_out(dataclasses.replace(table, uri="file:///nowhere/x"), tmp_path / "out")

    assert not (tmp_path / "out").exists()
