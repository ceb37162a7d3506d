"""Files and modules are pinned by what they hold, and every doubt about a remembered digest reads again."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.data.file_pinning import (
    NoDigestCache,
    PersistentDigestCache,
    file_digest,
    find_modules,
    pin_files,
    tree_digest,
)
from nbpipe.errors import BadCode, FileMissing
from nbpipe.history.digest_cache import CachedDigest

OLD = 1_600_000_000
MEMBERS = st.lists(
    st.tuples(st.text(min_size=1), st.integers(0, 2**63), st.text("0123456789abcdef", min_size=1)),
    unique_by=lambda member: member[0],
    max_size=6,
)


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def pinned(pattern: str, base: Path):
    return pin_files(pattern, base, NoDigestCache())


def test_a_digest_is_blake3_of_the_bytes(tmp_path):
    content = os.urandom(9 << 20)
    (tmp_path / "x").write_bytes(content)

    assert file_digest(tmp_path / "x") == f"blake3:{blake3(content).hexdigest()}"


@given(MEMBERS, st.randoms())
def test_a_tree_does_not_depend_on_the_order_of_listing(members, random):
    mixed = list(members)
    random.shuffle(mixed)

    assert tree_digest(mixed) == tree_digest(members)


@given(MEMBERS, MEMBERS)
def test_different_trees_have_different_digests(one, two):
    assert (tree_digest(one) == tree_digest(two)) == (sorted(one) == sorted(two))


def test_a_tree_is_not_its_parts_written_in_a_row():
    assert tree_digest([("a", 1, "b"), ("c", 1, "d")]) != tree_digest([("a", 1, "b\0c1d")])
    assert tree_digest([("ab", 1, "c")]) != tree_digest([("a", 1, "bc")])


def test_the_tree_digest_is_the_same_for_ever():
    """Changing it would make every recorded result unfindable."""
    assert tree_digest([("a/b.csv", 3, "blake3:00"), ("ü", 0, "blake3:01")]) == (
        "blake3:845c8275e2bb5fe4bf7c2a53060cfca0deb55f8e5f291e70c36dc0d61d22e76d"
    )


def test_a_file_is_pinned_by_content(tmp_path):
    fill(tmp_path, {"data/raw.csv": "a,b\n"})
    before = pinned("./data/raw.csv", tmp_path)
    os.utime(tmp_path / "data/raw.csv", (OLD, OLD))

    assert (before.kind, before.paths, before.bytes) == ("file", (str(tmp_path / "data/raw.csv"),), 4)
    assert pinned("data/../data/raw.csv", tmp_path) == before
    fill(tmp_path, {"data/raw.csv": "a,c\n"})
    os.utime(tmp_path / "data/raw.csv", (OLD, OLD))
    assert pinned("./data/raw.csv", tmp_path).digest != before.digest


@pytest.mark.parametrize(
    "change,same",
    [
        (lambda d: (d / "empty").mkdir(), True),
        (lambda d: os.utime(d / "a.txt", (OLD, OLD)), True),
        (lambda d: (d / "a.txt").chmod(0o600), True),
        (lambda d: (d / "new.txt").write_text(""), False),
        (lambda d: (d / "a.txt").unlink(), False),
        (lambda d: (d / "a.txt").rename(d / "b.txt"), False),
        (lambda d: (d / "sub/a.txt").rename(d / "c.txt"), False),
        (lambda d: (d / ".hidden").write_text("x"), False),
    ],
)
def test_a_folder_is_its_files_and_their_names(tmp_path, change, same):
    folder = fill(tmp_path / "d", {"a.txt": "1", "sub/a.txt": "2"})
    before = pinned("./d/", tmp_path)
    change(folder)

    assert (before.kind, before.paths) == ("dir", (str(folder),))
    assert [name for name, _, _ in before.members] == ["a.txt", "sub/a.txt"]
    assert (pinned("./d", tmp_path).digest == before.digest) is same


def test_a_glob_is_a_sorted_list_of_files(tmp_path):
    fill(tmp_path, {"x/b.csv": "1", "x/a.csv": "2", "x/y/c.csv": "3", "x/d.txt": "", "x/dir.csv/e": ""})

    assert pinned("./x/*.csv", tmp_path).paths == tuple(str(tmp_path / "x" / name) for name in ("a.csv", "b.csv"))
    assert [name for name, _, _ in pinned("./x/**/*.csv", tmp_path).members] == ["a.csv", "b.csv", "y/c.csv"]
    assert pinned(f"{tmp_path}/x/[ab].csv", Path("/")).kind == "glob"
    assert pinned("./x/*/", tmp_path).paths == (str(tmp_path / "x/dir.csv"), str(tmp_path / "x/y"))


def test_a_name_that_looks_like_a_pattern_is_taken_as_the_file_that_it_is(tmp_path):
    fill(tmp_path, {"a[1].csv": "x"})

    assert pinned("./a[1].csv", tmp_path).kind == "file"


@pytest.mark.parametrize(
    "pattern,said",
    [
        ("./data/raw.cvs", r"`./data/raw.cvs` is not there: looked in .*\n.*Did you mean `raw.csv`\?"),
        ("./dato/raw.csv", r"there is no folder `.*dato`\n.*Did you mean `data`\?"),
        ("./data/*.parquet", "matches no file: looked in"),
        ("./da*", "matches only folders"),
        ("~/raw.csv", "`~` is not expanded"),
        ("./data/raw.csv/", "is a file, not a folder"),
        ("./pipe", "neither a file nor a folder"),
        ("./loose", "is a link to nothing"),
        ("./data/raw.csv/x", "is not there"),
    ],
)
def test_what_is_not_there_is_told_with_where_it_was_looked_for_and_what_is_near(tmp_path, pattern, said):
    fill(tmp_path, {"data/raw.csv": ""})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loose").symlink_to("nowhere")

    with pytest.raises(FileMissing, match=said):
        pinned(pattern, tmp_path)


def test_links_are_followed_and_rings_are_refused(tmp_path):
    fill(tmp_path, {"real/a.txt": "1"})
    (tmp_path / "linked").symlink_to("real")
    assert pinned("./linked/", tmp_path).digest == pinned("./real/", tmp_path).digest
    (tmp_path / "real/up").symlink_to("..")

    with pytest.raises(FileMissing, match="leads back"):
        pinned("./real/", tmp_path)
    with pytest.raises(FileMissing, match=r"leads .*back"):
        pinned("./real/**/*.txt", tmp_path)


def test_a_name_that_cannot_be_written_down_is_refused(tmp_path):
    (tmp_path / os.fsdecode(b"d")).mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/d/\xff")).touch()

    with pytest.raises(FileMissing, match="not UTF-8"):
        pinned("./d/", tmp_path)


class Database:
    """What history keeps, with a count of its queries."""

    def __init__(self) -> None:
        self.rows: dict[str, CachedDigest] = {}
        self.asked = 0

    def recall(self, paths):
        self.asked += 1
        return {path: self.rows[path] for path in paths if path in self.rows}

    def remember(self, entries):
        self.rows |= {entry.path: entry for entry in entries}

    def memory(self, after: float = 60.0) -> PersistentDigestCache:
        return PersistentDigestCache(self.recall, self.remember, lambda: time.time() + after)


def test_a_remembered_digest_is_trusted_while_the_status_is_the_same(tmp_path):
    path = fill(tmp_path, {"x": "1"}) / "x"
    database = Database()
    memory = database.memory()
    memory.note(path, "blake3:known")
    memory.flush()

    assert database.memory().recall(path) == "blake3:known"


def test_same_size_and_restored_time_do_not_deceive(tmp_path):
    """REUSE C2: the change time cannot be set back."""
    path = fill(tmp_path, {"x": "1"}) / "x"
    os.utime(path, (OLD, OLD))
    database = Database()
    first = pin_files("./x", tmp_path, memory := database.memory())
    memory.flush()
    time.sleep(0.02)
    path.write_text("2")
    os.utime(path, (OLD, OLD))

    assert pin_files("./x", tmp_path, database.memory()).digest != first.digest


def test_a_file_younger_than_the_tick_is_not_remembered(tmp_path):
    path = fill(tmp_path, {"x": "1"}) / "x"
    os.utime(path, (OLD, OLD))
    database = Database()
    memory = database.memory(after=1.0)
    memory.note(path, "blake3:known")
    memory.flush()

    assert database.rows == {}


@pytest.mark.parametrize("field", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_any_other_status_is_not_trusted(tmp_path, field):
    path = fill(tmp_path, {"x": "1"}) / "x"
    database = Database()
    memory = database.memory()
    memory.note(path, "blake3:known")
    memory.flush()
    row = database.rows[str(path)]
    values = {name: getattr(row, name) for name in CachedDigest.__slots__}
    database.rows[str(path)] = CachedDigest(**values | {field: values[field] + 1})

    assert database.memory().recall(path) is None


def test_a_folder_asks_its_memory_once(tmp_path):
    fill(tmp_path, {f"d/{number}": str(number) for number in range(50)})
    database = Database()
    pin_files("./d/", tmp_path, database.memory())

    assert database.asked == 1


def names_of(modules):
    return [module.name for module in modules]


def test_modules_are_followed_to_the_end(tmp_path):
    fill(
        tmp_path,
        {
            "a.py": "from b import thing\nimport numpy",
            "b.py": "def f():\n    if False:\n        import c.d as e",
            "c/__init__.py": "from . import x",
            "c/d.py": "from .y import z\nfrom .z import *",
            "c/x.py": "",
            "c/y.py": "import importlib; importlib.import_module('late')",
            "c/z.py": "",
            "late.py": "",
            "unused.py": "",
            "numpy.txt": "",
        },
    )
    found = find_modules(["a"], [tmp_path])

    assert names_of(found) == ["a", "b", "c", "c.d", "c.x", "c.y", "c.z", "late"]
    assert (found[2].path, found[2].source, found[2].is_package) == (
        str(tmp_path / "c/__init__.py"),
        "from . import x",
        True,
    )


def test_folders_without_init_are_packages_too(tmp_path):
    fill(tmp_path / "one", {"space/a.py": "from space import b"})
    fill(tmp_path / "two", {"space/b.py": ""})

    assert names_of(find_modules(["space.a"], [tmp_path / "one", tmp_path / "two"])) == ["space.a", "space.b"]
    assert find_modules(["space"], [tmp_path / "one"]) == ()


def test_the_first_root_wins_and_installed_packages_never_count(tmp_path):
    fill(tmp_path / "one", {"a.py": "1"})
    fill(tmp_path / "two", {"a.py": "2"})
    fill(tmp_path / "lib/site-packages", {"b.py": ""})
    roots = [tmp_path / "lib/site-packages", tmp_path / "one", tmp_path / "two"]

    assert [module.source for module in find_modules(["a", "b", "sys", "json", "pandas"], roots)] == ["1"]


def test_names_that_are_no_names_reach_no_files(tmp_path):
    fill(tmp_path, {"a.py": "from .. import b", "b.py": ""})

    assert find_modules(["..b", "/b", "", "a/../b", "nbpipe.model"], [tmp_path, tmp_path / "x"]) == ()
    assert names_of(find_modules(["a"], [tmp_path])) == ["a"]


def test_rings_of_modules_end(tmp_path):
    fill(tmp_path, {"a.py": "import b", "b.py": "import a"})

    assert names_of(find_modules(["b"], [tmp_path])) == ["a", "b"]


@pytest.mark.parametrize("content", [b"x = (\n", b"a\nb c\n", b"\xff", b"a\x00b"])
def test_a_module_that_is_no_python_is_named_with_its_line(tmp_path, content):
    (tmp_path / "broken.py").write_bytes(content)
    (tmp_path / "a.py").write_text("import broken")

    with pytest.raises(BadCode, match=r"broken\.py"):
        find_modules(["a"], [tmp_path])


def test_a_module_keeps_its_text_whatever_its_encoding(tmp_path):
    (tmp_path / "a.py").write_bytes("# coding: latin-1\nx = 'ü'\r\n".encode("latin-1"))

    assert ast.literal_eval(find_modules(["a"], [tmp_path])[0].source.splitlines()[1][4:]) == "ü"


@pytest.mark.parametrize("module", ["file_pinning", "artifacts", "datastores", "formats"])
def test_rooms_load_light(module):
    code = f"import sys, nbpipe.data.{module}; print(*sorted({{'pyarrow', 'numpy', 'pandas'}} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == ""
