"""The kinds of datastores: which library opens which addresses, with which options and credentials."""

from __future__ import annotations

import base64
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from nbpipe.data.stores.credentials import credential_values
from nbpipe.data.stores.folder_store import FolderStore
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.errors import DatastoreUnavailable, StoreOutOfReach
from nbpipe.model.datastores import DatastoreConfiguration, StoreAccess
from nbpipe.model.web import WebSettings

_RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
_CLOUD = "nbpipe.data.stores.cloud_store"
_SERVER = "nbpipe.data.stores.server_store"
_WEB = "nbpipe.data.stores.web_store"
_SFTP_PORT = 22

Opened = Callable[[DatastoreConfiguration, SplitResult, Mapping[str, str]], ObjectStore]


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of datastore: an example of its address, the names of its options and credentials, and what opens it.

    ``extra`` is the extra of nbpipe that brings its library; ``is_writable`` says whether it can be written at all.
    """

    example: str
    open: Opened
    options: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    extra: str = ""
    is_writable: bool = True


def kind_of(configuration: DatastoreConfiguration) -> StoreKind:
    """Return the kind of a datastore."""
    return KINDS[urlsplit(configuration.url).scheme]


def open_store(configuration: DatastoreConfiguration, environment: Mapping[str, str]) -> ObjectStore:
    """Return a datastore; raise DatastoreUnavailable if a library or a credential is missing. Nothing is read yet."""
    return open_with(StoreAccess(configuration, credential_values(configuration, environment)))


def open_with(access: StoreAccess) -> ObjectStore:
    """Return a datastore; raise DatastoreUnavailable if a library is missing. Nothing is read yet."""
    configuration = access.configuration
    address = urlsplit(configuration.url)
    kind = KINDS[address.scheme]
    try:
        return kind.open(configuration, address, access.credentials)
    except ImportError as error:
        message = f"the datastore `{configuration.name}` needs {error.name or 'a library'}, which is not installed"
        raise DatastoreUnavailable(message, f"Run: pip install 'nbpipe[{kind.extra}]'") from None
    except (ValueError, TypeError) as error:
        message = f"the datastore `{configuration.name}` cannot be opened: {error}"
        raise DatastoreUnavailable(message, "Correct its settings in nbpipe.toml.") from None


def _open_folder(
    configuration: DatastoreConfiguration, address: SplitResult, _credentials: Mapping[str, str]
) -> ObjectStore:
    return FolderStore(configuration.name, Path(unquote(address.path)))


def _open_memory(
    configuration: DatastoreConfiguration, _address: SplitResult, _credentials: Mapping[str, str]
) -> ObjectStore:
    bucket = _MEMORY.setdefault(configuration.url, importlib.import_module("obstore.store").MemoryStore())
    return _cloud(configuration, bucket)


# What is stored in memory lives as long as the process, however often the store is opened.
_MEMORY: dict[str, Any] = {}


def _open_s3(
    configuration: DatastoreConfiguration, address: SplitResult, credentials: Mapping[str, str]
) -> ObjectStore:
    stores = importlib.import_module("obstore.store")
    endpoint = str(configuration.options.get("endpoint", ""))
    more: dict[str, Any] = {"region": configuration.options.get("region", "us-east-1")}
    more |= {"endpoint": endpoint} if endpoint else {}
    more["virtual_hosted_style_request"] = configuration.options.get("virtual_host", False)
    if credentials:
        _require(credentials, "access_key_id", "secret_access_key")
        more["credential_provider"] = lambda: {
            "access_key_id": credentials["access_key_id"],
            "secret_access_key": credentials["secret_access_key"],
            "token": credentials.get("session_token"),
            "expires_at": None,
        }
    elif configuration.uses_profile:
        more |= _chain("obstore.auth.boto3", "Boto3CredentialProvider")
    else:
        more["skip_signature"] = True
    bucket = stores.S3Store(
        address.netloc, prefix=_prefix(address.path), client_options=_client(endpoint), retry_config=_RETRIES, **more
    )
    return _cloud(configuration, bucket)


def _open_azure(
    configuration: DatastoreConfiguration, address: SplitResult, credentials: Mapping[str, str]
) -> ObjectStore:
    stores = importlib.import_module("obstore.store")
    container, _, host = address.netloc.partition("@")
    account = host.partition(".")[0] or configuration.options.get("account", "")
    if not account:
        raise ValueError("it names no storage account: add options = { account = … }")
    endpoint = str(configuration.options.get("endpoint", ""))
    more: dict[str, Any] = {"account_name": account} | ({"endpoint": endpoint} if endpoint else {})
    if "account_key" in credentials or "sas_token" in credentials:
        key = "access_key" if "account_key" in credentials else "sas_token"
        value = credentials.get("account_key") or credentials["sas_token"].lstrip("?")
        _require_azure_form(key, value)
        more["credential_provider"] = lambda: {key: value, "expires_at": None}
    elif credentials:
        _require(credentials, "client_id", "client_secret", "tenant_id")
        more |= credentials
    elif configuration.uses_profile:
        more |= _chain("obstore.auth.azure", "AzureCredentialProvider") or {"use_azure_cli": True}
    else:
        more["skip_signature"] = True
    bucket = stores.AzureStore(
        container, prefix=_prefix(address.path), client_options=_client(endpoint), retry_config=_RETRIES, **more
    )
    return _cloud(configuration, bucket)


def _open_google(
    configuration: DatastoreConfiguration, address: SplitResult, credentials: Mapping[str, str]
) -> ObjectStore:
    stores = importlib.import_module("obstore.store")
    more: dict[str, Any] = {}
    if "service_account_key" in credentials:
        more["service_account_key"] = credentials["service_account_key"]
    elif not configuration.uses_profile:
        more["skip_signature"] = True
    try:
        bucket = stores.GCSStore(address.netloc, prefix=_prefix(address.path), retry_config=_RETRIES, **more)
    except importlib.import_module("obstore.exceptions").BaseError:
        # The library's own message may quote the key.
        raise ValueError("its service_account_key is not the content of a service account's key file") from None
    return _cloud(configuration, bucket)


def _open_sftp(
    configuration: DatastoreConfiguration, address: SplitResult, credentials: Mapping[str, str]
) -> ObjectStore:
    library, connection = importlib.import_module("sshfs"), importlib.import_module("asyncssh")
    more: dict[str, Any] = {
        name: credentials[name] for name in ("username", "password", "passphrase") if name in credentials
    }
    more |= {"client_keys": [credentials["key_file"]]} if "key_file" in credentials else {}
    known = configuration.options.get("known_hosts")
    # Without a value its library would believe any host; the empty tuple stands for the files of ssh.
    more["known_hosts"] = str(Path(str(known)).expanduser()) if known else ()
    try:
        files = library.SSHFileSystem(
            address.hostname, port=address.port or _SFTP_PORT, skip_instance_cache=True,
            connect_timeout=configuration.options.get("timeout", 30), **more,
        )  # fmt: skip
    except (OSError, connection.Error) as error:
        raise _unreached(configuration, error) from None
    store: ObjectStore = importlib.import_module(_SERVER).ServerStore(
        configuration.name, files, unquote(address.path), configuration.url, (connection.Error,)
    )
    return store


def _open_web(
    configuration: DatastoreConfiguration, _address: SplitResult, credentials: Mapping[str, str]
) -> ObjectStore:
    # Proxies and authorities are this process's own, as with the object stores' library.
    store: ObjectStore = importlib.import_module(_WEB).open_web_store(configuration, credentials, os.environ)
    return store


def open_web_files(settings: WebSettings, environment: Mapping[str, str]) -> ObjectStore:
    """Return any files of the web that the settings allow to be read; their keys are their addresses."""
    store: ObjectStore = importlib.import_module(_WEB).open_web_files(settings, environment)
    return store


def _unreached(configuration: DatastoreConfiguration, error: Exception) -> StoreOutOfReach:
    message = f"the datastore `{configuration.name}` is out of reach ({configuration.url}): {error}"
    return StoreOutOfReach(message, "Check its address, its credentials, and whether its host is known to ssh.")


def _cloud(configuration: DatastoreConfiguration, bucket: Any) -> ObjectStore:
    store: ObjectStore = importlib.import_module(_CLOUD).CloudStore(configuration.name, bucket, configuration.url)
    return store


def _open_database(
    configuration: DatastoreConfiguration, _address: SplitResult, _credentials: Mapping[str, str]
) -> ObjectStore:
    message = f"the datastore `{configuration.name}` is a database, which holds no files"
    raise DatastoreUnavailable(message, f"Read it with: nbpipe.Dataset.from_query({configuration.name!r}, SQL)")


def _chain(module: str, provider: str) -> dict[str, Any]:
    """Return the provider of the cloud's own library, which knows its configuration files, if that is installed."""
    try:
        return {"credential_provider": getattr(importlib.import_module(module), provider)()}
    except ImportError:
        # The object store's own chain knows variables and instance roles.
        return {}


