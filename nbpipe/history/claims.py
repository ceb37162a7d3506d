"""Claims: who may compute a key now. One live claim per key; tokens increase with each claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from nbpipe.history.database import Repository
from nbpipe.history.object_state import ObjectState
from nbpipe.history.row_mapping import GOING_ON
from nbpipe.history.schema import claims, condemned, runs
from nbpipe.history.sequences import next_number

_AT_KEY = cache(lambda: select(claims).where(claims.c.key == bindparam("at")).with_for_update())
_TOKEN = cache(lambda: select(claims.c.token).where(claims.c.key == bindparam("at")).with_for_update())
_NEW = cache(lambda: insert(claims))
_DELETE = cache(lambda: delete(claims).where(claims.c.key == bindparam("at")))
_FREE = cache(lambda: delete(claims).where(claims.c.key == bindparam("at"), claims.c.token == bindparam("of_token")))


COLLECTION = "collection"
"""The key of the right to collect results; no key of a result looks like it."""


_STORING = "storing "
_IS_STORING = claims.c.key.startswith(_STORING)


class CollectionUnderWay(Exception):
    """Nothing can be stored for a record now, because objects are being deleted."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to compute ``key``; ``token`` distinguishes it from other claims of that key."""

    key: str
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class ClaimedByOther:
    """Another owner computes the key already: ``run`` is the newest run that ``owner`` has not ended."""

    owner: str
    run: str | None = None


class ClaimRepository(Repository):
    """Which keys are being computed, and by whom."""

    def claim(
        self, key: str, *, owner: str, now: float, lease: float, alive: Callable[[str], bool]
    ) -> Claim | ClaimedByOther:
        """Return a claim, or ClaimedByOther if any owner, including this one, has a live claim."""
        dead: int | None = None
        while True:
            with self._database.writing() as connection:
                row = _blocking(connection, key, now=now, dead=dead)
                if row is None:
                    return _take(connection, key, owner=owner, now=now, lease=lease)
                run = _run_of(connection, row.owner)
            # Outside of the transaction, because it may take a while; the answer is valid for this token only.
            if row.owner == owner or alive(row.owner):
                return ClaimedByOther(row.owner, run)
            dead = row.token

    def renew(self, owner: str, *, now: float, lease: float) -> set[str]:
        """Extend all claims of ``owner`` that were not taken over, and return their keys."""
        extended = update(claims).where(claims.c.owner == owner).values(expires=now + lease)
        with self._database.writing() as connection:
            return set(connection.scalars(extended.returning(claims.c.key)))

    def begin_storing(self, *, owner: str, now: float, lease: float) -> Claim:
        """Return a claim during which nothing is deleted, to store bytes before their record is written.

        Any number of them may be held. Raise CollectionUnderWay while objects are being deleted.
        """
        with self._database.writing() as connection:
            _require_no_deletion(connection, now)
            return _take(connection, f"{_STORING}{uuid4().hex}", owner=owner, now=now, lease=lease)

    def storing(self, *, now: float, alive: Callable[[str], bool]) -> int:
        """Return how many owners are storing bytes whose record is not written yet; forget those that are dead."""
        with self._database.reading() as connection:
            rows = list(connection.execute(select(claims).where(_IS_STORING)))
        dead = [row for row in rows if row.expires <= now or not alive(row.owner)]
        for row in dead:
            self.release(Claim(row.key, row.owner, row.token))
        return len(rows) - len(dead)

    def is_collecting(self, *, now: float, alive: Callable[[str], bool]) -> bool:
        """Return whether somebody collects results now."""
        with self._database.reading() as connection:
            row = _blocking(connection, COLLECTION, now=now, dead=None)
        return row is not None and alive(row.owner)

    def holds(self, claim: Claim) -> bool:
        """Return whether nobody has taken the claim over or away."""
        with self._database.reading() as connection:
            return is_current(connection, claim)

    def release(self, claim: Claim) -> None:
        """Release the claim; one that was taken over stays with its new owner."""
        with self._database.writing() as connection:
            free(connection, claim)


def is_anybody_storing(connection: Connection) -> bool:
    """Return whether bytes are being stored whose record is not written yet, inside the caller's transaction."""
    return connection.scalar(select(claims.c.key).where(_IS_STORING).limit(1)) is not None


def _require_no_deletion(connection: Connection, now: float) -> None:
    """Raise CollectionUnderWay if objects are being deleted; the right to do so is taken away if it has expired."""
    deleting = select(condemned.c.key).where(condemned.c.state == ObjectState.DELETING.value).limit(1)
    if connection.scalar(deleting) is None:
        return
    if _blocking(connection, COLLECTION, now=now, dead=None) is not None:
        raise CollectionUnderWay
    connection.execute(_DELETE(), {"at": COLLECTION})


def is_current(connection: Connection, claim: Claim) -> bool:
    """Return whether the claim was not taken over; an expired claim that nobody took is still current."""
    return connection.scalar(_TOKEN(), {"at": claim.key}) == claim.token


def free(connection: Connection, claim: Claim) -> None:
    """Delete the claim if it is still the current one."""
    connection.execute(_FREE(), {"at": claim.key, "of_token": claim.token})


def _blocking(connection: Connection, key: str, *, now: float, dead: int | None) -> Row[Any] | None:
    row = connection.execute(_AT_KEY(), {"at": key}).first()
    return None if row is None or row.expires <= now or row.token == dead else row


def _take(connection: Connection, key: str, *, owner: str, now: float, lease: float) -> Claim:
    token = next_number(connection, "token")
    connection.execute(_DELETE(), {"at": key})
    row = {"key": key, "owner": owner, "token": token, "taken": now, "expires": now + lease}
    connection.execute(_NEW(), row)
    return Claim(key, owner, token)


def _run_of(connection: Connection, owner: str) -> str | None:
    mine = (runs.c.owner == owner) & runs.c.status.in_(GOING_ON)
    return connection.scalar(select(runs.c.id).where(mine).order_by(runs.c.number.desc()).limit(1))
