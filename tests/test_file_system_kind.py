"""One list says what the kind of a file system means for the files on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbpipe.data import file_system_kind

MOUNTS = """\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /home rw - nfs4 server:/home rw
3 2 8:2 / /home/local\\040disk rw - xfs /dev/sdb1 rw
4 1 0:6 / /mnt/smb rw shared:1 - cifs //server/share rw
5 1 8:3 / /twice rw - ext4 /dev/sdc1 rw
6 5 0:7 / /twice rw - fuse.sshfs host: rw
a line of another shape
"""


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/etc/x", "ext4"),
        ("/home/me/x", "nfs4"),
        ("/homes/x", "ext4"),
        ("/home/local disk/x", "xfs"),
        ("/mnt/smb/x", "cifs"),
        ("/twice/x", "fuse.sshfs"),
    ],
)
def test_the_innermost_mount_tells_the_file_system(path, kind):
    assert file_system_kind.kind_of(Path(path), MOUNTS) == kind


KINDS = {
    "ext4": (True, False), "xfs": (True, False), "tmpfs": (True, False), "btrfs": (True, False),
    "nfs4": (False, True), "cifs": (False, True), "gpfs": (False, True), "virtiofs": (False, True),
    "fuse.sshfs": (False, True), "fuse": (False, True),
    "overlay": (False, False), "fuseblk": (False, False),
}  # fmt: skip


@pytest.mark.parametrize("kind, shares, remote", [(kind, *said) for kind, said in KINDS.items()])
def test_each_kind_is_judged_for_the_database_and_for_remembered_digests(monkeypatch, tmp_path, kind, shares, remote):
    """A layered file system and a local disk in user space share no memory, but what they say of a file is so."""
    (tmp_path / "mounts").write_text(f"7 1 0:42 / / rw - {kind} what rw\nmalformed\n8 1 x:y / /z rw - {kind} w rw\n")
    monkeypatch.setattr(file_system_kind, "_MOUNTS", tmp_path / "mounts")

    assert file_system_kind.shares_memory(tmp_path) is shares
    assert (os.makedev(0, 42) in file_system_kind.remote_devices()) is remote


def test_a_system_that_lists_no_mounts_is_trusted(monkeypatch, tmp_path):
    monkeypatch.setattr(file_system_kind, "_MOUNTS", tmp_path / "none")

    assert file_system_kind.shares_memory(tmp_path)
    assert file_system_kind.remote_devices() == frozenset()
