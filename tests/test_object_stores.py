"""Every kind of datastore keeps the same promises, on the real server: whole or not at all, once, told clearly."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
from full_disk import small_disk
from object_servers import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    KEY,
    SECRET,
    azurite_server,
    make_bucket,
    make_container,
    moto_server,
    rclone_server,
    sftp_server,
)
from outputs_contract import OutputsContract

from nbpipe.codec import encode
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.opening import open_store
from nbpipe.data.stores.store_probe import probe
from nbpipe.errors import BadUsage, ObjectChanged, ObjectExists, ObjectMissing, Refused, StoreOutOfReach
from nbpipe.model.datastores import CredentialReference, CredentialSource, DatastoreConfiguration, StoreTraits

VARIABLES = {"THE_KEY": KEY, "THE_SECRET": SECRET, "THE_ACCOUNT_KEY": AZURE_KEY, "WRONG": "d3Jvbmc="}
NAMES = ("a b.txt", "ü?#%20.txt", 'q"*<>|.bin', "emoji😀", "dots..x", "-dash", "~tilde", "x" * 200, "a+b&c=d.csv")
_numbers = itertools.count()
# Begins to write a large object, and is killed halfway.
KILLED = """
import os, pathlib, signal, sys
from nbpipe.data.stores.opening import open_store
from nbpipe.codec import decode
from nbpipe.model.datastores import DatastoreConfiguration
sent = 0
def progress(count):
    global sent
    sent += count
    if sent > 40 << 20:
        os.kill(os.getpid(), signal.SIGKILL)
