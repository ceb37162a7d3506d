"""S8: the manifest of a folder in a datastore, written by somebody else, leads nowhere but into that folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outputs_contract import outputs_in

from nbpipe.codec import encode
from nbpipe.data.digests import bytes_digest, tree_digest
from nbpipe.data.object_keys import hex_digits, object_key
from nbpipe.data.stores.folder_manifest import FolderManifest, FolderMember, manifest_key
from nbpipe.data.stores.opening import open_store
from nbpipe.errors import NbpipeError
from nbpipe.model import Artifact, ObjectReference
from nbpipe.model.datastores import DatastoreConfiguration

CONTENT = b"evil"
DIGEST = bytes_digest(CONTENT)
OBJECT = f"packs/{hex_digits(DIGEST)[:2]}/{hex_digits(DIGEST)}"
PATHS = (
    "../evil", "a/../../evil", "..", ".", "", "/evil", "//evil", "a//evil", "a/./evil", "evil\0.txt",
    "../" * 9 + "evil", "/proc/self/root/evil", "a/..",
)  # fmt: skip


def member(path: str = "a", **more: Any) -> FolderMember:
    return FolderMember(**{"path": path, "size": 4, "digest": DIGEST, "object": OBJECT, **more})


def fetched(folder: Path, *members: FolderMember) -> Path:
    """Fetch a folder whose manifest has these members, and whose recorded digest is theirs."""
    store = open_store(DatastoreConfiguration("lake", f"file://{folder}/store"), {})
    digest = tree_digest((each.path, each.size, each.digest) for each in members)
    artifact = Artifact("x", "dir", ObjectReference("lake", digest, "x", sum(each.size for each in members)))
    store.put(OBJECT, CONTENT)
    store.put("nbpipe-store.json", b"{}")
    store.put(manifest_key(artifact.reference), encode(FolderManifest(members)).encode())
    return outputs_in(store, folder / "deep/cache").fetch(artifact)


def written(folder: Path) -> set[str]:
    """Get the files that are neither in the datastore nor in the cache."""
    inside = (folder / "store", folder / "deep/cache")
    return {str(path) for path in folder.rglob("*") if path.is_file() and not any(map(path.is_relative_to, inside))}


def test_a_manifest_as_ours_is_fetched(tmp_path):
    place = fetched(tmp_path, member("a/b.txt"), member("c.txt"))
    assert {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()} == {
        "b.txt": CONTENT, "c.txt": CONTENT,
    }  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_lies_elsewhere_is_refused(tmp_path, path):
    with pytest.raises(NbpipeError, match="lake"):
        fetched(tmp_path, member(path))
    assert written(tmp_path) == set()
    assert not Path("/evil").exists()


@pytest.mark.parametrize(
    "members",
    [
        (member("a"), member("a")),
        (member("a"), member("a/b")),
        (member("a/b"), member("a")),
        (member("a", offset=1),),
        (member("a", offset=-1),),
        (member("a", offset=1 << 62),),
        (member("a", size=-4),),
        (member("a", size=1 << 50),),
        (member("a", object="../../evil"),),
        (member("a", object="/etc/hostname"),),
        (member("a", object=object_key(ObjectReference("", DIGEST, "nothing", 4))),),
        (member("a", digest="blake3:../../evil"),),
        (member("a", digest=""),),
        (member("a", object="nbpipe-store.json", digest=bytes_digest(b"other")),),
        (member("a", object=OBJECT + "/.."),),
    ],
)
def test_members_that_cannot_be_are_refused(tmp_path, members):
    with pytest.raises(NbpipeError, match="lake"):
        fetched(tmp_path, *members)
    assert written(tmp_path) == set()


@pytest.mark.parametrize(
    "digest", ["", "blake3:", "blake3:../../etc/passwd", "sha256:" + "0" * 64, "blake3:" + "G" * 64]
)
@pytest.mark.parametrize("name", ["x", "../x", "a/b", "..", "", "x\0"])
def test_s8_a_reference_that_names_no_object_is_refused(digest, name):
    with pytest.raises(ValueError, match="not a digest"):
        object_key(ObjectReference("", digest, name, 1))
    if name != "x":
        with pytest.raises(ValueError, match="not the name of a file"):
            object_key(ObjectReference("", DIGEST, name, 1))
