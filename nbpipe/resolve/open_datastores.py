"""The datastores that a workspace's settings configure, each opened on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.opening import open_store
from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.model.datastores import DatastoreConfiguration
from nbpipe.resolve.datastore_settings import configured_datastores
from nbpipe.resolve.workspace_layout import SETTINGS, WorkspaceLayout

_ADD = "Add one with: nbpipe datastores add NAME URL"


@dataclass(slots=True)
class OpenDatastores:
    """The configured datastores by name; ``environ`` has the variables that credentials refer to."""

    layout: WorkspaceLayout
    configured: Mapping[str, DatastoreConfiguration]
    environ: Mapping[str, str]
    _opened: dict[str, ObjectStore] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: WorkspaceLayout, environ: Mapping[str, str]) -> OpenDatastores:
        """Return the datastores of a workspace; raise BadUsage if one is not configured correctly."""
        return cls(layout, configured_datastores(layout), environ)

    def configuration(self, name: str) -> DatastoreConfiguration:
        """Return a datastore's configuration; raise BadUsage if there is none of this name."""
        if name not in self.configured:
            where = self.layout.settings_file or f"any {SETTINGS}"
            known = f"There are: {', '.join(self.configured)}." if self.configured else _ADD
            raise BadUsage(f"there is no datastore `{name}` in {where}", nearest(name, self.configured) or known)
        return self.configured[name]

    def store(self, name: str, *, writes: bool = False) -> ObjectStore:
        """Return a datastore's objects; raise BadUsage if it is to be written and is configured as read-only."""
        configuration = self.configuration(name)
        if writes:
            self.require_writable(name)
        if name not in self._opened:
            self._opened[name] = open_store(configuration, self.environ)
        return self._opened[name]

    def require_writable(self, name: str) -> None:
        """Raise BadUsage if there is no datastore of this name, or if it is configured as read-only."""
        if not self.configuration(name).writable:
            hint = f"Remove `write = false` from [datastores.{name}] in {SETTINGS} to write to it."
            raise BadUsage(f"the datastore `{name}` is read-only", hint)

    def close(self) -> None:
        """End the connections."""
        for store in self._opened.values():
            store.close()
        self._opened.clear()
