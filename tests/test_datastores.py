"""Every datastore keeps the same promises: whole or not at all, once, unchanged."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from nbpipe.data.datastores import LocalStore, MemoryStore
from nbpipe.data.digests import Forgetful, content_digest
from nbpipe.errors import StoreOutOfReach

ABSENT = "blake3:" + "0" * 64


def staged_file(folder: Path, content: bytes = b"data", name: str = "x.bin") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def staged_folder(folder: Path) -> Path:
    staged_file(folder / "plots", b"1", "a.png")
    staged_file(folder / "plots/deep", b"2", "ü ?#.png")
    return folder / "plots"


def digest_of(path: Path) -> str:
    return content_digest(path, Forgetful())[0]


class Contract:
    """What any datastore must do; a subclass says how one is made."""

    @pytest.fixture
    def store(self, tmp_path):
        raise NotImplementedError

    def test_what_is_put_is_there(self, store, tmp_path):
        staged = staged_file(tmp_path / "in")
        digest = digest_of(staged)
        assert not store.exists(digest, "x.bin")
        uri = store.put(staged, digest, "x.bin")

        assert uri == store.uri(digest, "x.bin")
        assert store.exists(digest, "x.bin")
        assert store.path(digest, "x.bin").read_bytes() == b"data"
        assert store.path(digest, "x.bin").name == "x.bin"

    def test_a_folder_is_put_as_a_folder(self, store, tmp_path):
        staged = staged_folder(tmp_path / "in")
        digest = digest_of(staged)
        store.put(staged, digest, "plots")

        assert digest_of(store.path(digest, "plots")) == digest
        assert (store.path(digest, "plots") / "deep/ü ?#.png").read_bytes() == b"2"

    def test_putting_the_same_again_changes_nothing(self, store, tmp_path):
        staged = staged_file(tmp_path / "in")
        digest = digest_of(staged)
        first = store.put(staged, digest, "x.bin")
        before = store.path(digest, "x.bin").stat()

        assert store.put(staged_file(tmp_path / "again"), digest, "x.bin") == first
        assert store.path(digest, "x.bin").stat().st_ino == before.st_ino

    def test_the_same_folder_again_changes_nothing(self, store, tmp_path):
        digest = digest_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, digest, "plots")

        store.put(staged_folder(tmp_path / "again"), digest, "plots")
        assert digest_of(store.path(digest, "plots")) == digest

    def test_one_content_may_have_two_names(self, store, tmp_path):
        digest = digest_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, digest, "x.bin")
        store.put(staged_file(tmp_path / "in2"), digest, "y.bin")

        assert store.path(digest, "x.bin").read_bytes() == store.path(digest, "y.bin").read_bytes()

    def test_objects_are_read_only(self, store, tmp_path):
        digest = digest_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, digest, "x.bin")

        assert stat.S_IMODE(store.path(digest, "x.bin").stat().st_mode) == 0o444

    def test_what_is_absent_is_out_of_reach(self, store):
        assert not store.exists(ABSENT, "x")
        with pytest.raises(StoreOutOfReach, match="`x`"):
            store.path(ABSENT, "x")

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..", ".", "", "a/b", "a\0b"])
    def test_a_name_is_one_part_of_a_path(self, store, tmp_path, name):
        with pytest.raises(ValueError, match="name of a file"):
            store.path(ABSENT, name)

    @pytest.mark.parametrize("digest", ["blake3:../..", "x", "", "blake3:" + "0" * 63, "sha256:" + "0" * 64])
    def test_a_digest_is_a_digest(self, store, digest):
        with pytest.raises(ValueError, match="digest"):
            store.uri(digest, "x")

    def test_many_at_once_put_the_same(self, store, tmp_path):
        digest = digest_of(staged_folder(tmp_path / "0"))
        failures: list[BaseException] = []

        def put(number: int) -> None:
            try:
                store.put(staged_folder(tmp_path / str(number)), digest, "plots")
            except StoreOutOfReach as error:
                failures.append(error)

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

        assert failures == []
        assert digest_of(store.path(digest, "plots")) == digest


class TestLocalStore(Contract):
    """In a folder whose name needs quoting in an address."""

    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "store ü#?%20")

    def test_objects_lie_by_content(self, store, tmp_path):
        digest = digest_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, digest, "x.bin")
        key = digest.removeprefix("blake3:")

        assert store.path(digest, "x.bin") == tmp_path / "store ü#?%20/objects" / key[:2] / key / "x.bin"

    def test_nothing_else_is_left(self, store, tmp_path):
        digest = digest_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, digest, "plots")

        assert [entry.name for entry in store.path(digest, "plots").parent.iterdir()] == ["plots"]

    def test_a_damaged_object_is_put_anew(self, store, tmp_path):
        """REUSE C15: running the step again mends it."""
        digest = digest_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, digest, "x.bin")
        damaged = store.path(digest, "x.bin")
        damaged.chmod(0o644)
        damaged.write_bytes(b"dota")
        store.put(staged_file(tmp_path / "again"), digest, "x.bin")

        assert store.path(digest, "x.bin").read_bytes() == b"data"

    def test_a_damaged_folder_is_put_anew(self, store, tmp_path):
        digest = digest_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, digest, "plots")
        (store.path(digest, "plots") / "a.png").unlink()
        store.put(staged_folder(tmp_path / "again"), digest, "plots")

        assert digest_of(store.path(digest, "plots")) == digest

    def test_links_are_stored_as_what_they_lead_to(self, store, tmp_path):
        outside = staged_file(tmp_path / "outside", b"far")
        folder = staged_folder(tmp_path / "in")
        (folder / "link").symlink_to(outside)
        os.link(outside, folder / "twin")
        digest = digest_of(folder)
        store.put(folder, digest, "plots")
        outside.write_bytes(b"changed")

        assert (store.path(digest, "plots") / "link").read_bytes() == b"far"
        assert digest_of(store.path(digest, "plots")) == digest

    def test_a_store_that_cannot_be_written_says_so(self, tmp_path):
        staged = staged_file(tmp_path / "in")
        (tmp_path / "store").write_text("a file, not a folder")

        with pytest.raises(StoreOutOfReach, match=r"the datastore `.*store` cannot be written: Not a directory"):
            LocalStore(tmp_path / "store").put(staged, digest_of(staged), "x.bin")


class TestMemoryStore(Contract):
    """In memory."""

    @pytest.fixture
    def store(self):
        return MemoryStore()
