"""What a kernel does to the saved notebook that it belongs to."""

from __future__ import annotations

import json

import pytest
from magics_kernel import Kernel
from notebook_author import write_notebook

pytestmark = pytest.mark.kernel

WIDE = "%%step train -i features, raw:csv=./data/raw.csv, labels=prepare.labels -o model, report:json --retries 2"


def test_fmt_lays_out_the_saved_notebook_and_says_to_load_it_again(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", [f"{WIDE}\nx = 1"])
    lab = Kernel(tmp_path, JPY_SESSION_NAME="n.ipynb")
    try:
        lab.run("load", "%load_ext nbpipe")
        before = path.read_bytes()
        assert "cell 1 of n.ipynb would change" in lab.run("fmt", "%nbpipe fmt --check")[0]
        assert path.read_bytes() == before
        assert "reload it" in lab.run("fmt", "%nbpipe fmt")[0]
        assert json.loads(path.read_bytes())["cells"][0]["source"].startswith("%%step train\n#| in: features, raw:csv=")
        assert "left unchanged" in lab.run("fmt", "%nbpipe fmt")[0]
    finally:
        lab.close()


def test_a_kernel_that_is_told_no_notebook_says_so(tmp_path):
    lab = Kernel(tmp_path, JPY_SESSION_NAME="")
    try:
        lab.run("load", "%load_ext nbpipe")
        assert "nbpipe fmt NOTEBOOK" in lab.run("fmt", "%nbpipe fmt")[1]
    finally:
        lab.close()
