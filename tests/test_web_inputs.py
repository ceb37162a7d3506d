"""Inputs from the web: pinned by content, read again when no strong ETag vouches for it, from allowed hosts only."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from blake3 import blake3
from command_in_process import said
from sample_pipelines import unseen
from web_servers import Page, certificate, web_site

from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.errors import AddressRefused, BadUsage, FileMissing, NbpipeError, ObjectChanged
from nbpipe.history.store import History
from nbpipe.model import PinnedKind
from nbpipe.model.web import WebLimits, WebSettings
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.remote_inputs import RemoteInputs
from nbpipe.resolve.web_settings import web_settings
from nbpipe.resolve.workspace_layout import find_workspace

CSV = b"x,y\n1,2\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    authority, server = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "nbpipe.toml").write_text('[web]\nallow = ["localhost"]\n')
    with web_site(
        {"/a.csv": Page(CSV, '"one"'), "/weak.csv": Page(CSV, 'W/"one"'), "/none.csv": Page(CSV)}, server
    ) as it:
        yield it


@pytest.fixture
def history(tmp_path):
    with History.open(tmp_path / "history.db") as opened:
        yield opened


@pytest.fixture
def remote(site, history, tmp_path):
    """Get a function that gives what a new process has."""
    environ = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    return lambda: RemoteInputs(
        OpenDatastores.of(find_workspace(tmp_path), environ), history.object_digests, ObjectCache(tmp_path / "cache"),
        unseen,
    )  # fmt: skip


def test_a_file_of_the_web_is_pinned_by_content(site, remote):
    inputs = remote()
    pinned = inputs.pin(site.url("/a.csv"))
    inputs.stage(site.url("/a.csv"))
    assert (pinned.kind, pinned.bytes, pinned.digest) == (PinnedKind.FILE, 8, f"blake3:{blake3(CSV).hexdigest()}")
    assert (Path(pinned.paths[0]).name, Path(pinned.paths[0]).read_bytes()) == ("a.csv", CSV)
    assert pinned.members == (("a.csv", 8, pinned.digest),)


@pytest.mark.parametrize("path, reads", [("/a.csv", 0), ("/weak.csv", 1), ("/none.csv", 1)])
def test_only_a_strong_etag_saves_reading_it_again(site, remote, path, reads):
    first = remote().pin(site.url(path))
    before = len(site.asked)
    assert remote().pin(site.url(path)) == first
    # One request asks what the server says, another one reads.
    assert len(site.asked) - before == 1 + reads


@pytest.mark.parametrize("path, etag", [("/a.csv", '"two"'), ("/weak.csv", 'W/"one"'), ("/none.csv", "")])
def test_other_content_is_another_input(site, remote, path, etag):
    inputs = remote()
    first = inputs.pin(site.url(path))
    assert inputs.is_unchanged(site.url(path))
    site.pages[path] = Page(b"x,y\n1,3\n", etag)
    assert not inputs.is_unchanged(site.url(path))
    assert remote().pin(site.url(path)).digest != first.digest


def test_the_same_content_with_another_etag_is_the_same_input(site, remote):
    first = remote().pin(site.url("/a.csv"))
    site.pages["/a.csv"] = Page(CSV, '"two"')
    assert remote().pin(site.url("/a.csv")) == first


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_a_server_that_announces_no_size_is_read(site, remote, etag):
    site.pages["/a.csv"] = Page(CSV, etag, announces=False)
    inputs = remote()
    assert inputs.pin(site.url("/a.csv")).bytes == 8
    assert inputs.is_unchanged(site.url("/a.csv"))
    assert remote().pin(site.url("/a.csv")).members[0][1] == 8


def test_a_copy_that_was_removed_is_read_again_and_checked(site, remote):
    inputs = remote()
    pinned = inputs.pin(site.url("/a.csv"))
    Path(pinned.paths[0]).unlink()
    inputs.stage(site.url("/a.csv"))
    assert Path(pinned.paths[0]).read_bytes() == CSV
    Path(pinned.paths[0]).unlink()
    site.pages["/a.csv"] = Page(b"x,y\n1,3\n", '"one"')
    with pytest.raises(ObjectChanged, match="has changed since the run was submitted"):
        inputs.stage(site.url("/a.csv"))


def test_a_name_with_a_query_and_a_fragment(site, remote):
    site.pages["/data%20of/x.csv?version=a%2Fb"] = Page(CSV)
    inputs = remote()
    text = site.url("/data of/x.csv?version=a%2Fb#row=3")
    pinned = inputs.pin(text)
    inputs.stage(text)
    assert Path(pinned.paths[0]).name == "x.csv"
    assert Path(pinned.paths[0]).read_bytes() == CSV


@pytest.mark.parametrize(
    "url, kind, expected",
    [
        ("https://localhost:{port}/nope.csv", FileMissing, "is not there"),
        ("https://127.0.0.1:{port}/a.csv", AddressRefused, "not on the public internet"),
        ("http://localhost:{port}/a.csv", AddressRefused, "without encryption"),
        ("https://ada:canary@localhost:{port}/a.csv", BadUsage, "holds credentials"),
        ("https:a.csv", BadUsage, "is not an address of the web"),
    ],
)
def test_what_is_wrong_is_told(site, remote, url, kind, expected):
    with pytest.raises(NbpipeError) as caught:
        remote().pin(url.format(port=site.port))
    assert type(caught.value) is kind
    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)
    assert [path for path, _ in site.asked] in ([], ["/nope.csv"])


def test_a_file_of_a_datastore_on_a_web_server(site, remote, tmp_path):
    (tmp_path / "nbpipe.toml").write_text(f'[datastores.web]\nurl = "{site.url("/")}"\n')
    inputs = remote()
    pinned = inputs.pin("store:web/a.csv")
    inputs.stage("store:web/a.csv")
    assert Path(pinned.paths[0]).read_bytes() == CSV
    for text, kind, expected in [
        ("store:web/nope.csv", FileMissing, "`store:web/nope.csv` is not there"),
        ("store:web/*.csv", BadUsage, "cannot be listed"),
        ("store:web/folder/", BadUsage, "cannot be listed"),
        ("store:web", BadUsage, "cannot be listed"),
    ]:
        with pytest.raises(NbpipeError) as caught:
            inputs.pin(text)
        assert (type(caught.value), expected in str(caught.value)) == (kind, True), caught.value


def settings_of(folder: Path, text: str) -> WebSettings:
    (folder / "nbpipe.toml").write_text(text)
    return web_settings(find_workspace(folder))


def test_settings(tmp_path):
    assert web_settings(find_workspace(tmp_path)) == WebSettings()
    found = settings_of(
        tmp_path, '[web]\nallow = ["Data.Lab", "bücher.lab", "::1"]\nunencrypted = ["m"]\nlimit = "2GiB"'
    )
    assert found == WebSettings(
        frozenset({"data.lab", "xn--bcher-kva.lab", "::1"}), frozenset({"m"}), WebLimits(content=2 << 30)
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("web = 1", "`web` in"),
        ("[web]\nalow = []", "Did you mean `allow`?"),
        ("[web]\nproxy = 1", "It knows: allow, unencrypted, limit."),
        ('[web]\nallow = "x"', "is not a list of hosts"),
        ('[web]\nallow = ["https://x/"]', "is not the name of a host"),
        ('[web]\nallow = ["*"]', "is not the name of a host"),
        ('[web]\nunencrypted = ["x:80"]', "is not the name of a host"),
        ("[web]\nlimit = 3", "is 3, which is no size"),
        ('[web]\nlimit = "much"', "is 'much', which is no size"),
    ],
)
def test_wrong_settings_are_told(tmp_path, text, expected):
    with pytest.raises(BadUsage) as caught:
        settings_of(tmp_path, text)
    assert expected in str(caught.value)


def ran(path: Path, *words: str) -> dict[str, str]:
    """Run the notebook and get the statuses of its steps."""
    code, text = said("run", str(path), "--json", *words)
    assert code == 0, text
    document = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    return {step["name"]: step["status"] for step in document["steps"]}


def notebook(folder: Path, *sources: str) -> Path:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    document.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_pipeline_reads_from_the_web_and_is_reused_by_content(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebook(
        tmp_path,
        f'where = "{site.url("/weak.csv")}"',
        f"%%step total -i raw:csv={site.url('/a.csv')} -o y:json\ny = int(raw.y.sum())",
        "%%step name -i raw=param:where -o found:json\nfound = [raw.name, raw.read_text()]",
        f"%%step busy -i raw={site.url('/busy.csv')} -o z:json\nz = raw.read_text()",
    )
    site.pages["/busy.csv"] = Page(b"0", '"0"')
    assert ran(path) == {"total": "succeeded", "name": "succeeded", "busy": "succeeded"}
    assert ran(path) == {"total": "reused", "name": "reused", "busy": "reused"}
    site.pages["/weak.csv"] = Page(b"other", 'W/"one"')
    assert ran(path) == {"total": "reused", "name": "succeeded", "busy": "reused"}
    (tmp_path / "local.csv").write_bytes(CSV)
    assert ran(path, "-p", "where=./local.csv")["name"] == "succeeded"
    code, _ = said("pull", str(path), "name.found", "--to", str(tmp_path / "found.json"))
    assert (code, json.loads((tmp_path / "found.json").read_text())) == (0, ["local.csv", CSV.decode()])
    code, text = said("plan", str(path), "-p", "where=https://127.0.0.1/x")
    assert (code, "cell 3 (step name), line 1" in text, "address-refused" not in text) == (2, True, True), text


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_an_input_that_changes_during_the_run_serves_this_run_only(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebook(tmp_path, "", f"%%step total -i raw={site.url('/a.csv')} -o y:json\ny = raw.read_text()")
    served = iter([Page(CSV, '"one"')] * 2 + [Page(b"other", '"two"')] * 9)
    pages = site.pages

    class Changing(dict):
        def get(self, key, default=None):
            return next(served) if key == "/a.csv" else pages.get(key, default)

    site.pages = Changing()
    assert ran(path) == {"total": "succeeded"}
    site.pages = {"/a.csv": Page(CSV, '"one"')}
    assert ran(path) == {"total": "succeeded"}
    assert ran(path) == {"total": "reused"}
