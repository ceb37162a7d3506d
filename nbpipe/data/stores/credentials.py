"""The values of credentials, read where nbpipe.toml refers to, just before a datastore is used.

A value is handed to the library that connects, and is found nowhere else: no file, no message, no log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nbpipe.errors import DatastoreUnavailable
from nbpipe.model.datastores import CredentialReference, CredentialSource, DatastoreConfiguration

_OTHERS_MAY_READ = 0o077


def credential_values(configuration: DatastoreConfiguration, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the credentials of a datastore by name; raise DatastoreUnavailable if one cannot be found."""
    values = {
        key: _value(configuration.name, key, reference, environment)
        for key, reference in configuration.credentials.items()
    }
    for key, value in values.items():
        # A line end in a header would end it; a key file's content has several lines.
        if key != "service_account_key" and not value.isprintable():
            where = f"the datastore `{configuration.name}` takes its {key} from {configuration.credentials[key]}"
            hint = "It may have been copied with a line end: set it again."
            raise DatastoreUnavailable(f"{where}, which has characters that no credential has", hint)
    return values


def _value(store: str, key: str, reference: CredentialReference, environment: Mapping[str, str]) -> str:
    where = f"the datastore `{store}` takes its {key} from {reference}"
    match reference.source:
        case CredentialSource.ENV:
            if not environment.get(reference.name):
                hint = f"Set it before you start nbpipe or Jupyter: export {reference.name}=…"
                raise DatastoreUnavailable(f"{where}, and the environment variable {reference.name} is not set", hint)
            return environment[reference.name]
        case CredentialSource.FILE:
            return _from_file(where, Path(os.path.expandvars(reference.name)).expanduser())
        case CredentialSource.KEYRING:
            return _from_keyring(where, reference.name)


def _from_file(where: str, path: Path) -> str:
    try:
        if path.stat().st_mode & _OTHERS_MAY_READ:
            raise DatastoreUnavailable(f"{where}, which others may read", f"Close it: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"{where}, which cannot be read: {error.strerror}"
        raise DatastoreUnavailable(message, "Write the credential, and nothing else, into that file.") from None
    except UnicodeDecodeError:
        raise DatastoreUnavailable(f"{where}, which is not text") from None


def _from_keyring(where: str, name: str) -> str:
    # Imported here: an extra.
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise DatastoreUnavailable(f"{where}, which needs keyring", "Run: pip install 'nbpipe[keyring]'") from None
    service, _, user = name.partition("/")
    try:
        value = keyring.get_password(service, user)
    except KeyringError as error:
        hint = "Where there is no keyring, refer to a variable (env:NAME) or a file (file:PATH)."
        raise DatastoreUnavailable(f"{where}, which cannot be used here: {error}", hint) from None
    if value is None:
        raise DatastoreUnavailable(f"{where}, which has none", f"Store it with: keyring set {service} {user}")
    return value
