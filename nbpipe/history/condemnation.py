"""Results and objects that nothing needs any more, from when that is found until their bytes are deleted.

They are condemned first. Whoever may have found them before belongs to a run that goes on then, so nothing is deleted
before all of these runs have ended. Who finds an object there later, and relies on it, makes it safe again: it is
acquitted. What was deleted stays listed until the runs have ended that may have found it before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from nbpipe.history import claims as claiming
from nbpipe.history.claims import Claim
from nbpipe.history.database import Repository, chunks
from nbpipe.history.object_state import ObjectState
from nbpipe.history.row_mapping import GOING_ON
from nbpipe.history.schema import attempts, condemned, condemned_results, dataset_versions, entries, pins, runs

Objects = Mapping[str, Collection[str]]
"""Keys of objects, by the name of their datastore."""

# More than any workspace counts.
_NONE_ACTIVE = 1 << 31
_ANY = cache(lambda: select(condemned.c.key).limit(1))
_PUT = cache(lambda: insert(condemned))
_CHANGE = cache(
    lambda: (
        update(condemned)
        .where(condemned.c.store == bindparam("of_store"), condemned.c.key == bindparam("of_key"))
        .values(state=bindparam("to"), run=bindparam("newest"))
    )
)
_DROP = cache(
    lambda: delete(condemned).where(condemned.c.store == bindparam("of_store"), condemned.c.key == bindparam("of_key"))
)


class Interrupted(Exception):
    """Nothing more may be deleted by what was found out: what is kept has changed, or others rely on objects."""


@dataclass(frozen=True, slots=True)
class Roots:
    """What keeps results and objects by its name: the pinned runs and the stored objects of datasets."""

    pinned: frozenset[str]
    versions: frozenset[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Condemned:
    """What nobody can rely on any more, unless it is needed again: results and objects; ``roots`` as they are now."""

    results: frozenset[str]
    objects: Mapping[str, frozenset[str]]
    roots: Roots


class CondemnationRepository(Repository):
    """Which results and objects are to be deleted."""

    def condemn(self, results: Iterable[str], theirs: Objects, garbage: Objects, why: str, now: float) -> None:
        """Withdraw results, and condemn the objects that nothing needs; ``garbage`` is all of each datastore.

        ``theirs`` are the objects of these results: runs that go on may have found them with these.
        """
        with self._database.writing() as connection:
            newest = _newest_run(connection)
            for chunk in chunks(list(results)):
                chosen = attempts.c.id.in_(chunk) & attempts.c.quarantined.is_(None)
                marked = update(attempts).where(chosen).values(quarantined=now, why=why).returning(attempts.c.id)
                withdrawn = list(connection.scalars(marked))
                connection.execute(update(entries).where(entries.c.attempt.in_(withdrawn)).values(offered=False))
                if withdrawn:
                    rows = [{"attempt": attempt, "run": newest} for attempt in withdrawn]
                    connection.execute(insert(condemned_results), rows)
            for store, keys in garbage.items():
                _condemn(connection, store, frozenset(keys), newest)
                known = _rows(connection, store, frozenset(theirs.get(store, ())) & frozenset(keys))
                _change(connection, store, known, ObjectState.CONDEMNED)

    def objects(self) -> dict[str, set[str]]:
        """Return the objects that are condemned and not deleted."""
        found: dict[str, set[str]] = {}
        with self._database.reading() as connection:
            query = select(condemned).where(condemned.c.state != ObjectState.DELETED.value)
            for row in connection.execute(query):
                found.setdefault(row.store, set()).add(row.key)
        return found

    def ripe(self) -> Condemned:
        """Return what was condemned before any run began that goes on now."""
        with self._database.reading() as connection:
            oldest = _oldest_active(connection)
            results = connection.scalars(
                select(condemned_results.c.attempt).where(condemned_results.c.run < oldest)
            ).all()
            query = select(condemned).where(condemned.c.state == ObjectState.CONDEMNED.value, condemned.c.run < oldest)
            objects: dict[str, set[str]] = {}
            for row in connection.execute(query):
                objects.setdefault(row.store, set()).add(row.key)
            frozen = {store: frozenset(keys) for store, keys in objects.items()}
            return Condemned(frozenset(results), frozen, _roots(connection))

    def restore(self, results: Iterable[str]) -> None:
        """Offer withdrawn results again that still have all their bytes."""
        with self._database.writing() as connection:
            for chunk in chunks(list(results)):
                freed = delete(condemned_results).where(condemned_results.c.attempt.in_(chunk))
                ids = list(connection.scalars(freed.returning(condemned_results.c.attempt)))
                connection.execute(update(attempts).where(attempts.c.id.in_(ids)).values(quarantined=None, why=None))
                connection.execute(update(entries).where(entries.c.attempt.in_(ids)).values(offered=True))

    def give_up(self, results: Iterable[str], roots: Roots, claim: Claim) -> None:
        """Withdraw condemned results for good; raise Interrupted unless the bytes may be deleted now."""
        with self._database.writing() as connection:
            _require_unchanged(connection, roots, claim)
            for chunk in chunks(list(results)):
                connection.execute(delete(condemned_results).where(condemned_results.c.attempt.in_(chunk)))

    def take(self, store: str, keys: Iterable[str], roots: Roots, claim: Claim) -> list[str]:
        """Return those objects that are still condemned, which are to be deleted now: nobody can rely on them.

        Raise Interrupted unless they may be deleted now.
        """
        with self._database.writing() as connection:
            _require_unchanged(connection, roots, claim)
            rows = _rows(connection, store, keys)
            taken = [key for key, state in rows.items() if state is ObjectState.CONDEMNED]
            _change(connection, store, taken, ObjectState.DELETING)
            return taken

    def deleted(self, store: str, keys: Iterable[str]) -> None:
        """Record that objects were deleted."""
        with self._database.writing() as connection:
            _change(connection, store, keys, ObjectState.DELETED)

    def forget(self) -> None:
        """Forget the deleted objects that no run can have found before."""
        with self._database.writing() as connection:
            old = (condemned.c.state == ObjectState.DELETED.value) & (condemned.c.run < _oldest_active(connection))
            connection.execute(delete(condemned).where(old))

    def is_any(self) -> bool:
        """Return whether any object is condemned, is being deleted or was deleted while runs went on."""
        with self._database.reading() as connection:
            return connection.scalar(_ANY()) is not None

    def acquit(self, store: str, keys: Iterable[str]) -> dict[str, ObjectState]:
        """Make objects safe that a run which goes on has stored or found; return those that may be gone already."""
        with self._database.writing() as connection:
            rows = _rows(connection, store, keys)
            safe = [key for key, state in rows.items() if state is ObjectState.CONDEMNED]
            if safe:
                connection.execute(_DROP(), [{"of_store": store, "of_key": key} for key in safe])
            return {key: state for key, state in rows.items() if state is not ObjectState.CONDEMNED}


def _condemn(connection: Connection, store: str, garbage: frozenset[str], newest: int) -> None:
    """Condemn all garbage of a datastore, and acquit the rest of it."""
    query = select(condemned).where(condemned.c.store == store)
    known = {row.key: ObjectState(row.state) for row in connection.execute(query)}
    needed = [key for key, state in known.items() if state is ObjectState.CONDEMNED and key not in garbage]
    if needed:
        connection.execute(_DROP(), [{"of_store": store, "of_key": key} for key in needed])
    new = garbage - known.keys()
    if new:
        rows = [{"store": store, "key": key, "state": ObjectState.CONDEMNED.value, "run": newest} for key in new]
        connection.execute(_PUT(), rows)
    # A process was killed while it deleted these, or somebody has stored them again since they were deleted.
    again = [key for key, state in known.items() if state is not ObjectState.CONDEMNED and key in garbage]
    _change(connection, store, again, ObjectState.CONDEMNED)
    gone = [key for key, state in known.items() if state is ObjectState.DELETING and key not in garbage]
    _change(connection, store, gone, ObjectState.DELETED)


def _rows(connection: Connection, store: str, keys: Iterable[str]) -> dict[str, ObjectState]:
    found: dict[str, ObjectState] = {}
    for chunk in chunks(list(keys)):
        query = select(condemned).where(condemned.c.store == store, condemned.c.key.in_(chunk))
        found |= {row.key: ObjectState(row.state) for row in connection.execute(query)}
    return found


def _change(connection: Connection, store: str, keys: Iterable[str], state: ObjectState) -> None:
    newest = _newest_run(connection)
    rows = [{"of_store": store, "of_key": key, "to": state.value, "newest": newest} for key in keys]
    if rows:
        connection.execute(_CHANGE(), rows)


def _require_unchanged(connection: Connection, roots: Roots, claim: Claim) -> None:
    """Raise Interrupted if something is kept that was not, if somebody stores bytes, or if the claim was lost."""
    if not claiming.is_current(connection, claim) or claiming.is_anybody_storing(connection):
        raise Interrupted
    now = _roots(connection)
    if not (now.pinned <= roots.pinned and now.versions <= roots.versions):
        raise Interrupted


def _roots(connection: Connection) -> Roots:
    version = dataset_versions.c
    stored = connection.execute(select(version.store, version.object, version.basename)).all()
    return Roots(frozenset(connection.scalars(select(pins.c.run))), frozenset(tuple(row) for row in stored))


def _newest_run(connection: Connection) -> int:
    return connection.scalar(select(func.coalesce(func.max(runs.c.number), 0))) or 0


def _oldest_active(connection: Connection) -> int:
    """Return the number of the oldest run that goes on; a larger one than any if none does."""
    active = select(runs.c.number).where(runs.c.status.in_(GOING_ON))
    oldest: int | None = connection.scalar(active.order_by(runs.c.number).limit(1))
    return _NONE_ACTIVE if oldest is None else oldest
