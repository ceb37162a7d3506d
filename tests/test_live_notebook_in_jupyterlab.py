"""The live notebook in a real JupyterLab: Run All, single cells, cancel, failure, restart, reload, what is saved."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.history.runs import RunFilter
from nbpipe.workspace import Workspace

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

if find_spec("playwright") is not None:
    from jupyterlab_browser import Lab

# Where pictures are left, for people who want to look at them.
PICTURES = os.environ.get("NBPIPE_PICTURES")
WIDGET = "application/vnd.jupyter.widget-view+json"

PREPARE = """%%step prepare -o houses
#| envvar: MOOD
import numpy as np
import pandas as pd
areas = np.random.default_rng(7).normal(100, 20, 500).round(1)
houses = pd.DataFrame({"area": areas, "price": areas * 3.1 + 40})
print(len(houses), "houses")
"""
CHART = """%%step chart -i houses -o corr:json
import matplotlib.pyplot as plt
plt.figure(figsize=(4, 2.4))
plt.scatter(houses.area, houses.price, s=4)
plt.xlabel("area")
plt.show()
corr = float(houses.corr().loc["area", "price"])
"""
TRAIN = """%%step train -i houses -o model:json
import pathlib, time
import nbpipe
from tqdm import tqdm
for epoch in tqdm(range(12), desc="epochs"):
    print(f"epoch {epoch}: loss {1 / (epoch + 1):.4f}", flush=True)
    nbpipe.log_metric("loss", 1 / (epoch + 1), step=epoch)
    time.sleep(0.15)
while not pathlib.Path("GO").exists():
    time.sleep(0.1)
model = {"weights": [3.1, 40.0]}
"""
REPORT = "%%step report -i model, corr -o text\ntext = f'{model} {corr:.2f}'"


def until_over(folder: Path) -> None:
    """Wait until no run is active: what is run after that belongs to another gesture."""
    deadline = time.monotonic() + 60
    with Workspace.open(folder) as workspace:
        while any(not run.status.terminal for run in workspace.runs.find(RunFilter())):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def write(folder: Path, name: str, *cells: str) -> str:
    """Write a notebook of code cells."""
    return write_notebook(folder / name, cells).name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with Lab(folder, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}) as lab:
        yield lab


def picture(notebook, name: str, selector: str = ".jp-Notebook") -> None:
    """Leave a picture in both themes."""
    if PICTURES is None:
        return
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        notebook.theme(theme)
        notebook.screenshot(Path(PICTURES) / f"{name}-{theme.split()[1].lower()}.png", selector)


def cell(notebook, place: int):
    """Get a cell as the page shows it."""
    return notebook.page.locator(".jp-Cell").nth(place)


def ends(notebook, place: int, word: str):
    """Wait until a cell's card has become a picture that says this word, and get the picture."""
    twin = cell(notebook, place).locator(".nbpipe-twin", has_text=word)
    twin.wait_for(state="attached")
    return twin


def bundles(saved: dict, place: int) -> list[dict]:
    """Get what a saved cell shows."""
    return [output["data"] for output in saved["cells"][place]["outputs"] if "data" in output]


