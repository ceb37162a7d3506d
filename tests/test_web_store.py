"""A datastore on a web server is read by its files' addresses; it lists nothing, writes nothing, and says so."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from command_in_process import said
from web_servers import Page, Site, certificate, web_site

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.opening import open_store
from nbpipe.errors import BadUsage, DatastoreUnavailable, NbpipeError, ObjectMissing, StoreOutOfReach
from nbpipe.model.datastores import CredentialReference, CredentialSource, DatastoreConfiguration

VARIABLES = {"TOKEN": "canary-token", "USER": "ada", "PASSWORD": "pass word"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    authority, server = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    pages = {
        "/sets/a.csv": Page(b"x,y\n1,2\n", '"one"', headers={"Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT"}),
        "/sets/a%20b/%C3%BC%23.csv": Page(b"odd"),
    }
    with web_site(pages, server) as running:
        yield running


def opened(site: Site, **credentials: str) -> ObjectStore:
    references = {key: CredentialReference(CredentialSource.ENV, name) for key, name in credentials.items()}
    configuration = DatastoreConfiguration("web", site.url("/sets/"), {}, references, writable=False)
    return open_store(configuration, VARIABLES)


def test_a_file_is_found_read_and_copied(site, tmp_path):
    store, counts = opened(site), []
    info = store.find("a.csv")
    assert info is not None
    assert (info.key, info.size, info.etag, info.modified) == ("a.csv", 8, '"one"', 1893456000.0)
    assert store.read("a.csv") == b"".join(store.stream("a.csv")) == b"x,y\n1,2\n"
    assert store.download("a.csv", tmp_path / "copy", progress=counts.append) == info
    assert (sum(counts), (tmp_path / "copy").read_bytes()) == (8, b"x,y\n1,2\n")
    assert store.read("a b/ü#.csv") == b"odd"
    assert store.find_many(["nope.csv", "a.csv"]) == [None, info]
    assert store.url("a b/ü#.csv") == site.url("/sets/a%20b/%C3%BC%23.csv")


@pytest.mark.parametrize("key", ["", "../secret", "a/../../b", "a//b", "/etc/passwd", "a\nb"])
def test_no_path_leads_out(site, key):
    for attempt in (opened(site).find, opened(site).read):
        with pytest.raises(BadUsage):
            attempt(key)
    assert site.asked == []


def test_what_is_not_there_is_told(site, tmp_path):
    for attempt in (opened(site).read, lambda key: opened(site).download(key, tmp_path / "x")):
        with pytest.raises(ObjectMissing, match=r"`store:web/nope\.csv` does not exist"):
            attempt("nope.csv")
    with pytest.raises(ObjectMissing, match="has no version 3"):
        opened(site).read("a.csv", "3")


def test_nothing_is_written_and_nothing_listed(site):
    store = opened(site)
    attempts: list[Any] = [
        lambda: store.put("x", b""), lambda: store.put_new("x", b""), lambda: store.replace_if("x", b"", "e"),
        lambda: store.delete(["x"]), lambda: store.copy("a.csv", "x"),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(BadUsage, match="is a web server, which is only read"):
            attempt()
    for attempt in (lambda: list(store.list("sets")), store.list_folder):
        with pytest.raises(BadUsage, match="cannot be listed"):
            attempt()
    with pytest.raises(BadUsage):
        store.sign("a.csv", 60)
    assert site.asked == []


def test_credentials_are_sent_as_their_kind_says(site):
    for given in ({"token": "TOKEN"}, {"username": "USER", "password": "PASSWORD"}):
        opened(site, **given).read("a.csv")
    opened(site).read("a.csv")
    basic = base64.b64encode(b"ada:pass word").decode()
    sent = [headers.get("authorization") for _, headers in site.asked]
    assert sent == ["Bearer canary-token", f"Basic {basic}", None]


@pytest.mark.parametrize("given", [{"username": "USER"}, {"token": "TOKEN", "username": "USER"}])
def test_credentials_that_do_not_belong_together_are_told(site, given):
    with pytest.raises(DatastoreUnavailable, match="either a token, or username and password"):
        opened(site, **given)


def test_a_token_cannot_add_a_header(site):
    configuration = DatastoreConfiguration(
        "web", site.url("/"), {}, {"token": CredentialReference(CredentialSource.ENV, "T")}, writable=False
    )
    with pytest.raises(DatastoreUnavailable) as caught:
        open_store(configuration, {"T": "canary\r\nX: y"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "status, credentials, ok",
    [(200, {}, True), (404, {}, True), (403, {}, True), (401, {}, False), (403, {"token": "TOKEN"}, False),
     (500, {}, False)],
)  # fmt: skip
def test_it_is_reachable_if_the_server_answers_and_takes_the_credentials(site, monkeypatch, status, credentials, ok):
    monkeypatch.setattr("nbpipe.data.web.web_client.time.sleep", lambda _seconds: None)
    site.pages["/sets/"] = Page(b"a list", status=status, headers={"Content-Encoding": "gzip"})
    if ok:
        opened(site, **credentials).require_reachable()
    else:
        with pytest.raises(StoreOutOfReach):
            opened(site, **credentials).require_reachable()


@pytest.fixture
def project(tmp_path, site, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", VARIABLES["TOKEN"])
    (tmp_path / "nbpipe.toml").write_text('[datastores.lake]\nurl = "./lake"\n')
    code, text = said("datastores", "add", "web", site.url("/sets/"), "--credential", "token=env:TOKEN")
    assert code == 0, text
    return tmp_path


def test_the_verbs_read_it(project, site):
    code, text = said("datastores", "test", "web", "--json")
    assert code == 0
    assert json.loads(text.splitlines()[0])["datastores"][0]["can"]["list"] is False
    assert "reads, cannot list" in said("datastores", "test")[1]
    assert json.loads(said("datastores", "--json")[1].splitlines()[0])["datastores"][1]["write"] is False
    code, text = said("datastores", "ls", "web/a.csv")
    assert (code, "a.csv" in text, "8 bytes" in text) == (0, True, True), text
    assert said("datastores", "cp", "store:web/a.csv", "store:lake/a.csv")[0] == 0
    assert said("datastores", "cp", "store:web/a.csv", "mine.csv")[0] == 0
    assert (project / "lake/a.csv").read_bytes() == (project / "mine.csv").read_bytes() == b"x,y\n1,2\n"


@pytest.mark.parametrize(
    "words, code, expected",
    [
        (["ls", "web"], 2, "cannot be listed: the datastore `web` is a web server"),
        (["ls", "web/folder/"], 2, "cannot be listed"),
        (["ls", "web/nope.csv"], 3, "`store:web/nope.csv` does not exist"),
        (["du", "web"], 2, "cannot be listed"),
        (["cp", "store:web/nope.csv", "x"], 3, "`store:web/nope.csv` does not exist"),
        (["cp", "store:web/folder/", "x"], 2, "cannot be listed"),
        (["cp", "mine", "store:web/x"], 2, "It is a web server, which is only read"),
        (["rm", "web/a.csv"], 2, "It is a web server, which is only read"),
        (["add", "other", "https://ada:canary@localhost/"], 2, "holds credentials"),
        (["add", "other", "https://ada@localhost/"], 2, "holds credentials"),
        (["add", "other", "http://localhost/", "--credential", "token=env:TOKEN"], 2, "has the key `token`"),
    ],
)
def test_what_the_verbs_cannot_do_is_told(project, words, code, expected):
    (project / "mine").write_text("x")
    got, text = said("datastores", *words)
    assert (got, expected in text) == (code, True), text
    assert "canary" not in text


def test_a_web_server_cannot_be_made_writable(project):
    (project / "nbpipe.toml").write_text('[datastores.web]\nurl = "https://h/"\nwrite = true\n')
    code, text = said("datastores")
    assert (code, "a web server is only read" in text) == (2, True), text


def test_no_credential_is_written_down(project, site):
    for word in (["ls", "web/a.csv"], ["test"], ["cp", "store:web/nope", "x"]):
        assert VARIABLES["TOKEN"] not in said("datastores", *word)[1]
    for file in Path(project).rglob("*"):
        assert not file.is_file() or VARIABLES["TOKEN"].encode() not in file.read_bytes()


def test_errors_are_ours(site):
    site.pages["/sets/x"] = Page(b"", status=418)
    with pytest.raises(NbpipeError, match="answers 418"):
        opened(site).read("x")
