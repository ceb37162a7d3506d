"""The processes that a step has multiprocessing or joblib start for it record what they use as the step does."""

from __future__ import annotations

import pytest
from notebook_author import Author

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

POOLS = {
    "fork": "import multiprocessing as mp\nwith mp.get_context('fork').Pool(1) as pool:\n    ",
    "spawn": "import multiprocessing as mp\nwith mp.get_context('spawn').Pool(1) as pool:\n    ",
    "forkserver": "import multiprocessing as mp\nwith mp.get_context('forkserver').Pool(1) as pool:\n    ",
    "joblib": "from joblib.externals import loky\nwith loky.get_reusable_executor(2) as pool:\n    ",
}
CODE = "from linecache import getline\n"


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_a_file_that_a_child_process_reads_counts(tmp_path, pool):
    if "joblib" in pool:
        pytest.importorskip("joblib")
    (tmp_path / "extra.txt").write_text("one")
    each = "list(pool.map(getline, ['extra.txt'], [1]))"
    call = each if "joblib" in pool else "pool.starmap(getline, [('extra.txt', 1)])"
    author = Author(tmp_path, f"%%step s -o x\n{CODE}{pool}x = {call}")
    author.run()
    assert author.value("x") == ["one\n"]
    assert author.run() == set()
    (tmp_path / "extra.txt").write_text("three")
    assert author.run() == {"s"}
    assert author.value("x") == ["three\n"]


@pytest.mark.parametrize("pool", [POOLS["fork"], POOLS["spawn"]], ids=["fork", "spawn"])
def test_what_one_process_of_a_step_makes_is_no_input_to_another(tmp_path, pool):
    code = (
        f"import os\n{CODE}{pool}pool.map(abs, [1])\n"
        "    open('late.txt', 'w').write('5')\n    x = pool.starmap(getline, [('late.txt', 1)])\n"
        "    pool.starmap(os.mkdir, [('parts',)])\n    y = os.path.isdir('parts')\n"
        "os.remove('late.txt')\nos.rmdir('parts')"
    )
    author = Author(tmp_path, f"%%step s -o x,y\n{code}")
    author.run()
    assert author.step("s").notes == ()
    assert author.run() == set()
