"""The states of objects that nothing needs any more."""

from __future__ import annotations

from enum import StrEnum


class ObjectState(StrEnum):
    """How far a condemned object is."""

    CONDEMNED = "condemned"
    DELETING = "deleting"
    DELETED = "deleted"