def _require(credentials: Mapping[str, str], *names: str) -> None:
    """Raise ValueError if one of the credentials that belong together is missing."""
    missing = [name for name in names if name not in credentials]
    if missing:
        raise ValueError(f"its credentials lack {' and '.join(missing)}")


def _require_azure_form(key: str, value: str) -> None:
    """Raise ValueError for a credential that is none: the library would say so only in its own terms."""
    if key == "sas_token" and "sig" not in parse_qs(value):
        raise ValueError("its sas_token has no signature: it looks like sv=…&sig=…")
    try:
        base64.b64decode(value if key == "access_key" else "", validate=True)
    except ValueError:
        raise ValueError("its account_key is not in base64, as the portal shows it") from None


def _prefix(path: str) -> str | None:
    return unquote(path).strip("/") or None


def _client(endpoint: str) -> dict[str, Any]:
    # Only an endpoint that is written so is reached without encryption.
    return {"allow_http": True, "timeout": "120s"} if endpoint.startswith("http://") else {"timeout": "120s"}


_AZURE = partial(
    StoreKind, open=_open_azure, options=("account", "endpoint"), extra="azure",
    credentials=("account_key", "sas_token", "client_id", "client_secret", "tenant_id"),
)  # fmt: skip

_OF_WEB = partial(StoreKind, open=_open_web, is_writable=False)

