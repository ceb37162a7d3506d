"""One function says whether a stored object is whole: nothing that differs from what was published passes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbpipe.data.datastores import LocalStore
from nbpipe.data.digests import NoDigestCache, content_digest
from nbpipe.data.integrity import find_damage
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import Artifact, ObjectReference

FRESH = NoDigestCache()
NAMES = st.sampled_from(["a", "b.txt", "ü", "deep/c", "deep/deeper/d"])
FOLDERS = st.dictionaries(NAMES, st.binary(max_size=40), min_size=1)
FILES = st.binary(max_size=40).map(lambda content: {"": content})


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write a file, or a folder of files."""
    for name, content in files.items():
        target = path / name if name else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def truncate(path: Path, chance: Random) -> None:
    """Take bytes from the end of a file."""
    target = chance.choice(files_of(path))
    content = target.read_bytes()
    target.write_bytes(content[: chance.randrange(len(content))] if content else b"more")


def lengthen(path: Path, chance: Random) -> None:
    """Add bytes to a file."""
    target = chance.choice(files_of(path))
    target.write_bytes(target.read_bytes() + b"\0")


def flip(path: Path, chance: Random) -> None:
    """Change one bit of a file."""
    target = chance.choice(files_of(path))
    content = bytearray(target.read_bytes() or b"\0")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    target.write_bytes(content)


def remove(path: Path, chance: Random) -> None:
    """Take a file away."""
    chance.choice(files_of(path)).unlink()


def replace(path: Path, chance: Random) -> None:
    """Put a folder where a file is, with that file in it."""
    target = chance.choice(files_of(path))
    content = target.read_bytes()
    target.unlink()
    target.mkdir()
    (target / target.name).write_bytes(content)


def add(path: Path, _chance: Random) -> None:
    """Put one more file into a folder; a file is in the place of what held it."""
    if path.is_dir():
        (path / "one more").write_bytes(b"")
    else:
        path.unlink()
        (path / "one more").mkdir(parents=True)


def rename(path: Path, chance: Random) -> None:
    """Give a file another name."""
    target = chance.choice(files_of(path))
    target.rename(target.with_name("renamed"))


def swap(path: Path, _chance: Random) -> None:
    """Put a file where the folder is, or an empty folder where the file is."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()


def files_of(path: Path) -> list[Path]:
    """Get all files of an object."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


DAMAGE = (truncate, lengthen, flip, remove, replace, add, rename, swap)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@settings(max_examples=15, deadline=None)
@given(files=st.one_of(FILES, FOLDERS), seed=st.integers(0, 1000))
def test_whatever_is_done_to_an_object_is_found_and_putting_it_again_mends_it(damage, files, seed):
    with tempfile.TemporaryDirectory() as made:
        staged, store = Path(made, "x"), LocalStore(Path(made, "store"))
        folder = "" not in files
        write(staged, files)
        digest, size = content_digest(staged, FRESH)
        reference = ObjectReference("default", digest, "x", size)
        output = Artifact("x", "dir" if folder else "file", reference)
        store.put(staged, output)
        path = store.locate(output)
        assert find_damage(path, reference, folder=folder, digests=FRESH) is None
        unlock(path)
        damage(path, Random(seed))  # noqa: S311  # damage, not a secret
        assert find_damage(path, reference, folder=folder, digests=FRESH) is not None
        write(staged, files)
        store.put(staged, output)

        assert find_damage(path, reference, folder=folder, digests=FRESH) is None
        assert [entry.name for entry in path.parent.iterdir() if entry.name != "renamed"] == ["x"]


def unlock(path: Path) -> None:
    """Let an object be changed."""
    for each in files_of(path):
        each.chmod(0o644)


@pytest.fixture
def reference():
    return ObjectReference("default", "blake3:" + "0" * 64, "x", 3)


def test_a_file_that_hashes_as_a_folder_does_is_none(tmp_path):
    """A tree's digest is of bytes that a file might hold: the kind is looked at, too."""
    (tmp_path / "x").write_bytes(b"one")
    digest, size = content_digest(tmp_path / "x", FRESH)

    said = find_damage(tmp_path / "x", ObjectReference("default", digest, "x", size), folder=True, digests=FRESH)
    assert said == "is damaged in its datastore: it is not a folder"


def test_what_is_no_file_is_not_opened(tmp_path, reference):
    """Reading from a pipe would wait for ever."""
    os.mkfifo(tmp_path / "x")
    assert "not a file" in str(find_damage(tmp_path / "x", reference, folder=False, digests=FRESH))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "pipe")

    assert "damaged" in str(find_damage(tmp_path / "folder", reference, folder=True, digests=FRESH))


@pytest.mark.parametrize("where", ["none", "none/below", "x/below"])
def test_what_is_gone_is_said_to_be_gone(tmp_path, reference, where):
    (tmp_path / "x").write_bytes(b"one")

    assert find_damage(tmp_path / where, reference, folder=False, digests=FRESH) == "is no longer in its datastore"


@pytest.mark.parametrize("target", ["link", "x", "nowhere"])
def test_a_link_is_damage_wherever_it_leads(tmp_path, reference, target):
    (tmp_path / "x").write_bytes(b"one")
    (tmp_path / "link").symlink_to(tmp_path / target)

    assert "is not a file" in str(find_damage(tmp_path / "link", reference, folder=False, digests=FRESH))


class Unreadable(NoDigestCache):
    """A memory of files that a disk does not give any more."""

    def recall(self, path: Path) -> str | None:
        """Fail as a disk does."""
        raise OSError(5, "Input/output error", str(path))


def test_what_cannot_be_looked_at_is_out_of_reach_and_not_called_damaged(tmp_path, reference):
    (tmp_path / "x").write_bytes(b"one")

    with pytest.raises(StoreOutOfReach, match="`x` cannot be read in its datastore: Input/output error"):
        find_damage(tmp_path / "x", reference, folder=False, digests=Unreadable())
