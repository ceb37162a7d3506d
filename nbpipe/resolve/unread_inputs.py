"""Inputs that a plan left unread, and copies that are missing here: what a run transfers before a step can run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nbpipe.planning.fingerprint import PinnedInputs
from nbpipe.resolve.resolved_request import ResolvedRequest, remote_texts


def unread_bytes(situation: ResolvedRequest, step: str) -> int | None:
    """Return the bytes to read before a step can be decided, negative if unknown; None if all content is known."""
    unread = situation.circumstances[step].unread.values()
    if not unread:
        return None
    sizes = [files.bytes for files in unread]
    return sum(sizes) if min(sizes) >= 0 else -1


def read_inputs(situation: ResolvedRequest, step: str, progress: Callable[[int], None]) -> PinnedInputs:
    """Return what a step's inputs are once the unread ones have been read; ``progress`` is told the bytes read."""
    pinned = situation.circumstances[step]
    read = {name: situation.remote().read(files.text, progress) for name, files in pinned.unread.items()}
    return dataclasses.replace(pinned, files={**pinned.files, **read}, unread={})


def unstaged_bytes(situation: ResolvedRequest, step: str) -> int:
    """Return the bytes of a step's remote inputs that have no copy here."""
    return sum(situation.remote().unstaged(text) for text in remote_texts(situation, step))


def stage_inputs(situation: ResolvedRequest, step: str, progress: Callable[[int], None]) -> None:
    """Copy a step's remote inputs to this machine; raise ObjectChanged if one is no longer what was pinned."""
    for text in remote_texts(situation, step):
        situation.remote().stage(text, progress)
