"""What holds of outputs in every kind of datastore; tests/test_object_stores.py runs it on each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from nbpipe.data.artifacts import check, copy_out, publish
from nbpipe.data.digests import NoDigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.remote_artifacts import RemoteArtifacts
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import Artifact
from nbpipe.model.datastores import StoredObject

SMALL_FILES = 30


def outputs_in(store: ObjectStore, cache: Path, known: dict[str, StoredObject] | None = None) -> RemoteArtifacts:
    """Get the outputs in a datastore as a machine with this cache sees them."""
    return RemoteArtifacts(store, ObjectCache(cache), "here", lambda _address, _keys: dict(known or {}))


def read_by(outputs: RemoteArtifacts) -> Materializer:
    return Materializer({outputs.name: outputs})


def staged_folder(folder: Path, **changed: bytes) -> Path:
    """Make a folder with small files in two levels, one of which is empty, and two large ones."""
    files = {f"part{number}.txt": str(number).encode() for number in range(SMALL_FILES)}
    files |= {"deep/empty": b"", "deep/ü ?#.bin": b"x" * 100_000, "large.bin": b"y" * 70_000, "same.txt": b"7"}
    for path, content in {**files, **changed}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def published(outputs: RemoteArtifacts, staged: Path, **more: Any) -> Artifact:
    return publish(outputs, staged, name=staged.stem, format="dir" if staged.is_dir() else "file", **more)


class Counted:
    """A datastore that notes which objects are asked about one by one."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def find_many(self, keys: Iterable[str]) -> Any:
        """Note the keys."""
        listed = list(keys)
        self.asked += listed
        return self._store.find_many(listed)


