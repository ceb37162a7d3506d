"""The names of what decides a verdict: the parts of reuse keys, and what else a reason can be about.

A name is a kind, or a kind, a colon and a subject: ``code``, ``parameter:learning_rate``.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NewType

ComponentName = NewType("ComponentName", str)
"""A name as :func:`component_name` makes it, the same in keys, in records and in JSON for users."""


class ComponentKind(StrEnum):
    """What a part of a reuse key, or a reason, is about."""

    CODE = "code"
    DEFINITION = "definition"
    SETTING = "setting"
    SHARED_ORDER = "shared order"
    MODULE = "module"
    """a local module"""
    PARAMETER = "parameter"
    INPUT = "input"
    """a declared file, or another step's output"""
    OUTPUTS = "outputs"
    """the declared outputs"""
    SHOWS = "shows"
    PYTHON = "python"
    KERNEL = "kernel"
    """additional options of the kernel's command line"""
    PACKAGES = "packages"
    """all installed distributions"""
    ENVVAR = "envvar"
    SALT = "salt"
    HASH = "hash"
    """files that are declared to count, too"""
    READ = "read"
    """an undeclared file"""
    LISTED = "listed"
    """an undeclared folder's names"""
    PROBED = "probed"
    """whether an undeclared path is there"""
    PACKAGE = "package"
    """an installed distribution that the step imported"""
    MISSING = "missing"
    """a module that could not be imported"""
    SOURCES = "sources"
    """all code around the notebook"""
    ARTIFACT = "artifact"
    """a stored output"""
    DISPLAY = "display"
    """what the step displayed"""
    RESULT = "result"
    """the last result as a whole"""
    UPSTREAM = "upstream"
    """a step that this one needs"""
    WHEN = "when"
    """the step's condition"""
    POLICY = "policy"
    """the declared `reuse`"""
    FORCED = "forced"
    FIRST_RUN = "first run"
    UNCHANGED = "unchanged"
    ACCEPTED = "accepted"
    STOPPED = "stopped"
    """the run starts nothing more"""


_KINDS = {kind.value: kind for kind in ComponentKind}


def component_name(kind: ComponentKind, subject: str = "") -> ComponentName:
    """Return the name of a component, e.g. ``parameter:learning_rate``."""
    return ComponentName(f"{kind.value}:{subject}" if subject else kind.value)


@lru_cache(maxsize=65536)
def split_name(name: ComponentName) -> tuple[ComponentKind | None, str]:
    """Return a component's kind, and its subject, which may be empty.

    The kind is None if it is unknown: records may be damaged, or from another version.
    """
    kind, _, subject = name.partition(":")
    return _KINDS.get(kind), subject