@pytest.fixture
def go() -> Iterator[Path]:
    """Return a file to create, of which a step may wait for without having read it: nobody looks into ``/dev``."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder, "go")


def test_run_all_runs_the_pipeline_beside_the_kernel_and_the_file_keeps_pictures(lab, go):
    train = TRAIN.replace("GO", str(go))
    name = write(lab.folder, "all.ipynb", "%load_ext nbpipe", PREPARE, CHART, train, REPORT, "print(text)")
    notebook = lab.open(name, size=(1280, 1500))
    notebook.command("notebook:run-all-cells")
    card = cell(notebook, 3).locator(".nbpipe-card")
    card.locator(".nbpipe-lines", has_text="epoch 6").wait_for(state="attached")
    assert card.get_by_role("progressbar").get_attribute("aria-valuenow")
    assert card.locator(".nbpipe-spark").count() == 1
    ends(notebook, 2, "chart succeeded")
    assert cell(notebook, 4).locator(".nbpipe-card").text_content().count("waits for train")
    assert "waiting for `text`" in cell(notebook, 5).text_content()
    picture(notebook, "live")
    go.write_text("")
    ends(notebook, 4, "report succeeded")
    cell(notebook, 5).locator("text=0.9").or_(cell(notebook, 5).locator("text=1.0")).first.wait_for(state="attached")
    assert cell(notebook, 2).locator("img[alt='a picture that the step displayed']").count() == 1
    picture(notebook, "ended")
    saved = notebook.save()
    for place in range(1, 5):
        assert [WIDGET in bundle for bundle in bundles(saved, place)] == [False]
        assert "succeeded" in "".join(bundles(saved, place)[0]["text/plain"])
    assert "widgets" not in saved["metadata"]
    until_over(lab.folder)
    notebook.run_all(count=6)
    for place in range(1, 5):
        ends(notebook, place, "reused")
    picture(notebook, "reused")
    assert lab.errors == []


def test_cancel_failure_and_a_kernel_that_is_restarted(lab):
    slow = "%%step slow -o s\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\ns = 1"
    wrong = "%%step wrong -o w\nvalues = []\nw = max(values)"
    again = slow.replace("slow", "again")
    name = write(lab.folder, "endings.ipynb", "%load_ext nbpipe", slow, wrong, "w", again, "%nbpipe debug wrong")
    notebook = lab.open(name, size=(1280, 1500))
    notebook.run(0)
    notebook.run(1)
    card = cell(notebook, 1).locator(".nbpipe-card")
    card.locator(".nbpipe-lines", has_text="begun").wait_for(state="attached")
    card.get_by_role("button", name="Cancel").click()
    ends(notebook, 1, "cancelled")
    notebook.run(2)
    failed = cell(notebook, 2).locator(".nbpipe-card")
    failed.locator(".nbpipe-code", has_text="w = max(values)").wait_for(state="attached")
    failed.get_by_role("button", name="Why?").click()
    failed.locator(".nbpipe-answer", has_text="first run").wait_for(state="attached")
    picture(notebook, "asked")
    notebook.run(3)
    cell(notebook, 3).locator("text=which failed").first.wait_for(state="attached")
    assert "w = max(values)" in ends(notebook, 2, "failed").text_content()
    picture(notebook, "failed")
    notebook.run(5)
    cell(notebook, 6).locator(".cm-content", has_text="w = max(values)").wait_for(state="attached")
    notebook.run(6)
    assert "max()" in cell(notebook, 6).text_content()
    picture(notebook, "debug")
    notebook.run(4)
    cell(notebook, 4).locator(".nbpipe-lines", has_text="begun").wait_for(state="attached")
    notebook.page.evaluate("() => { window.jupyterapp.shell.currentWidget.sessionContext.restartKernel(); }")
    notebook.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    cell(notebook, 4).locator(".nbpipe-orphaned", has_text="%load_ext nbpipe").wait_for(state="attached")
    notebook.start(0)
    found = cell(notebook, 0).locator(".nbpipe-card")
    found.locator(".nbpipe-lines", has_text="begun").wait_for(state="attached")
    picture(notebook, "restarted")
    notebook.save()
    notebook.reload()
    cell(notebook, 0).locator(".nbpipe-card .nbpipe-lines", has_text="begun").wait_for(state="attached")
    cell(notebook, 0).locator(".nbpipe-card").get_by_role("button", name="Cancel").click()
    cell(notebook, 0).locator(".nbpipe-card .nbpipe-head", has_text="cancelled").wait_for(state="attached")
    assert cell(notebook, 0).get_by_role("button", name="Cancel").count() == 0
    saved = notebook.save()
    assert "cancelled" in "".join(bundles(saved, 1)[0]["text/plain"])
    assert lab.errors == []


def test_what_a_cell_lacks_is_written_into_it_by_a_button(lab):
    name = write(lab.folder, "mend.ipynb", "%load_ext nbpipe", "%%step one -o x\nx = 1", "%%step two -o y\ny = x + 1")
    notebook = lab.open(name)
    notebook.run(0)
    notebook.run(1)
    notebook.run(2)
    cell(notebook, 2).get_by_role("button", name="Add x to the cell's inputs").click()
    notebook.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.widgets[2].model.sharedModel.source.includes('-i x')"
    )
    cell(notebook, 2).locator("text=written into the cell").wait_for(state="attached")
    notebook.run(2)
    ends(notebook, 2, "two succeeded")
    saved = notebook.save()
    assert "".join(saved["cells"][2]["source"]).startswith("%%step two -i x -o y")
    assert WIDGET not in json.dumps(saved)
    assert lab.errors == []


SALES = """%%step sales -o sales, notes:json
#| register: sales=sales
import numpy as np
import pandas as pd
drawn = np.random.default_rng(ROWS)
shops, amounts = drawn.choice(["Ulm", "Bern", "Linz"], ROWS), drawn.normal(50, 9, ROWS)
sales = pd.DataFrame({"shop": shops, "amount": amounts.round(2)})
sales["day"] = pd.date_range("2026-01-01", periods=ROWS, freq="h")
sales.loc[::7, "amount"] = None
notes = [ROWS]
"""


def test_an_output_that_is_a_version_shows_its_profile_after_the_run(lab):
    more = SALES.replace("ROWS", "900").replace("notes = ", "sales['online'] = sales.index % 2 == 0\nnotes = ")
    name = write(lab.folder, "sales.ipynb", "%load_ext nbpipe", SALES.replace("ROWS", "700"))
    notebook = lab.open(name, size=(1280, 900))
    notebook.run(0)
    notebook.run(1)
    cell(notebook, 1).locator("caption", has_text="Profile").wait_for(state="attached")
    assert "sales@1: kept, arrow" in cell(notebook, 1).text_content()
    notebook.page.evaluate(
        "source => window.jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel.setSource(source)", more
    )
    notebook.run(1)
    cell(notebook, 1).locator("caption", has_text="Profile").wait_for(state="attached")
    changed = cell(notebook, 1).text_content()
    assert "column online: none → bool" in changed
    assert "rows: 700 → 900" in changed
    picture(notebook, "datasets")
    kept = "".join(notebook.save()["cells"][1]["outputs"][0]["data"]["text/html"])
    assert "Profile" in kept


WRITES = "%%step one -o x\nx = 1\nopen('t.csv', 'w').write('a')"
READS = "%%step two -o y\ny = open('t.csv').read()"


def test_a_file_that_two_steps_share_is_declared_in_both_cells_by_one_click(lab):
    notebook = lab.open(write(lab.folder, "share.ipynb", "%load_ext nbpipe", WRITES, READS))
    notebook.run(0)
    notebook.run(1)
    notebook.run(2)
    cell(notebook, 2).get_by_role("button", name="Declare t.csv in steps one and two").click()
    cell(notebook, 2).locator("text=written into both cells").wait_for(state="attached")
    notebook.run(1)
    notebook.run(2)
    ends(notebook, 2, "succeeded")
    saved = notebook.save()
    assert "".join(saved["cells"][1]["source"]) == ("%%step one -o x, t:file.csv\nx = 1\nopen(t, 'w').write('a')")
    assert "".join(saved["cells"][2]["source"]) == "%%step two -i t -o y\ny = open(t).read()"
    assert lab.errors == []


def test_a_cell_that_was_edited_in_the_meantime_is_left_as_it_is(lab):
    notebook = lab.open(write(lab.folder, "edited.ipynb", "%load_ext nbpipe", WRITES, READS))
    for place in range(3):
        notebook.run(place)
    model = "window.jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel"
    notebook.page.evaluate(f"() => {model}.setSource('%%step one\\nmine = 1')")
    cell(notebook, 2).get_by_role("button", name="Declare t.csv in steps one and two").click()
    texts = [pane.input_value() for pane in cell(notebook, 2).locator("textarea.nbpipe-mended").all()]
    assert [text.partition("\n")[0] for text in texts] == ["%%step two -i t -o y", "%%step one -o x, t:file.csv"]
    saved = notebook.save()
    assert ["".join(each["source"]) for each in saved["cells"][1:]] == ["%%step one\nmine = 1", READS]
