"""The datastores that ``nbpipe.toml`` configures, checked; nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from nbpipe.data.stores.opening import DATABASES, KINDS, StoreKind
from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.model.datastores import CredentialReference, CredentialSource, DatastoreConfiguration
from nbpipe.resolve.workspace_layout import SETTINGS, WorkspaceLayout

PROFILE = "profile"
_KEYS = ("url", "options", "credentials", "write")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# The workspace's own datastore, and the key that names the default one.
DEFAULT = "default"
_SQLITE = "sqlite"
_REFERENCE = re.compile(r"(env|file|keyring):(.+)", re.DOTALL)
# In the addresses of the others, what stands before the @ is a container or a bucket.
_WITH_USERS = ("sftp", "https", "http")
_REFERENCES = 'env:NAME, file:PATH or keyring:SERVICE/USER, or write credentials = "profile"'


def configured_datastores(layout: WorkspaceLayout) -> dict[str, DatastoreConfiguration]:
    """Return the datastores of a workspace by name; raise BadUsage for the first that is not configured correctly."""
    file = layout.settings_file or Path(SETTINGS)
    configured = {}
    for name, table in layout.datastores.items():
        if name != DEFAULT:
            configured[name] = datastore_of(name, table, file)
    if DEFAULT in layout.datastores:
        _require_default(file, layout.datastores[DEFAULT], configured)
    return configured


def _require_default(file: Path, name: object, configured: Mapping[str, DatastoreConfiguration]) -> None:
    """Raise BadUsage unless outputs can be stored in the default datastore."""
    hint = f'Write the name of a datastore, for example: {DEFAULT} = "lake"'
    if not isinstance(name, str):
        raise BadUsage(f"`{DEFAULT}` in [datastores] of {file} is not a name", hint)
    if name not in (*configured, DEFAULT):
        known = f"There are: {', '.join(configured)}." if configured else "Add one with: nbpipe datastores add NAME URL"
        raise BadUsage(
            f"`{DEFAULT}` in [datastores] of {file} is `{name}`, which is no datastore",
            nearest(name, configured) or known,
        )
    if name in configured and not configured[name].writable:
        message = f"`{DEFAULT}` in [datastores] of {file} is `{name}`, which is read-only"
        raise BadUsage(message, f"Remove `write = false` from [datastores.{name}], or name another.")
    if name in configured and urlsplit(configured[name].url).scheme in DATABASES:
        message = f"`{DEFAULT}` in [datastores] of {file} is `{name}`, which is a database and stores no files"
        raise BadUsage(message, hint)


def datastore_of(name: str, table: object, file: Path) -> DatastoreConfiguration:
    """Return the configuration in a table of a settings file; raise BadUsage if something in it is wrong."""
    where = f"[datastores.{name}] in {file}"
    if _NAME.fullmatch(name) is None or name == DEFAULT:
        raise BadUsage(f"`{name}` is not the name of a datastore", "It has letters, digits, _ and -, a letter first.")
    if not isinstance(table, dict):
        raise BadUsage(f"`{name}` in [datastores] of {file} is not a table", f"Write it as [datastores.{name}].")
    for key in table:
        if key not in _KEYS:
            raise BadUsage(f"{where} has the key `{key}`", nearest(key, _KEYS) or f"It knows: {', '.join(_KEYS)}.")
    url, kind = _address(where, table.get("url"), file.parent)
    writable = table.get("write", kind.is_writable)
    if not isinstance(writable, bool):
        raise BadUsage(f"`write` of {where} is {writable!r}", "It may be true or false.")
    if writable and not kind.is_writable:
        raise BadUsage(f"`write` of {where} is true, and a web server is only read", "Leave it out.")
    options = _options(where, table.get("options", {}), kind)
    credentials = table.get("credentials", {})
    uses_profile = credentials == PROFILE
    references = {} if uses_profile else _references(where, credentials, kind)
    return DatastoreConfiguration(name, url, options, references, uses_profile, writable)


def _address(where: str, url: object, base: Path) -> tuple[str, StoreKind]:
    """Return the address, a path as a ``file:`` one, and the kind of datastore that it is of."""
    examples = ", ".join(kind.example for kind in KINDS.values())
    if not isinstance(url, str) or not url:
        raise BadUsage(f"{where} has no `url`", f"For example: {examples}")
    address = urlsplit(url)
    if not address.scheme:
        path = base / Path(url).expanduser()
        return f"file://{quote(str(path))}", KINDS["file"]
    if address.scheme == _SQLITE:
        path = base / Path(url.removeprefix("sqlite:///")).expanduser()
        return f"sqlite:///{path}", KINDS[_SQLITE]
    kind = KINDS.get(address.scheme)
    if kind is None:
        hint = nearest(address.scheme, KINDS) or f"For example: {examples}"
        raise BadUsage(f"`url` of {where} begins with `{address.scheme}:`, which is no kind of datastore", hint)
    if address.password is not None or (address.username is not None and address.scheme in _WITH_USERS):
        hint = f"Refer to them in `credentials`: {', '.join(f'{key} = …' for key in kind.credentials)}."
        raise BadUsage(f"`url` of {where} holds credentials", hint)
    if address.query or address.fragment:
        raise BadUsage(f"`url` of {where} has a query", "Write what belongs to it in `options` and `credentials`.")
    if not address.netloc and address.scheme != "file":
        raise BadUsage(f"`url` of {where} names no bucket or host", f"For example: {kind.example}")
    return url, kind


def _options(where: str, table: object, kind: StoreKind) -> dict[str, str | int | float | bool]:
    if not isinstance(table, dict):
        raise BadUsage(f"`options` of {where} is not a table", "For example: options = { timeout = 30 }")
    for key, value in table.items():
        if key in kind.credentials:
            hint = f"Refer to it in `credentials`: {_REFERENCES}."
            raise BadUsage(f"`options` of {where} has the credential `{key}`", hint)
        if key not in kind.options:
            known = f"It knows: {', '.join(kind.options)}." if kind.options else "This kind of datastore has none."
            raise BadUsage(f"`options` of {where} has the key `{key}`", nearest(key, kind.options) or known)
        if not isinstance(value, str | int | float | bool):
            raise BadUsage(f"`{key}` in `options` of {where} is neither a text nor a number")
    return table


def _references(where: str, table: object, kind: StoreKind) -> dict[str, CredentialReference]:
    """Return the references; an error never repeats what stands there, which may be a secret."""
    if not isinstance(table, dict):
        raise BadUsage(f"`credentials` of {where} is not a table of references", f"Refer to each: {_REFERENCES}.")
    references = {}
    for key, value in table.items():
        if key not in kind.credentials:
            known = f"It knows: {', '.join(kind.credentials)}." if kind.credentials else "It needs no credentials."
            raise BadUsage(f"`credentials` of {where} has the key `{key}`", nearest(key, kind.credentials) or known)
        references[key] = credential_reference(where, key, value)
    return references


def credential_reference(where: str, key: str, value: object) -> CredentialReference:
    """Return a reference to a credential; raise BadUsage, without repeating it, for anything else."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[1] == CredentialSource.KEYRING and "/" not in match[2]):
        hint = f"Refer to it: {_REFERENCES}."
        raise BadUsage(f"`{key}` in `credentials` of {where} is a value, or not a reference", hint)
    return CredentialReference(CredentialSource(match[1]), match[2])
