"""The versions of datasets and their labels: registered, found, and restored from their kept records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from nbpipe.codec import decode, encode_sparse
from nbpipe.history.database import Repository
from nbpipe.history.row_mapping import to_json
from nbpipe.history.schema import dataset_labels as labels
from nbpipe.history.schema import dataset_versions as versions
from nbpipe.history.schema import executions, runs
from nbpipe.history.sequences import is_plausible
from nbpipe.model.content import ObjectReference
from nbpipe.model.datasets import (
    Column,
    DatasetContent,
    DatasetDraft,
    DatasetKind,
    DatasetOrigin,
    DatasetQuery,
    DatasetRecipe,
    DatasetReference,
    DatasetVersion,
    TableProfile,
    is_name,
)

_SAME = cache(
    lambda: select(versions).where(
        versions.c.name == bindparam("of"),
        versions.c.digest == bindparam("content"),
        versions.c.recipe == bindparam("how"),
    )
)
_LAST = cache(lambda: select(func.coalesce(func.max(versions.c.number), 0)).where(versions.c.name == bindparam("of")))


class DatasetRepository(Repository):
    """The datasets of the workspace."""

    def register(self, draft: DatasetDraft) -> DatasetVersion:
        """Return the version with a draft's content and recipe: an earlier one if there is one, else a new one."""
        with self._database.writing() as connection:
            return register(connection, draft)

    def find(self, reference: DatasetReference) -> DatasetVersion | None:
        """Return the version that is asked for; None if there is none."""
        with self._database.reading() as connection:
            query = select(versions).where(versions.c.name == reference.name)
            if reference.label:
                labelled = select(labels.c.number).where(labels.c.name == reference.name)
                query = query.where(versions.c.number.in_(labelled.where(labels.c.label == reference.label)))
            elif reference.number is not None:
                query = query.where(versions.c.number == reference.number)
            row = connection.execute(query.order_by(versions.c.number.desc()).limit(1)).first()
            return None if row is None else version_from(row)

    def names(self) -> list[str]:
        """Return the names of all datasets, sorted."""
        with self._database.reading() as connection:
            return list(connection.scalars(select(versions.c.name).distinct().order_by(versions.c.name)))

    def newest(self) -> list[DatasetVersion]:
        """Return the newest version of each dataset, sorted by name."""
        last = select(versions.c.name, func.max(versions.c.number).label("number")).group_by(versions.c.name).subquery()
        joined = (versions.c.name == last.c.name) & (versions.c.number == last.c.number)
        with self._database.reading() as connection:
            rows = connection.execute(select(versions).join(last, joined).order_by(versions.c.name))
            return [version_from(row) for row in rows]

    def versions(self, name: str | None = None) -> list[DatasetVersion]:
        """Return the versions of a dataset, or of all, oldest first."""
        query = select(versions) if name is None else select(versions).where(versions.c.name == name)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(versions.c.name, versions.c.number))
            return [version_from(row) for row in rows]

    def labels(self, dataset: str | None = None) -> dict[str, dict[str, int]]:
        """Return the labels of a dataset, or of all, each with the number that it stands for."""
        query = select(labels) if dataset is None else select(labels).where(labels.c.name == dataset)
        found: dict[str, dict[str, int]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query.order_by(labels.c.name, labels.c.label)):
                name, label, number = label_from(row)
                found.setdefault(name, {})[label] = number
        return found

    def label(self, name: str, number: int, label: str) -> None:
        """Give a version a label, taking it from another version of the dataset."""
        with self._database.writing() as connection:
            put_label(connection, name, label, number)

    def keep(self, version: DatasetVersion, reference: ObjectReference) -> DatasetVersion:
        """Record that a referenced version's bytes are stored, and return the kept version."""
        with self._database.writing() as connection:
            return _kept(connection, version, reference)

    def read_again(self, version: DatasetVersion, query: DatasetQuery) -> DatasetVersion:
        """Record that a query gave a version's content again, and return the version."""
        with self._database.writing() as connection:
            connection.execute(_this(version).values(query=encode_sparse(query)))
        return replace(version, origin=replace(version.origin, query=query))

    def describe(self, version: DatasetVersion, profile: TableProfile) -> DatasetVersion:
        """Record the profile of a version, and return the version with its columns and the number of its rows."""
        columns = tuple(Column(column.name, column.type) for column in profile.columns)
        values = {"columns": _columns_to_json(columns), "rows": profile.rows, "profile": encode_sparse(profile)}
        with self._database.writing() as connection:
            connection.execute(_this(version).values(values))
        return replace(version, content=replace(version.content, columns=columns, rows=profile.rows))

    def profile(self, version: DatasetVersion) -> TableProfile | None:
        """Return the profile of a version; None if it has not been made."""
        theirs = (versions.c.name == version.name) & (versions.c.number == version.number)
        with self._database.reading() as connection:
            text: str | None = connection.scalar(select(versions.c.profile).where(theirs))
            return None if text is None else decode(text, TableProfile)

    def readers(self, version: DatasetVersion) -> list[tuple[int, str]]:
        """Return the run's number and the step of each current execution that read a version, newest first."""
        query = select(runs.c.number, executions.c.step, executions.c.datasets)
        query = query.join(runs, runs.c.id == executions.c.run)
        query = query.where(executions.c.datasets.contains(f'"{version}"', autoescape=True), executions.c.current)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(runs.c.number.desc(), executions.c.position))
            return [
                (row.number, row.step) for row in rows if str(version) in decode(row.datasets, dict[str, str]).values()
            ]

    def restore(self, kept: Iterable[DatasetVersion], marked: Iterable[tuple[str, str, int]]) -> int:
        """Record the versions and labels that are missing, and return how many versions there were.

        A version whose number or content the database has already is left out.
        """
        count = 0
        with self._database.writing() as connection:
            for version in kept:
                count += _restore(connection, version)
            for name, label, number in marked:
                here = (labels.c.name == name) & (labels.c.label == label)
                target = (versions.c.name == name) & (versions.c.number == number)
                is_labelled = connection.execute(select(labels).where(here)).first() is not None
                if not is_labelled and connection.execute(select(versions.c.number).where(target)).first():
                    put_label(connection, name, label, number)
        return count