configuration = decode(sys.argv[1], DatastoreConfiguration)
open_store(configuration, os.environ).put_new("raw/large", pathlib.Path(sys.argv[2]), progress)
"""


def reference(name: str) -> CredentialReference:
    return CredentialReference(CredentialSource.ENV, name)


class Contract(OutputsContract):
    """What any datastore must do; a subclass says how one is configured and what it can do."""

    traits: ClassVar[StoreTraits]

    @pytest.fixture
    def configuration(self) -> DatastoreConfiguration:
        raise NotImplementedError

    @pytest.fixture
    def store(self, configuration: DatastoreConfiguration) -> Iterator[ObjectStore]:
        opened = open_store(configuration, VARIABLES)
        yield opened
        opened.close()

    def test_what_is_written_is_read(self, store, tmp_path):
        info = store.put_new("raw/x.bin", b"some data")

        assert (info.key, info.size) == ("raw/x.bin", 9)
        assert info.etag
        assert store.read("raw/x.bin") == b"some data"
        assert store.find("raw/x.bin") == info
        assert store.download("raw/x.bin", tmp_path / "copy").size == 9
        assert (tmp_path / "copy").read_bytes() == b"some data"
        assert b"".join(store.stream("raw/x.bin")) == b"some data"

    def test_a_file_is_written_and_its_progress_told(self, store, tmp_path):
        (tmp_path / "big").write_bytes(bytes(range(256)) * 40_000)
        sent: list[int] = []
        received: list[int] = []
        store.put("big", tmp_path / "big", sent.append)
        store.download("big", tmp_path / "copy", progress=received.append)

        assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()
        assert sum(sent) == sum(received) == 10_240_000

    def test_an_empty_object(self, store, tmp_path):
        assert store.put_new("empty", b"").size == 0
        assert store.read("empty") == b""
        assert store.download("empty", tmp_path / "copy").size == 0

    def test_a_new_object_replaces_none(self, store):
        store.put_new("x", b"first")
        with pytest.raises(ObjectExists, match="`store:the_store/x` exists already"):
            store.put_new("x", b"second")
        assert store.read("x") == b"first"

    def test_an_object_is_replaced(self, store):
        first = store.put("x", b"first")
        second = store.put("x", b"second one")

        assert store.read("x") == b"second one"
        assert second.etag != first.etag

    def test_an_object_is_replaced_only_if_it_is_the_one_that_was_read(self, store):
        if not self.traits.swaps:
            pytest.skip("this store cannot do that by itself")
        etag = store.put("x", b"first").etag
        current = store.replace_if("x", b"second", etag)
        assert store.read("x") == b"second"
        with pytest.raises(ObjectChanged):
            store.replace_if("x", b"third", etag)
        assert store.replace_if("x", b"fourth", current.etag).size == 6

    def test_of_many_writers_of_a_new_object_one_succeeds(self, store, configuration):
        if not self.traits.creates:
            pytest.skip("this store cannot do that by itself")
        outcomes: list[str] = []
        stores = [open_store(configuration, VARIABLES) for _ in range(12)]

        def write(number: int) -> None:
            try:
                stores[number].put_new("x", f"writer {number:02}".encode())
            except ObjectExists:
                outcomes.append("refused")
            else:
                outcomes.append(f"writer {number:02}")

        threads = [threading.Thread(target=write, args=[number]) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 12
        assert outcomes.count("refused") == 11
        assert store.read("x").decode() in outcomes

    def test_what_is_missing_is_told(self, store, tmp_path):
        assert store.find("nope/x") is None
        assert store.find_many(["nope", "nope/x"]) == [None, None]
        for read in (store.read, lambda key: store.download(key, tmp_path / "copy"), lambda key: store.copy(key, "y")):
            with pytest.raises(ObjectMissing, match="`store:the_store/nope/x` does not exist"):
                read("nope/x")

    def test_listings(self, store):
        for key in ("a/2", "a/1", "a/b/3", "ab/4", "c"):
            store.put(key, key.encode())

        assert [info.key for info in store.list()] == ["a/1", "a/2", "a/b/3", "ab/4", "c"]
        assert [info.key for info in store.list("a")] == ["a/1", "a/2", "a/b/3"]
        assert [info.size for info in store.list("a/b/")] == [5]
        assert list(store.list("nope")) == []
        folder = store.list_folder()
        assert (folder.folders, [info.key for info in folder.objects]) == (("a", "ab"), ["c"])
        folder = store.list_folder("a/")
        assert (folder.folders, [info.key for info in folder.objects]) == (("b",), ["a/1", "a/2"])
        assert store.list_folder("nope").objects == ()
        assert [info and info.size for info in store.find_many(["c", "nope", "a/1"])] == [1, None, 3]

    def test_a_listing_is_never_a_remembered_one(self, store, configuration):
        other = open_store(configuration, VARIABLES)
        assert list(store.list("x")) == []
        other.put("x/1", b"1")
        assert [info.key for info in store.list("x")] == ["x/1"]
        other.put("x/1", b"22")
        assert [info.size for info in store.list("x")] == [2]
        other.delete(["x/1"])
        assert list(store.list("x")) == []
        other.close()

    def test_objects_are_deleted(self, store):
        store.put("a/1", b"1")
        store.put("a/2", b"2")
        store.delete(["a/1", "a/nope", "nope"])
        assert [info.key for info in store.list()] == ["a/2"]

    def test_an_object_is_copied_within_the_store(self, store):
        store.put("a/1", b"content")
        assert store.copy("a/1", "b/2").size == 7
        assert store.read("b/2") == store.read("a/1") == b"content"

    @pytest.mark.parametrize("name", NAMES)
    def test_names(self, store, name):
        store.put_new(f"of/{name}", name.encode())
        assert [info.key for info in store.list("of")] == [f"of/{name}"]
        assert [info.key for info in store.list_folder("of").objects] == [f"of/{name}"]
        assert store.read(f"of/{name}") == name.encode()
        store.delete([f"of/{name}"])
        assert store.find(f"of/{name}") is None

    @pytest.mark.parametrize(
        "key", ["", "/", "..", "../x", "a/../../x", "a//b", "./a", "a/.", "a\nb", "a\0b", "\ud800"]
    )
    def test_a_key_never_leads_out_of_the_root(self, store, tmp_path, key):
        for use in (store.read, store.find, lambda key: store.put(key, b""), lambda key: store.delete([key]),
                    lambda key: store.put_new(key, b""), lambda key: store.download(key, tmp_path / "x"),
                    lambda key: store.copy(key, "x"), lambda key: store.copy("x", key)):  # fmt: skip
            with pytest.raises((BadUsage, ObjectMissing)):
                use(key)
        assert list(store.list()) == []

    def test_the_probe_finds_what_the_store_can_do_and_leaves_nothing(self, store):
        assert probe(store) == self.traits
        assert list(store.list()) == []

    def test_a_failed_upload_leaves_nothing_visible(self, store, tmp_path):
        with pytest.raises((StoreOutOfReach, Refused, OSError)):
            store.put("x", tmp_path / "not-there")
        assert list(store.list()) == []

    def test_a_writer_that_is_killed_leaves_nothing_visible(self, store, configuration, tmp_path):
        if configuration.url.startswith("memory:"):
            pytest.skip("the memory ends with the process")
        path = tmp_path / "large"
        path.write_bytes(bytes(1 << 20) * 80)
        words = [sys.executable, "-c", KILLED, encode(configuration), str(path)]
        environment = {**os.environ, **VARIABLES}
        assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL

        assert store.find("raw/large") is None
        assert list(store.list()) == []
        assert store.list_folder("raw").objects == ()
        assert store.put_new("raw/large", path).size == 80 << 20

    def test_wrong_credentials_are_told(self, configuration):
        if not configuration.credentials:
            pytest.skip("this store takes no credentials")
        wrong: dict[str, Any] = {**VARIABLES, "THE_SECRET": "wrong", "THE_ACCOUNT_KEY": VARIABLES["WRONG"]}
        with pytest.raises(StoreOutOfReach, match="the_store") as caught:
            open_store(configuration, wrong).read("x")
        assert SECRET not in str(caught.value)
        assert "wrong" not in str(caught.value)


class TestFolder(Contract):
    """A folder of this machine."""

    traits = StoreTraits(writes=True, creates=True, swaps=True, lists_at_once=True)

    @pytest.fixture
    def configuration(self, tmp_path):
        return DatastoreConfiguration("the_store", f"file://{tmp_path}/root")

    def test_a_link_is_not_followed_out_of_the_root(self, store, tmp_path):
        store.put("a/1", b"1")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/secret").write_text("secret")
        (tmp_path / "root/a/link").symlink_to(tmp_path / "outside")
        (tmp_path / "root/a/file").symlink_to(tmp_path / "outside/secret")
        (tmp_path / "root/a/inside").symlink_to(tmp_path / "root/a/1")

        for use in (store.read, store.find, lambda key: store.put(key, b"")):
            with pytest.raises(StoreOutOfReach, match="leads out of the datastore"):
                use("a/link/secret")
        assert [info.key for info in store.list()] == ["a/1", "a/inside"]
        assert (tmp_path / "outside/secret").read_text() == "secret"

    def test_a_full_disk_is_told_and_leaves_nothing_visible(self, tmp_path):
        with small_disk(tmp_path / "disk") as disk:
            store = open_store(DatastoreConfiguration("the_store", f"file://{disk.folder}/root"), VARIABLES)
            store.put("first", b"1")
            disk.limit({"size": "1m"})
            for write in (store.put, store.put_new):
                with pytest.raises(StoreOutOfReach, match="no space left in the datastore `the_store`") as caught:
                    write("x", bytes(8 << 20))
                assert caught.value.hint
            assert [info.key for info in store.list()] == ["first"]
            assert [path.name for path in (disk.folder / "root").iterdir()] == ["first"]

    def test_a_draft_that_a_killed_writer_left_is_not_shown(self, store, tmp_path):
        store.put("a/1", b"1")
        (tmp_path / "root/a" / ("." + "0" * 32 + ".partial")).write_text("half")
        assert [info.key for info in store.list()] == ["a/1"]
        assert [info.key for info in store.list_folder("a").objects] == ["a/1"]


class TestMemory(Contract):
    """The memory of this process."""

    traits = StoreTraits(writes=True, creates=True, swaps=True, lists_at_once=True)

    @pytest.fixture
    def configuration(self):
        return DatastoreConfiguration("the_store", f"memory://{next(_numbers)}")


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.mark.s3
class TestS3(Contract):
    """A bucket that keeps no versions."""

    traits = StoreTraits(writes=True, creates=True, swaps=True, lists_at_once=True)

    @pytest.fixture
    def configuration(self, moto):
        name = f"bucket-{next(_numbers)}"
        make_bucket(moto, name)
        return s3(moto, f"{name}/below/it")

    def test_wrong_credentials_are_told(self):
        pytest.skip("this server believes everybody: see the tests of its access control")

    def test_a_bucket_that_does_not_exist(self, moto, tmp_path):
        store = open_store(s3(moto, "not-there"), VARIABLES)
        for use in (store.list, store.list_folder, lambda: store.read("x"), lambda: store.put("x", b""),
                    lambda: store.download("x", tmp_path / "x"), lambda: store.put_new("x", b"")):  # fmt: skip
            with pytest.raises(StoreOutOfReach, match="the_store"):
                list(use())

    @pytest.mark.parametrize(
        "status, code, expected",
        [
            (400, "ExpiredToken", "credentials of the datastore `the_store` have expired"),
            (403, "AccessDenied", "`the_store` refuses access to `store:the_store/x`"),
            (403, "RequestTimeTooSkewed", "`the_store` refuses access"),
            (404, "NoSuchBucket", "`the_store` does not exist: there is no such bucket"),
        ],
    )
    def test_what_a_service_refuses_is_told(self, status, code, expected):
        with answering(status, code) as endpoint:
            store = open_store(s3(endpoint, "bucket"), VARIABLES)
            for write in (store.put, store.put_new):
                with pytest.raises(StoreOutOfReach, match=expected) as caught:
                    write("x", b"data")
                assert caught.value.hint

    def test_a_server_that_does_not_answer(self):
        from object_servers import free_port

        configuration = s3(f"http://127.0.0.1:{free_port()}", "bucket")
        with pytest.raises(StoreOutOfReach, match="`the_store` is out of reach"):
            open_store(configuration, VARIABLES).find("x")

    def test_a_large_object_is_written_in_parts(self, store, tmp_path):
        with (tmp_path / "big").open("wb") as file:
            for number in range(70):
                file.write(bytes([number]) * (1 << 20))
        sent: list[int] = []
        assert store.put_new("big", tmp_path / "big", sent.append).size == 70 << 20
        with pytest.raises(ObjectExists):
            store.put_new("big", tmp_path / "big")
        store.download("big", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()
        assert sum(sent) == 70 << 20

    def test_an_address_for_others(self, store):
        import urllib.request

        store.put("x", b"content")
        with urllib.request.urlopen(store.sign("x", 60)) as answer:  # noqa: S310 - the test's own
            assert answer.read() == b"content"


@pytest.mark.s3
class TestS3WithVersions(TestS3):
    """A bucket that keeps versions."""

    traits = StoreTraits(writes=True, creates=True, swaps=True, lists_at_once=True, keeps_versions=True)

    @pytest.fixture
    def configuration(self, moto):
        name = f"bucket-{next(_numbers)}"
        make_bucket(moto, name, versioned=True)
        return s3(moto, name)

    def test_an_old_version_is_read_after_an_overwrite_and_a_delete(self, store, tmp_path):
        first = store.put("x", b"first")
        store.put("x", b"second")
        store.delete(["x"])

        assert store.read("x", first.version) == b"first"
        store.download("x", tmp_path / "copy", first.version)
        assert (tmp_path / "copy").read_bytes() == b"first"
        with pytest.raises(ObjectMissing, match="has no version"):
            store.read("x", "00000000-0000-0000-0000-000000000000")


@pytest.fixture(scope="module")
def rclone(tmp_path_factory):
    with rclone_server(tmp_path_factory.mktemp("rclone")) as address:
        yield address


@pytest.mark.s3
class TestS3WithoutConditions(Contract):
    """A server that takes the condition of a write and ignores it."""

    traits = StoreTraits(writes=True, lists_at_once=True)

    @pytest.fixture
    def configuration(self, rclone):
        name = f"bucket-{next(_numbers)}"
        make_bucket(rclone, name)
        return s3(rclone, name)

    def test_a_new_object_replaces_none(self):
        pytest.skip("this server replaces it: that is what the probe finds")


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with azurite_server(tmp_path_factory.mktemp("azurite")) as address:
        yield address


@pytest.mark.azure
class TestAzure(Contract):
    """A container of the Blob emulator."""

    traits = StoreTraits(writes=True, creates=True, swaps=True, lists_at_once=True)

    @pytest.fixture
    def configuration(self, azurite):
        name = f"container-{next(_numbers)}"
        make_container(azurite, name)
        return DatastoreConfiguration(
            "the_store", f"az://{name}/below/it", {"account": AZURE_ACCOUNT, "endpoint": azurite},
            {"account_key": reference("THE_ACCOUNT_KEY")},
        )  # fmt: skip

    def test_a_container_that_does_not_exist(self, azurite, tmp_path):
        configuration = DatastoreConfiguration(
            "the_store", "az://not-there", {"account": AZURE_ACCOUNT, "endpoint": azurite},
            {"account_key": reference("THE_ACCOUNT_KEY")},
        )  # fmt: skip
        store = open_store(configuration, VARIABLES)
        for use in (store.list, store.list_folder, lambda: store.read("x"), lambda: store.put("x", b""),
                    lambda: store.download("x", tmp_path / "x"), lambda: store.put_new("x", b"")):  # fmt: skip
            with pytest.raises(StoreOutOfReach, match="the_store"):
                list(use())

    @pytest.mark.parametrize("end, expected", [(-60, "refuses access to `store:the_store/x`"), (600, "")])
    def test_an_address_that_was_signed_expires(self, azurite, configuration, end, expected):
        limited = replace(configuration, credentials={"sas_token": reference("SAS")})
        store = open_store(limited, {**VARIABLES, "SAS": signed_access(end)})
        if not expected:
            assert store.put_new("x", b"data").size == 4
            return
        with pytest.raises(StoreOutOfReach, match=expected) as caught:
            store.put_new("x", b"data")
        # The emulator does not say why; Azure itself does.
        assert "credentials" in caught.value.hint


def signed_access(seconds: float) -> str:
    """Return a SAS token of the emulator's account that ends in some seconds."""
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = [AZURE_ACCOUNT, "rwdlacx", "b", "sco", "", end, "", "http,https", "2021-08-06", "", ""]
    digest = hmac.new(base64.b64decode(AZURE_KEY), "\n".join(fields).encode(), hashlib.sha256).digest()
    named = {"sv": "2021-08-06", "ss": "b", "srt": "sco", "sp": "rwdlacx", "se": end, "spr": "http,https"}
    return urlencode({**named, "sig": base64.b64encode(digest).decode()})


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """Run a server that answers each request with an error of S3."""

    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            said = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said if self.command != "HEAD" else b"")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def sftp(tmp_path_factory):
    with sftp_server(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.mark.sftp
class TestSftp(Contract):
    """A folder that an SFTP server serves."""

    traits = StoreTraits(writes=True, lists_at_once=True)

    @pytest.fixture
    def configuration(self, sftp):
        port, known = sftp
        return DatastoreConfiguration(
            "the_store", f"sftp://127.0.0.1:{port}/folder-{next(_numbers)}", {"known_hosts": str(known)},
            {"username": reference("THE_KEY"), "password": reference("THE_SECRET")},
        )  # fmt: skip

    def test_a_host_that_is_not_known_is_refused(self, configuration, tmp_path):
        (tmp_path / "none").write_text("")
        stranger = DatastoreConfiguration(
            "the_store", configuration.url, {"known_hosts": str(tmp_path / "none")}, configuration.credentials
        )
        with pytest.raises(StoreOutOfReach, match="known to ssh"):
            open_store(stranger, VARIABLES)

    def test_without_the_option_the_hosts_are_those_that_ssh_knows(self, configuration, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        stranger = DatastoreConfiguration("the_store", configuration.url, {}, configuration.credentials)
        with pytest.raises(StoreOutOfReach, match="known to ssh"):
            open_store(stranger, VARIABLES)
        known = Path(str(configuration.options["known_hosts"])).read_text()
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh/known_hosts").write_text(known)
        open_store(stranger, VARIABLES).close()


def s3(endpoint: str, path: str) -> DatastoreConfiguration:
    """Get the configuration of a datastore on an S3 server."""
    credentials = {"access_key_id": reference("THE_KEY"), "secret_access_key": reference("THE_SECRET")}
    return DatastoreConfiguration("the_store", f"s3://{path}", {"endpoint": endpoint}, credentials)
