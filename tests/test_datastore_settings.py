"""Datastores in nbpipe.toml: what is wrong is told before anything is opened, and a secret never is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.authoring.datastore_edits import add_datastore
from nbpipe.data.stores.credentials import credential_values
from nbpipe.data.stores.opening import KINDS
from nbpipe.errors import BadUsage, DatastoreUnavailable, Refused
from nbpipe.model.datastores import CredentialReference, CredentialSource, DatastoreConfiguration
from nbpipe.resolve.datastore_settings import configured_datastores, datastore_of
from nbpipe.resolve.store_path import StorePath, parse_store_path
from nbpipe.resolve.workspace_layout import find_workspace

CANARY = "canary-7f3a9c"
ENV = CredentialReference(CredentialSource.ENV, "LAKE_KEY")


def configured(folder: Path, text: str) -> dict[str, DatastoreConfiguration]:
    (folder / "nbpipe.toml").write_text(text)
    return configured_datastores(find_workspace(folder))


def refused(folder: Path, text: str) -> str:
    with pytest.raises(BadUsage) as caught:
        configured(folder, text)
    return str(caught.value)


def test_a_whole_configuration(tmp_path):
    text = """
    [datastores.lake]
    url = "s3://bucket/raw"
    options = { endpoint = "http://127.0.0.1:9000", region = "eu-west-1" }
    credentials = { access_key_id = "env:LAKE_KEY", secret_access_key = "keyring:minio/secret" }
    write = false
    [datastores.local]
    url = "./data here"
    [datastores.other]
    url = "abfss://c@account.dfs.core.windows.net/"
    credentials = "profile"
    """
    found = configured(tmp_path, text)

    lake = found["lake"]
    assert (lake.url, lake.writable, lake.uses_profile) == ("s3://bucket/raw", False, False)
    assert lake.credentials["access_key_id"] == ENV
    assert lake.credentials["secret_access_key"] == CredentialReference(CredentialSource.KEYRING, "minio/secret")
    assert found["local"].url == f"file://{tmp_path}/data%20here"
    assert found["other"].uses_profile


@pytest.mark.parametrize(
    "text, expected",
    [
        ("datastores = 3", "is not a table"),
        ("[datastores]\nlake = 's3://x'", "`lake` in [datastores]"),
        ("[datastores]\ndefault = 'lake'", "which is no datastore"),
        ("[datastores.'la ke']\nurl = 's3://x'", "is not the name of a datastore"),
        ("[datastores.lake]", "has no `url`"),
        ("[datastores]\ndefault = 'shop'\n[datastores.shop]\nurl = 'sqlite:///x.db'", "which is a database"),
        ("[datastores.lake]\nurl = 3", "has no `url`"),
        ("[datastores.lake]\nurl = 's3:/x'", "names no bucket or host"),
        ("[datastores.lake]\nurl = 'sp3://x'", "Did you mean `s3`?"),
        ("[datastores.lake]\nurl = 's3://x?key=1'", "has a query"),
        ("[datastores.lake]\nurl = 's3://x'\nulr = 3", "Did you mean `url`?"),
        ("[datastores.lake]\nurl = 's3://x'\nwrite = 'no'", "It may be true or false"),
        ("[datastores.lake]\nurl = 's3://x'\noptions = 3", "`options` of"),
        ("[datastores.lake]\nurl = 's3://x'\noptions = { regoin = 'x' }", "Did you mean `region`?"),
        ("[datastores.lake]\nurl = './x'\noptions = { region = 'x' }", "This kind of datastore has none"),
        ("[datastores.lake]\nurl = 's3://x'\noptions = { region = [1] }", "neither a text nor a number"),
        ("[datastores.lake]\nurl = './x'\ncredentials = { key = 'env:X' }", "It needs no credentials"),
        ("[datastores.lake]\nurl = 's3://x'\ncredentials = { access_key = 'env:X' }", "Did you mean `access_key_id`?"),
        ("[datastores.lake]\nurl = 's3://x'\ncredentials = 'env:X'", "is not a table of references"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, expected):
    assert expected in refused(tmp_path, text)


@pytest.mark.parametrize(
    "lines",
    [
        f"credentials = {{ secret_access_key = '{CANARY}' }}",
        f"credentials = {{ secret_access_key = ['{CANARY}'] }}",
        f"credentials = {{ secret_access_key = 'keyring:{CANARY}' }}",
        f"credentials = '{CANARY}'",
        f"credentials = ['{CANARY}']",
        f"options = {{ secret_access_key = '{CANARY}' }}",
    ],
)
def test_a_value_where_a_reference_belongs_is_refused_and_not_repeated(tmp_path, lines):
    message = refused(tmp_path, f"[datastores.lake]\nurl = 's3://x'\n{lines}")
    assert CANARY not in message
    assert "env:NAME, file:PATH or keyring:SERVICE/USER" in message


@pytest.mark.parametrize("url", [f"sftp://user:{CANARY}@host/x", f"s3://key:{CANARY}@bucket/x"])
def test_credentials_in_an_address_are_refused_and_not_repeated(tmp_path, url):
    message = refused(tmp_path, f"[datastores.lake]\nurl = '{url}'")
    assert "holds credentials" in message
    assert CANARY not in message


@given(st.dictionaries(st.sampled_from(["url", "options", "credentials", "write", "x"]), st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.sampled_from([kind.example for kind in KINDS.values()]),
    st.dictionaries(st.sampled_from(["region", "endpoint", "username"]), st.one_of(st.integers(), st.text(max_size=9))),
)))  # fmt: skip
def test_any_table_is_read_or_refused(table):
    try:
        configuration = datastore_of("lake", table, Path("nbpipe.toml"))
    except Refused:
        return
    assert configuration.name == "lake"


def test_values_are_read_where_the_references_say(tmp_path):
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    (tmp_path / "secret").chmod(0o600)
    references = {
        "access_key_id": ENV, "secret_access_key": CredentialReference(CredentialSource.FILE, f"{tmp_path}/secret"),
    }  # fmt: skip
    configuration = DatastoreConfiguration("lake", "s3://x", {}, references)
    values = credential_values(configuration, {"LAKE_KEY": "key"})
    assert values == {"access_key_id": "key", "secret_access_key": CANARY}


@pytest.mark.parametrize(
    "reference, mode, expected",
    [
        (ENV, 0o600, "the environment variable LAKE_KEY is not set"),
        (CredentialReference(CredentialSource.FILE, "{}/nowhere"), 0o600, "cannot be read: No such file"),
        (CredentialReference(CredentialSource.FILE, "{}/secret"), 0o640, "which others may read"),
        (CredentialReference(CredentialSource.KEYRING, "service/user"), 0o600, "keyring"),
    ],
)
def test_a_credential_that_is_missing_is_told(tmp_path, reference, mode, expected):
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / "secret").chmod(mode)
    reference = CredentialReference(reference.source, reference.name.format(tmp_path))
    with pytest.raises(DatastoreUnavailable, match=expected) as caught:
        credential_values(DatastoreConfiguration("lake", "s3://x", {}, {"secret_access_key": reference}), {})
    assert CANARY not in str(caught.value)
    assert "`lake`" in str(caught.value)


def test_a_datastore_is_added_and_the_rest_of_the_file_stays(tmp_path):
    text = '# ours\nsource = []  # none\n\n[reuse]\npackages = "observed"\n'
    (tmp_path / "nbpipe.toml").write_text(text)
    (tmp_path / "nbpipe.toml").chmod(0o640)
    table = {"url": "s3://b", "credentials": {"access_key_id": "env:LAKE_KEY"}, "write": False}
    add_datastore(tmp_path / "nbpipe.toml", "lake", table)
    add_datastore(tmp_path / "nbpipe.toml", "other", {"url": "./x"})

    assert (tmp_path / "nbpipe.toml").read_text().startswith(text)
    assert (tmp_path / "nbpipe.toml").stat().st_mode & 0o777 == 0o640
    found = configured_datastores(find_workspace(tmp_path))
    assert list(found) == ["lake", "other"]
    assert (found["lake"].credentials, found["lake"].writable) == ({"access_key_id": ENV}, False)
    with pytest.raises(BadUsage, match="has a datastore `lake` already"):
        add_datastore(tmp_path / "nbpipe.toml", "lake", {"url": "./y"})


def test_a_broken_file_is_left_as_it_is(tmp_path):
    (tmp_path / "nbpipe.toml").write_text("[datastores")
    with pytest.raises(BadUsage, match="cannot be read"):
        add_datastore(tmp_path / "nbpipe.toml", "lake", {"url": "./x"})
    assert (tmp_path / "nbpipe.toml").read_text() == "[datastores"
    assert [path.name for path in tmp_path.iterdir()] == ["nbpipe.toml"]


@pytest.mark.parametrize(
    "text, place",
    [
        ("store:lake/a/b.csv", StorePath("lake", "a/b.csv")),
        ("lake/a/", StorePath("lake", "a/")),
        ("lake", StorePath("lake", "")),
        ("store:lake/", StorePath("lake", "")),
    ],
)
def test_places(text, place):
    assert parse_store_path(text) == place
    assert parse_store_path(str(place)) == place


@pytest.mark.parametrize("text", ["", "/", "store:", "3x/a", "./a", "https://x/y"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(BadUsage, match="is not a place in a datastore"):
        parse_store_path(text)