class OutputsContract:
    """What holds of outputs in a datastore; a subclass has a fixture ``store``."""

    def test_an_output_is_read_on_another_machine(self, store, tmp_path):
        (tmp_path / "model.bin").write_bytes(b"some data")
        output = published(outputs_in(store, tmp_path / "here"), tmp_path / "model.bin")
        there = read_by(outputs_in(store, tmp_path / "there"))

        assert output.reference.store == store.name
        assert not there.locate(output).exists()
        assert there.path(output).read_bytes() == b"some data"
        assert there.path(output).stat().st_mode & 0o777 == 0o400
        assert check(there, output, NoDigestCache()) is None
        copy_out(there, output, tmp_path / "copy.bin")
        assert (tmp_path / "copy.bin").read_bytes() == b"some data"

    def test_a_folder_is_read_on_another_machine(self, store, tmp_path):
        staged = staged_folder(tmp_path / "plots")
        content = content_of(staged)
        output = published(outputs_in(store, tmp_path / "here"), staged)
        there = read_by(outputs_in(store, tmp_path / "there"))

        assert content_of(there.path(output)) == content
        # The manifest, two large files, and one pack of all small ones.
        assert len(list(store.list())) == 4
        assert check(there, output, NoDigestCache()) is None

    def test_of_a_folder_only_what_is_new_is_uploaded(self, store, tmp_path):
        here = outputs_in(store, tmp_path / "here")
        first = published(here, staged_folder(tmp_path / "1/plots"))
        before = {info.key for info in store.list()}
        staged = staged_folder(tmp_path / "2/plots", **{"part3.txt": b"changed"})
        content = content_of(staged)
        second = published(here, staged, like=first.reference)

        new = [info for info in store.list() if info.key not in before]
        assert sorted(info.key.partition("/")[0] for info in new) == ["objects", "packs"]
        assert [info.size for info in new if info.key.startswith("packs/")] == [len(b"changed")]
        assert content_of(read_by(outputs_in(store, tmp_path / "there")).path(second)) == content

    def test_many_outputs_are_found_by_one_listing(self, store, tmp_path):
        here = outputs_in(store, tmp_path / "here")
        outputs = []
        for number in range(100):
            (tmp_path / f"x{number}.bin").write_text(str(number))
            outputs.append(published(here, tmp_path / f"x{number}.bin"))
        known = {each.info.key: each for each in here.take_written()}
        gone = next(key for key in known if key.endswith("/x7.bin"))
        store.delete([gone])
        counted = Counted(store)
        there = outputs_in(counted, tmp_path / "there", known)  # type: ignore[arg-type]  # it is one
        there.look_up(outputs)

        assert counted.asked == [gone]
        assert "no longer in its datastore" in str(there.find_damage(outputs[7], NoDigestCache()))
        assert [there.find_damage(each, NoDigestCache()) for each in outputs if each is not outputs[7]] == [None] * 99

    def test_a_missing_output_is_noticed(self, store, tmp_path):
        (tmp_path / "x.bin").write_bytes(b"data")
        output = published(outputs_in(store, tmp_path / "here"), tmp_path / "x.bin")
        store.delete(info.key for info in list(store.list()))
        there = read_by(outputs_in(store, tmp_path / "there"))

        assert "no longer in its datastore" in str(check(there, output, NoDigestCache()))
        with pytest.raises(StoreOutOfReach, match="does not exist"):
            there.path(output)

    def test_an_output_that_was_overwritten_is_noticed_and_stored_anew(self, store, tmp_path):
        """REUSE C15."""
        (tmp_path / "x.bin").write_bytes(b"data")
        here = outputs_in(store, tmp_path / "here")
        output = published(here, tmp_path / "x.bin")
        known = {each.info.key: each for each in here.take_written()}
        (key,) = known
        store.put(key, b"atad")

        assert "is damaged" in str(check(read_by(outputs_in(store, tmp_path / "1", known)), output, NoDigestCache()))
        there = outputs_in(store, tmp_path / "2")
        with pytest.raises(StoreOutOfReach, match="is not what was published"):
            there.fetch(output)
        assert store.find(key) is None
        (tmp_path / "x.bin").write_bytes(b"data")
        assert published(there, tmp_path / "x.bin") == output
        assert read_by(outputs_in(store, tmp_path / "3")).path(output).read_bytes() == b"data"

    def test_whoever_doubts_reads_all_bytes(self, store, tmp_path):
        here = outputs_in(store, tmp_path / "here")
        (tmp_path / "x.bin").write_bytes(b"data")
        outputs = [published(here, tmp_path / "x.bin"), published(here, staged_folder(tmp_path / "plots"))]
        here.doubt()
        assert [here.find_damage(each, NoDigestCache()) for each in outputs] == [None, None]
        for info in list(store.list()):
            content = store.read(info.key)
            store.put(info.key, content[::-1])
            wrong = [each for each in outputs if here.find_damage(each, NoDigestCache()) is not None]
            assert wrong or content == content[::-1], info.key
            store.put(info.key, content)
        store.delete([next(info.key for info in store.list("packs"))])
        assert here.find_damage(outputs[1], NoDigestCache()) == "is no longer in its datastore"

    def test_a_file_of_a_folder_that_was_overwritten_is_noticed(self, store, tmp_path):
        here = outputs_in(store, tmp_path / "here")
        output = published(here, staged_folder(tmp_path / "1/plots"))
        for kind, start in (("packs/", b"9"), ("objects/", b"z")):
            damaged = next(info for info in store.list(kind) if not info.key.endswith(".tree"))
            content = store.read(damaged.key)
            store.put(damaged.key, start * len(content))
            with pytest.raises(StoreOutOfReach, match="not what was published"):
                outputs_in(store, tmp_path / f"{kind}there").fetch(output)
            # What is stored next, like it, does not refer to what is gone.
            staged = staged_folder(tmp_path / kind / "plots")
            again = published(outputs_in(store, tmp_path / f"{kind}again"), staged, like=output.reference)
            assert len(content_of(read_by(outputs_in(store, tmp_path / f"{kind}other")).path(again))) == SMALL_FILES + 4

    def test_a_folder_without_its_manifest_needs_nothing_else(self, store, tmp_path):
        outputs = outputs_in(store, tmp_path / "cache")
        output = published(outputs, staged_folder(tmp_path / "made"))
        keys = outputs.keys_of(output)
        (manifest,) = (key for key in keys if key.endswith(".tree"))
        outputs.remove([manifest])

        assert len(keys) > 1
        assert outputs.keys_of(output) == outputs.missing(keys) == {manifest}

        store.put(manifest, b"[")
        with pytest.raises(StoreOutOfReach, match="is damaged"):
            outputs.keys_of(output)
