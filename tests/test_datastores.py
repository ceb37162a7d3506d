"""Every datastore keeps the same promises: whole or not at all, once, unchanged."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import fsspec
import pytest

from nbpipe.data.datastores import LocalStore, MemoryStore
from nbpipe.data.digests import NoDigestCache, content_digest
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import Artifact, ObjectReference

ABSENT = "blake3:" + "0" * 64


def staged_file(folder: Path, content: bytes = b"data", name: str = "x.bin") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def staged_folder(folder: Path) -> Path:
    staged_file(folder / "plots", b"1", "a.png")
    staged_file(folder / "plots/deep", b"2", "ü ?#.png")
    return folder / "plots"


def output_of(staged: Path, basename: str = "") -> Artifact:
    """Get the output that is about to be put."""
    digest, size = content_digest(staged, NoDigestCache())
    output = ObjectReference("default", digest, basename or staged.name, size)
    return Artifact("x", "dir" if staged.is_dir() else "file", output)


def named(digest: str, name: str, size: int = 1) -> Artifact:
    return Artifact("x", "file", ObjectReference("default", digest, name, size))


class Contract:
    """What any datastore must do; a subclass says how one is made."""

    @pytest.fixture
    def store(self, tmp_path):
        raise NotImplementedError

    def test_what_is_put_is_there(self, store, tmp_path):
        output = output_of(staged := staged_file(tmp_path / "in"))
        assert not store.locate(output).exists()
        store.put(staged, output)

        assert store.locate(output).read_bytes() == b"data"
        assert store.locate(output).name == "x.bin"

    def test_a_folder_is_put_as_a_folder(self, store, tmp_path):
        output = output_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, output)

        assert output_of(store.locate(output)) == output
        assert (store.locate(output) / "deep/ü ?#.png").read_bytes() == b"2"

    def test_putting_the_same_again_changes_nothing(self, store, tmp_path):
        output = output_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, output)
        before = store.locate(output).stat()
        store.put(staged_file(tmp_path / "again"), output)

        assert store.locate(output).stat().st_ino == before.st_ino

    def test_the_same_folder_again_changes_nothing(self, store, tmp_path):
        output = output_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, output)

        store.put(staged_folder(tmp_path / "again"), output)
        assert output_of(store.locate(output)) == output

    def test_one_content_may_have_two_names(self, store, tmp_path):
        staged = staged_file(tmp_path / "in")
        one, other = output_of(staged), output_of(staged, "y.bin")
        store.put(staged, one)
        store.put(staged_file(tmp_path / "in2"), other)

        assert store.locate(one).read_bytes() == store.locate(other).read_bytes()

    def test_objects_are_read_only(self, store, tmp_path):
        output = output_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, output)

        assert stat.S_IMODE(store.locate(output).stat().st_mode) == 0o400

    def test_what_is_absent_has_a_place_and_is_not_there(self, store):
        assert not store.locate(named(ABSENT, "x")).exists()

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..", ".", "", "a/b", "a\0b"])
    def test_a_name_is_one_part_of_a_path(self, store, name):
        for ask in (store.locate, store.url):
            with pytest.raises(ValueError, match="name of a file"):
                ask(named(ABSENT, name))

    @pytest.mark.parametrize("digest", ["blake3:../..", "x", "", "blake3:" + "0" * 63, "sha256:" + "0" * 64])
    def test_a_digest_is_a_digest(self, store, digest):
        for ask in (store.locate, store.url):
            with pytest.raises(ValueError, match="digest"):
                ask(named(digest, "x"))

    def test_many_at_once_put_the_same(self, store, tmp_path):
        output = output_of(staged_folder(tmp_path / "0"))
        failures: list[BaseException] = []

        def put(number: int) -> None:
            try:
                store.put(staged_folder(tmp_path / str(number)), output)
            except StoreOutOfReach as error:
                failures.append(error)

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

        assert failures == []
        assert output_of(store.locate(output)) == output


class TestLocalStore(Contract):
    """In a folder whose name needs quoting in an address."""

    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "store ü#?%20")

    def test_objects_lie_by_content(self, store, tmp_path):
        output = output_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, output)
        key = output.digest.removeprefix("blake3:")

        assert store.locate(output) == tmp_path / "store ü#?%20/objects" / key[:2] / key / "x.bin"

    @pytest.mark.parametrize("name", ["plain", "with space", "größe", "100%", "a#b", "a?b", "%20"])
    def test_an_address_is_one_that_fsspec_opens(self, store, tmp_path, name):
        output = output_of(staged := staged_file(tmp_path / "in", b"[1]", f"{name}.json"))
        store.put(staged, output)

        assert store.url(output).startswith("file:///")
        with fsspec.open(store.url(output)) as file:
            assert file.read() == b"[1]"

    def test_nothing_else_is_left(self, store, tmp_path):
        output = output_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, output)

        assert [entry.name for entry in store.locate(output).parent.iterdir()] == ["plots"]

    def test_a_damaged_object_is_put_anew(self, store, tmp_path):
        """REUSE C15: running the step again mends it."""
        output = output_of(staged := staged_file(tmp_path / "in"))
        store.put(staged, output)
        damaged = store.locate(output)
        damaged.chmod(0o644)
        damaged.write_bytes(b"dota")
        store.put(staged_file(tmp_path / "again"), output)

        assert store.locate(output).read_bytes() == b"data"

    def test_a_damaged_folder_is_put_anew(self, store, tmp_path):
        output = output_of(staged := staged_folder(tmp_path / "in"))
        store.put(staged, output)
        (store.locate(output) / "a.png").unlink()
        store.put(staged_folder(tmp_path / "again"), output)

        assert output_of(store.locate(output)) == output

    def test_links_are_stored_as_what_they_lead_to(self, store, tmp_path):
        outside = staged_file(tmp_path / "outside", b"far")
        folder = staged_folder(tmp_path / "in")
        (folder / "link").symlink_to(outside)
        os.link(outside, folder / "twin")
        output = output_of(folder)
        store.put(folder, output)
        outside.write_bytes(b"changed")

        assert (store.locate(output) / "link").read_bytes() == b"far"
        assert output_of(store.locate(output)) == output

    def test_a_store_that_cannot_be_written_says_so(self, tmp_path):
        staged = staged_file(tmp_path / "in")
        (tmp_path / "store").write_text("a file, not a folder")

        with pytest.raises(StoreOutOfReach, match=r"the datastore `.*store` cannot be written: Not a directory"):
            LocalStore(tmp_path / "store").put(staged, output_of(staged))


class TestMemoryStore(Contract):
    """In memory."""

    @pytest.fixture
    def store(self):
        return MemoryStore()
