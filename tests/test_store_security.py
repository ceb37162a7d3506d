"""Attacks on datastores: by a server's answers, by the names of objects, and by what a credential is made of."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, quote_plus

import boto3
import nbformat
import pytest
from command_in_process import said
from object_servers import KEY, SECRET, make_bucket, moto_server

from nbpipe.data.stores import opening
from nbpipe.data.stores.opening import open_store
from nbpipe.errors import DatastoreUnavailable, NbpipeError, StoreOutOfReach
from nbpipe.model.datastores import CredentialReference, CredentialSource, DatastoreConfiguration

SAS = "sv=2021-08-06&se=2030-01-01&sig=canary%2Bsignature%3D"
VALUES = {
    "KEY_ID": "canary-key-id", "SECRET": "canary-secret+/=", "TOKEN": "canary-token",
    "ACCOUNT_KEY": base64.b64encode(b"canary-account-key").decode(), "SAS": SAS,
}  # fmt: skip
KINDS = {
    "s3": ("s3://bucket/x", {}, {"access_key_id": "KEY_ID", "secret_access_key": "SECRET", "session_token": "TOKEN"}),
    "key": ("az://box/x", {"account": "acc"}, {"account_key": "ACCOUNT_KEY"}),
    "sas": ("az://box/x", {"account": "acc"}, {"sas_token": "SAS"}),
}


def configured(kind: str, endpoint: str) -> DatastoreConfiguration:
    url, options, credentials = KINDS[kind]
    references = {name: CredentialReference(CredentialSource.ENV, value) for name, value in credentials.items()}
    return DatastoreConfiguration("lake", url, {**options, "endpoint": endpoint}, references)


def forms(value: str) -> set[str]:
    """Return a credential as it may be written: as it is, quoted, and in base64 at each of three offsets."""
    raw = value.encode()
    shifted = {base64.b64encode(b"\0" * shift + raw).decode()[4 * (shift > 0) : -4] for shift in range(3)}
    return {value, quote(value), quote(value, safe=""), quote_plus(value), raw.hex(), *shifted}


class Repeating(BaseHTTPRequestHandler):
    """Answers with an error that quotes the whole request."""

    status = 400

    def answer(self) -> None:
        said = f"<Error><Code>Odd</Code><Message>{self.path} {dict(self.headers)}</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/acc"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412])
@pytest.mark.parametrize("kind", KINDS)
def test_s26_what_a_server_repeats_is_not_told(kind, status, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with serving(type("Answer", (Repeating,), {"status": status})) as endpoint:
        store = open_store(configured(kind, endpoint), VALUES)
        told = ""
        for use in (lambda: store.read("a"), lambda: store.put("a", b""), lambda: store.put_new("a", b""),
                    lambda: list(store.list()), lambda: store.delete(["a"]), lambda: store.copy("a", "b"),
                    lambda: store.find("a"), lambda: store.put("a", tmp_path / "file")):  # fmt: skip
            try:
                use()
            except NbpipeError as error:
                told += f"{error}\n"
    assert "lake" in told
    assert [value for name in KINDS[kind][2].values() for value in forms(VALUES[name]) if value in told] == []
    assert "canary" not in told


def test_the_name_of_an_object_is_no_reason_for_a_refusal(monkeypatch):
    monkeypatch.setattr(opening, "_RETRIES", {"max_retries": 0})
    with serving(Repeating) as endpoint:
        store = open_store(configured("key", endpoint), VALUES)
        with pytest.raises(StoreOutOfReach, match=r"is out of reach .* 400 Bad Request .Odd."):
            store.read("photo-403-401.jpg")


@pytest.mark.parametrize(
    "kind, credential, value, expected",
    [
        ("key", "ACCOUNT_KEY", "canary, not base64", "its account_key is not in base64"),
        ("sas", "SAS", "canary", "its sas_token has no signature"),
        ("s3", "SECRET", "canary\n", "which has characters that no credential has"),
        ("s3", "TOKEN", "canary\r\nX-Evil: 1", "which has characters that no credential has"),
    ],
)
def test_a_credential_that_is_none_is_told_and_not_repeated(kind, credential, value, expected):
    with pytest.raises(DatastoreUnavailable, match=expected) as caught:
        open_store(configured(kind, "http://127.0.0.1:9/acc"), {**VALUES, credential: value}).read("x")
    assert "canary" not in str(caught.value)


def test_a_google_key_that_is_none_is_told_and_not_repeated():
    references = {"service_account_key": CredentialReference(CredentialSource.ENV, "KEY")}
    for value in ('{"private_key": "canary"', '{"private_key": "canary", "private_key_id": "x", "client_email": "a"}'):
        with pytest.raises(DatastoreUnavailable, match="is not the content of a service account") as caught:
            open_store(DatastoreConfiguration("lake", "gs://bucket", {}, references), {"KEY": value})
        assert "canary" not in str(caught.value)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture
def project(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = "b" + "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-40:]
    make_bucket(moto, name)
    for key, value in {"THE_KEY": KEY, "THE_SECRET": SECRET, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(key, value)
    folder = tmp_path / "project"
    folder.mkdir()
    both = (
        f'options = {{ endpoint = "{moto}" }}\n'
        'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n'
    )
    (folder / "nbpipe.toml").write_text(
        f'[datastores]\ndefault = "outputs"\n[datastores.outputs]\nurl = "s3://{name}/outputs"\n{both}'
        f'[datastores.lake]\nurl = "s3://{name}/lake"\n{both}'
    )
    return folder


def put(moto: str, project: Path, key: str) -> None:
    bucket = (project / "nbpipe.toml").read_text().partition("s3://")[2].partition("/")[0]
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    client.put_object(Bucket=bucket, Key=key, Body=b"evil")


def test_s8_names_of_objects_lead_nowhere(moto, project, monkeypatch):
    monkeypatch.chdir(project)
    put(moto, project, "lake/set/back\\..\\slash.txt")
    put(moto, project, "lake/set/%2e%2e/encoded.txt")
    before = {path for path in project.parent.rglob("*") if "cache" not in path.parts}
    code, text = said("datastores", "cp", "store:lake/set/", "out/")
    assert code == 0, text
    made = {path for path in project.parent.rglob("*") if "cache" not in path.parts} - before
    assert all(path.is_relative_to(project / "out") or path.is_relative_to(project / ".nbpipe") for path in made)

    put(moto, project, "lake/set/../../../evil.txt")
    put(moto, project, "lake/set/..")
    code, text = said("datastores", "cp", "store:lake/set/", "out2/")
    assert code == 3
    assert "the datastore `lake`" in text
    assert not list(project.parent.rglob("evil.txt"))


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_s26_a_datastore_s_credentials_are_stored_nowhere_in_any_form(moto, project):
    put(moto, project, "lake/raw.csv")
    cells = (
        (
            "%%step good -i raw=store:lake/raw.csv -o x:json=store:lake/out/{run-id}/\n#| register: x=evils\n"
            "import os\nx = [raw.read_text(), sorted(name for name in os.environ if name.startswith('THE_'))]"
        ),
        "%%step bad -i x -o y\nimport os\nprint(dict(os.environ))\ny = x / 0",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, project / "n.ipynb")
    told = ""
    for words in (
        ("run", str(project / "n.ipynb")),
        ("show", str(project / "n.ipynb")),
        ("why", str(project / "n.ipynb"), "bad"),
    ):
        told += said(*words)[1]
    code, _ = said("pull", str(project / "n.ipynb"), "good.x", "--to", str(project / "x.json"))

    assert (code, (project / "x.json").read_text()) == (0, '["evil", []]')
    assert not [form for form in forms(SECRET) | forms(KEY) if form in told]
    leaks = [
        (path, form)
        for path in project.parent.rglob("*")
        if path.is_file()
        for form in forms(SECRET) | forms(KEY)
        if form.encode() in path.read_bytes()
    ]
    assert leaks == []
