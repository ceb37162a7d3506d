"""Whatever happens to its files, a referenced version has the bytes that were registered, or reading it is an error."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_servers import KEY, SECRET, make_bucket, moto_server

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.errors import DataChanged, DataGone
from nbpipe.model.datasets import DatasetFiles
from nbpipe.workspace import Workspace
from nbpipe.workspace.datasets import Datasets, Keeping

PLACES = ["folder", "local", "plain bucket", "versioned bucket"]
NAMES = ("a.csv", "b.csv", "sub/c.csv")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with moto_server(tmp_path_factory.mktemp("moto")) as address:
        make_bucket(address, "plain")
        make_bucket(address, "versioned", versioned=True)
        yield address


class Place:
    """A folder or a bucket whose files are written, overwritten and deleted, and registered as versions."""

    def __init__(self, folder: Path, kind: str, endpoint: str) -> None:
        self.folder = folder
        self.local = folder / "files" if kind == "local" else None
        bucket = f"s3://{kind.partition(' ')[0]}/{uuid4().hex}"
        url = str(folder / "lake") if kind in ("folder", "local") else bucket
        (folder / "lake").mkdir(parents=True)
        (folder / "nbpipe.toml").write_text(
            f'[datastores.lake]\nurl = "{url}"\n'
            + ("" if kind in ("folder", "local") else f'options = {{ endpoint = "{endpoint}" }}\n'
               'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n')
        )  # fmt: skip
        self.workspace = Workspace.open(folder)
        self.workspace.use_environment({"THE_KEY": KEY, "THE_SECRET": SECRET, "XDG_CACHE_HOME": str(folder / "cache")})
        self.datasets = Datasets(self.workspace.context)

    @property
    def store(self) -> ObjectStore:
        return self.datasets.bytes.datastores().store("lake")

    def write(self, name: str, text: str) -> None:
        if self.local is None:
            self.store.put(f"raw/{name}", text.encode())
            return
        (self.local / name).parent.mkdir(parents=True, exist_ok=True)
        (self.local / name).write_text(text)

    def delete(self, name: str) -> None:
        if self.local is None:
            self.store.delete([f"raw/{name}"])
        else:
            (self.local / name).unlink(missing_ok=True)

    def register(self) -> str:
        source = "./files/" if self.local else "store:lake/raw/"
        done = self.datasets.register("raw", source, self.folder, Keeping.REFERENCE)
        return str(done.version)

    def forget_copies(self) -> None:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def read(self, version: str) -> dict[str, str]:
        found: DatasetFiles = self.datasets.local(self.datasets.find(version))
        listed = {path.relative_to(found.path).as_posix() for path in found.path.rglob("*") if path.is_file()}
        assert listed == {relative for relative, _ in found.files}
        return {relative: path.read_text() for relative, path in found.files}

    def read_or_error(self, version: str) -> dict[str, str] | DataGone | DataChanged:
        try:
            return self.read(version)
        except (DataGone, DataChanged) as error:
            return error


CHANGES = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.text("xy", min_size=1, max_size=2)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("register"), st.just(""), st.just("")),
    st.tuples(st.just("forget"), st.just(""), st.just("")),
)


@pytest.mark.s3
@pytest.mark.parametrize("kind", PLACES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(CHANGES, min_size=4, max_size=14))
def test_a_version_is_what_was_registered_or_an_error(tmp_path, endpoint, kind, changes):
    place = Place(tmp_path / uuid4().hex, kind, endpoint)
    there: dict[str, str] = {}
    registered: dict[str, dict[str, str]] = {}
    try:
        for what, name, text in [("write", "a.csv", "x"), *changes]:
            if what == "write":
                place.write(name, text)
                there[name] = text
            elif what == "delete":
                place.delete(name)
                there.pop(name, None)
            elif what == "register" and there:
                registered[place.register()] = dict(there)
            elif what == "forget":
                place.forget_copies()
        for version, expected in registered.items():
            found = place.read_or_error(version)
            if isinstance(found, dict):
                assert found == expected
            else:
                assert kind != "versioned bucket"
                assert version in found.message
                assert expected != there
    finally:
        place.workspace.close()


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["plain bucket", "versioned bucket"])
@pytest.mark.parametrize("change", ["overwrite", "delete"])
def test_an_old_version_in_a_bucket(tmp_path, endpoint, kind, change):
    place = Place(tmp_path / "project", kind, endpoint)
    place.write("a.csv", "old")
    place.register()
    place.forget_copies()
    if change == "overwrite":
        place.write("a.csv", "new")
    else:
        place.delete("a.csv")
    try:
        if kind == "versioned bucket":
            assert place.read("raw@1") == {"a.csv": "old"}
        else:
            with pytest.raises(DataChanged if change == "overwrite" else DataGone, match=r"raw@1.*a\.csv"):
                place.read("raw@1")
    finally:
        place.workspace.close()