def register(connection: Connection, draft: DatasetDraft) -> DatasetVersion:
    """Return the version with a draft's content and recipe, inside the caller's transaction, which excludes others."""
    content = draft.content
    same = {"of": draft.name, "content": content.digest, "how": encode_sparse(content.recipe)}
    row = connection.execute(_SAME(), same).first()
    if row is not None:
        return _stored_again(connection, version_from(row), content)
    last: int = connection.scalar(_LAST(), {"of": draft.name}) or 0
    version = DatasetVersion(draft.name, last + 1, content, draft.origin)
    connection.execute(insert(versions).values(version_to_row(version)))
    return version


def _stored_again(connection: Connection, version: DatasetVersion, content: DatasetContent) -> DatasetVersion:
    """Return a version whose bytes were stored once more: it has them from the datastore that they are in now."""
    old, new = version.content.reference, content.reference
    is_kept = version.content.kind is content.kind is DatasetKind.KEPT
    if not is_kept or old.store == new.store or old.basename != new.basename:
        return version
    return _kept(connection, version, new)


def _kept(connection: Connection, version: DatasetVersion, reference: ObjectReference) -> DatasetVersion:
    kept = replace(version, content=replace(version.content, kind=DatasetKind.KEPT, reference=reference))
    row = version_to_row(kept)
    changed = {name: row[name] for name in ("kind", "store", "object", "basename", "object_bytes")}
    connection.execute(_this(version).values(changed))
    return kept


def put_label(connection: Connection, name: str, label: str, number: int) -> None:
    """Set a label inside the caller's transaction."""
    connection.execute(delete(labels).where(labels.c.name == name, labels.c.label == label))
    connection.execute(insert(labels).values(name=name, label=label, number=number))


def version_to_row(version: DatasetVersion) -> dict[str, Any]:
    """Return a version's row, without its profile."""
    content, origin, reference = version.content, version.origin, version.content.reference
    return {
        "name": version.name, "number": version.number, "kind": content.kind.value, "digest": content.digest,
        "bytes": content.bytes, "recipe": encode_sparse(content.recipe), "store": reference.store,
        "object": reference.digest, "basename": reference.basename, "object_bytes": reference.bytes,
        "columns": _columns_to_json(content.columns), "rows": content.rows,
        "arrow_schema": content.schema, "skipped": content.skipped, "created": origin.created,
        "owner": origin.owner, "run": origin.run, "step": origin.step, "output": origin.output,
        "parents": to_json(origin.parents), "description": origin.description, "tags": to_json(dict(origin.tags)),
        "query": None if origin.query is None else encode_sparse(origin.query),
    }  # fmt: skip


def version_from(row: Row[Any]) -> DatasetVersion:
    """Return the version; raise ValueError if nbpipe cannot have written the row."""
    if row.profile is not None:
        decode(row.profile, TableProfile)
    if not is_name(row.name) or row.number < 1 or not is_plausible(row.number):
        raise ValueError(f"{row.name!r:.60} {row.number!r:.20} is no version of a dataset")
    columns = None if row.columns is None else tuple(decode(row.columns, tuple[Column, ...]))
    reference = ObjectReference(row.store, row.object, row.basename, row.object_bytes)
    content = DatasetContent(
        DatasetKind(row.kind), row.digest, row.bytes, decode(row.recipe, DatasetRecipe), reference, columns, row.rows,
        row.arrow_schema, row.skipped,
    )  # fmt: skip
    origin = DatasetOrigin(
        row.created, row.owner, row.run, row.step, row.output, decode(row.parents, tuple[str, ...]), row.description,
        decode(row.tags, dict[str, str]), None if row.query is None else decode(row.query, DatasetQuery),
    )  # fmt: skip
    return DatasetVersion(row.name, row.number, content, origin)


def label_from(row: Row[Any]) -> tuple[str, str, int]:
    """Return the dataset, the label and the number; raise ValueError if nbpipe cannot have written the row."""
    if not is_name(row.name) or not is_name(row.label):
        raise ValueError(f"{row.label!r:.60} of {row.name!r:.60} is no label of a dataset")
    return row.name, row.label, row.number


def _columns_to_json(columns: Sequence[Column] | None) -> str | None:
    return None if columns is None else encode_sparse(tuple(columns))


def _this(version: DatasetVersion) -> Any:
    return update(versions).where(versions.c.name == version.name, versions.c.number == version.number)


def _restore(connection: Connection, version: DatasetVersion) -> bool:
    same = {
        "of": version.name,
        "content": version.content.digest,
        "how": encode_sparse(version.content.recipe),
    }
    theirs = (versions.c.name == version.name) & (versions.c.number == version.number)
    taken = connection.execute(select(versions.c.number).where(theirs)).first()
    if taken is not None or connection.execute(_SAME(), same).first() is not None:
        return False
    connection.execute(insert(versions).values(version_to_row(version)))
    return True


def registered(connection: Connection, drafts: Mapping[str, DatasetDraft]) -> dict[str, str]:
    """Register drafts by output inside the caller's transaction; return the versions as ``NAME@NUMBER``."""
    return {output: str(register(connection, draft)) for output, draft in drafts.items()}