DATABASES = ("sqlite", "postgresql")
"""The kinds of datastores that hold tables and no files."""

KINDS: Mapping[str, StoreKind] = {
    "file": StoreKind("file:///data/lake", _open_folder),
    "memory": StoreKind("memory://scratch", _open_memory, extra="s3"),
    "s3": StoreKind(
        "s3://bucket/prefix", _open_s3, ("endpoint", "region", "virtual_host"),
        ("access_key_id", "secret_access_key", "session_token"), "s3",
    ),
    "az": _AZURE("az://container/prefix"),
    "abfss": _AZURE("abfss://container@account.dfs.core.windows.net/prefix"),
    "gs": StoreKind("gs://bucket/prefix", _open_google, (), ("service_account_key",), "gcs"),
    "sftp": StoreKind(
        "sftp://host/folder", _open_sftp, ("known_hosts", "timeout"),
        ("username", "password", "key_file", "passphrase"), "sftp",
    ),
    "https": _OF_WEB("https://data.example.org/sets/", credentials=("token", "username", "password")),
    # Without encryption anyone on the way could read a credential.
    "http": _OF_WEB("http://data.lab/sets/"),
    "sqlite": StoreKind("sqlite:///data/shop.db", _open_database),
    "postgresql": StoreKind("postgresql://host/database", _open_database, (), ("user", "password"), "postgresql"),
}  # fmt: skip
