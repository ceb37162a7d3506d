"""An artifact is its bytes: published once, checked before use, copied out unchanged."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from nbpipe.data import artifacts
from nbpipe.data.datastores import LocalStore, MemoryStore
from nbpipe.data.digests import NoDigestCache, file_digest
from nbpipe.data.materializer import Materializer
from nbpipe.errors import BadUsage, FileMissing, StoreOutOfReach
from nbpipe.model import Artifact, ObjectReference

FRESH = NoDigestCache()


def staged(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "a store")


@pytest.fixture
def stores(store):
    return Materializer({"default": store})


@pytest.fixture
def table(store, tmp_path) -> Artifact:
    return artifacts.publish(store, staged(tmp_path / "s", {"x.json": "[1]"}) / "x.json", name="x", format="json")


@pytest.fixture
def plots(store, tmp_path) -> Artifact:
    folder = staged(tmp_path / "s/plots", {"a.png": "1", "deep/b.png": "22"})
    return artifacts.publish(store, folder, name="plots", format="dir")


def test_a_published_file_is_known_by_its_bytes(table, stores):
    path = stores.path(table)

    assert table == Artifact("x", "json", ObjectReference("default", file_digest(path), "x.json", 3))
    assert (table.digest, table.bytes, table.basename) == (file_digest(path), 3, "x.json")
    assert stores.url(table) == f"file://{path}"
    assert artifacts.check(stores, table, FRESH) is None


def test_a_published_folder_is_known_by_its_tree(plots, stores):
    assert (plots.format, plots.bytes, plots.basename) == ("dir", 3, "plots")
    assert stores.path(plots).is_dir()
    assert artifacts.check(stores, plots, FRESH) is None


def test_a_file_of_any_suffix_is_a_file(store, tmp_path):
    made = artifacts.publish(
        store, staged(tmp_path / "s", {"report.html": "x"}) / "report.html", name="report", format="file.html"
    )

    assert (made.format, made.is_path, made.basename) == ("file", True, "report.html")


def test_equal_outputs_are_one_object(store, tmp_path):
    one = artifacts.publish(store, staged(tmp_path / "1", {"x.json": "[1]"}) / "x.json", name="x", format="json")
    two = artifacts.publish(store, staged(tmp_path / "2", {"x.json": "[1]"}) / "x.json", name="y", format="json")

    assert one.reference == two.reference


def test_what_was_not_written_as_declared_is_refused(store, tmp_path):
    file = staged(tmp_path / "s", {"x": ""}) / "x"

    with pytest.raises(FileMissing, match="output `x` is declared as dir, but a file was written"):
        artifacts.publish(store, file, name="x", format="dir")
    with pytest.raises(FileMissing, match="a folder was"):
        artifacts.publish(store, file.parent, name="x", format="file")
    with pytest.raises(FileMissing, match="nothing was"):
        artifacts.publish(store, tmp_path / "none", name="x", format="json")


def test_a_memory_store_takes_artifacts_too(tmp_path):
    store = MemoryStore("quick")
    stores = Materializer({"default": LocalStore(tmp_path / "other"), "quick": store})
    file = staged(tmp_path / "s", {"x.json": "[1]"}) / "x.json"
    made = artifacts.publish(store, file, name="x", format="json")

    assert artifacts.check(stores, made, FRESH) is None
    assert stores.path(made).read_text() == "[1]"
    assert stores.url(made).startswith("memory://")


class Dropping(MemoryStore):
    """A store that loses the end of what it is given."""

    def put(self, staged: Path, artifact: Artifact, _like: ObjectReference | None = None, /) -> None:
        """Keep all but the last byte."""
        for path in staged.rglob("*") if staged.is_dir() else [staged]:
            path.write_bytes(path.read_bytes()[:-1])
        super().put(staged, artifact)


def test_a_short_object_is_noticed_at_once(tmp_path):
    """REUSE F25."""
    with pytest.raises(StoreOutOfReach, match="was not stored completely"):
        artifacts.publish(Dropping(), staged(tmp_path / "s", {"x.json": "[1]"}) / "x.json", name="x", format="json")
    with pytest.raises(StoreOutOfReach, match="was not stored completely"):
        artifacts.publish(Dropping(), staged(tmp_path / "f", {"a": "1", "b": "2"}), name="f", format="dir")


def damage(path: Path, content: str) -> None:
    path.chmod(0o644)
    path.write_text(content)


def test_check_tells_what_is_wrong(table, plots, stores):
    path = stores.path(table)
    damage(path, "[2]")
    assert "damaged" in str(artifacts.check(stores, table, FRESH))
    damage(path, "[")
    assert "1 bytes in its datastore, not the 3" in str(artifacts.check(stores, table, FRESH))
    path.unlink()
    assert "no longer" in str(artifacts.check(stores, table, FRESH))
    folder = stores.path(plots)
    (folder / "deep/b.png").rename(folder / "deep/c.png")
    assert "damaged" in str(artifacts.check(stores, plots, FRESH))


def test_a_store_that_is_not_known_is_one_error_that_names_those_that_are(table, tmp_path):
    other = Materializer({"lake": MemoryStore(), "blob": MemoryStore()})
    asked = [
        lambda: artifacts.check(other, table, FRESH),
        lambda: artifacts.copy_out(other, table, tmp_path / "out"),
        lambda: other.locate(table),
        lambda: other.path(table),
        lambda: other.url(table),
    ]
    said = set()
    for ask in asked:
        with pytest.raises(StoreOutOfReach, match="is in the datastore `default`, which") as raised:
            ask()
        said.add(str(raised.value))

    assert len(said) == 1
    assert raised.value.hint == "It knows: `blob`, `lake`."


def test_an_object_that_is_gone_has_no_path_but_an_address(table, stores):
    stores.path(table).unlink()

    with pytest.raises(StoreOutOfReach, match=r"`x.json` .* is no longer in the datastore `default`"):
        stores.path(table)
    assert stores.url(table).endswith("/x.json")


def test_a_remembered_digest_saves_the_reading(table, stores):
    class Sure(NoDigestCache):
        """Remembers one digest for everything."""

        def recall(self, path: Path) -> str | None:
            """Get it."""
            return table.digest

    damage(stores.path(table), "[2]")

    assert artifacts.check(stores, table, Sure()) is None


def test_a_file_is_copied_out_to_exactly_that_path(table, stores, tmp_path):
    target = tmp_path / "deep/out.anything"
    artifacts.copy_out(stores, table, target)
    artifacts.copy_out(stores, table, target)

    assert target.read_text() == "[1]"
    assert target.stat().st_mode & stat.S_IWUSR
    assert [entry.name for entry in target.parent.iterdir()] == ["out.anything"]


def test_a_folder_is_copied_out_as_a_folder_and_again(plots, stores, tmp_path):
    target = tmp_path / "out"
    artifacts.copy_out(stores, plots, target)
    (target / "a.png").write_text("edited")
    artifacts.copy_out(stores, plots, target)

    assert {path.name: path.read_text() for path in target.rglob("*.png")} == {"a.png": "1", "b.png": "22"}


def test_copying_out_never_removes_what_is_not_ours(table, plots, stores, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious.txt").write_text("")
    with pytest.raises(BadUsage, match=r"holds `.*precious.txt`"):
        artifacts.copy_out(stores, plots, tmp_path / "home")
    with pytest.raises(BadUsage, match="is a folder, and the output is a file"):
        artifacts.copy_out(stores, table, tmp_path / "home")
    with pytest.raises(BadUsage, match="is a file, and the output is a folder"):
        artifacts.copy_out(stores, plots, tmp_path / "home/precious.txt")

    assert (tmp_path / "home/precious.txt").exists()


def test_a_damaged_output_is_not_handed_out(table, stores, tmp_path):
    damage(stores.path(table), "[2]")
    with pytest.raises(StoreOutOfReach, match="damaged"):
        artifacts.copy_out(stores, table, tmp_path / "out")
    gone = dataclasses.replace(table, reference=dataclasses.replace(table.reference, digest="blake3:" + "0" * 64))
    with pytest.raises(StoreOutOfReach, match="no longer"):
        artifacts.copy_out(stores, gone, tmp_path / "out")

    assert not (tmp_path / "out").exists()
