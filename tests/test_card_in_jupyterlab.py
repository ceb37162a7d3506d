"""The card in a real JupyterLab: seen, used from the keyboard, followed while it changes, and kept when it is over."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from notebook_author import Author, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.slow]

if find_spec("playwright") is not None:
    from jupyterlab_browser import Lab

# Where pictures of the card are left, for people who want to look at them.
PICTURES = os.environ.get("NBPIPE_PICTURES")

PIPELINE = (
    "import numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt\nimport nbpipe",
    """%%step load -o houses
houses = pd.DataFrame({"area": np.arange(60, 160.0), "rooms": np.arange(100) % 5 + 1, "town": ["Ulm", "Bern"] * 50})
""",
    "%%step clean -i houses -o tidy\ntidy = houses[houses.rooms > 1]",
    """%%step explore -i houses -o plot
plot, axes = plt.subplots(figsize=(4, 2.4))
axes.hist(houses.area)
plt.close(plot)
""",
    """%%step train -i tidy -o model
for epoch in range(30):
    print("epoch", epoch)
    nbpipe.log_metric("loss", 1 / (epoch + 1), step=epoch)
    nbpipe.log_metric("accuracy", 1 - 0.5 / (epoch + 1), step=epoch)
model = {"weights": [0.25, 1.5], "rooms": 4}
""",
    "%%step report -i model, plot -o text\ntext = f'weights: {model[\"weights\"]}'",
)

PREPARE = '''
import dataclasses, time
from pathlib import Path
from nbpipe.data.previews import preview
from nbpipe.model import Status
from nbpipe.views.card_state import CardState, StepActivity
from nbpipe.views.html import element
from nbpipe.widget import CardWidget
from nbpipe.workspace import Workspace

workspace = Workspace.open(Path("."))
asked = []
NEEDS = {"clean": ("load",), "explore": ("load",), "train": ("clean",), "report": ("train", "explore")}

def ended(number, focus, **more):
    run, steps = workspace.runs.show(str(number))
    previews = {f"{s.step}.{a.name}": preview(a, workspace.materializer) for s in steps for a in s.artifacts}
    metrics = {}
    for metric in workspace.runs.metrics(run.id):
        metrics.setdefault(metric.step, {}).setdefault(metric.name, []).append((metric.at, metric.value))
    told = {step: StepActivity(("epoch 28", "epoch 29"), None, found) for step, found in metrics.items()}
    numbers = workspace.runs.origin_numbers(steps)
    return CardState(run, tuple(steps), NEEDS, focus, told, previews, numbers, time.time(), **more)

def running(number, focus, done):
    """Get a run as it was while the step in focus ran."""
    state, now = ended(number, focus), time.time()
    order = [s.step for s in state.steps]
    at = order.index(focus)
    blank = dict(attempts=0, seconds=0.0, artifacts=(), notebook=None, origin=None, reasons=(), failure=None)
    steps = tuple(
        dataclasses.replace(s, **blank | dict(attempts=1), status=Status.RUNNING, started=now - 12) if place == at
        else dataclasses.replace(s, **blank, status=Status.QUEUED) if place > at else s
        for place, s in enumerate(state.steps)
    )
    tail = tuple(f"epoch {n}: \\x1b[31mloss {1 / (n + 1):.4f}\\x1b[0m" for n in range(done + 1))
    points = {name: tuple(v[:done + 1]) for name, v in state.activities[focus].metrics.items()}
    told = {focus: StepActivity(tail, (done, 30, "epochs"), points)}
    run = dataclasses.replace(state.run, status=Status.RUNNING, ended=None, started=now - 14)
    return dataclasses.replace(state, run=run, steps=steps, activities=told, previews={}, now=now)
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Get a JupyterLab over a workspace with three runs: all executed, one step changed to fail, all mended."""
    folder = tmp_path_factory.mktemp("lab")
    author = Author(folder, *PIPELINE)
    author.run()
    author.cells[4] = PIPELINE[4].replace("model = {", "best = max([])\nmodel = {")
    author.run()
    author.cells[4] = PIPELINE[4]
    author.run()
    assert [str(status) for status in author.statuses().values()] == ["reused"] * 5
    with Lab(folder, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}) as lab:
        yield lab


def write(lab, name: str, *cells: str) -> str:
    """Write a notebook of code cells."""
    return write_notebook(lab.folder / name, cells).name


def picture(notebook, name: str, selector: str = ".nbpipe-card") -> None:
    """Leave a picture of the card in both themes where people want to look at them."""
    if PICTURES is None:
        return
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        notebook.theme(theme)
        notebook.screenshot(Path(PICTURES) / f"{name}-{theme.split()[1].lower()}.png", selector)


def test_a_running_step_is_seen_and_followed(lab):
    notebook = lab.open(
        write(
            lab, "running.ipynb", PREPARE,
            "card = CardWidget(lambda *what: card.update(running(1, 'train', 20)))\ncard.show()\n"
            "card.update(running(1, 'train', 8))",
        ),
        scale=1.0 if PICTURES is None else 2.0,
    )  # fmt: skip
    notebook.run(0)
    notebook.run(1)
    card = notebook.page.locator(".nbpipe-card")
    card.locator(".nbpipe-node").first.wait_for()

    assert card.get_attribute("aria-label") == "nbpipe: train"
    labels = card.locator(".nbpipe-node").evaluate_all("nodes => nodes.map(node => node.getAttribute('aria-label'))")
    assert labels == ["load: succeeded", "clean: succeeded", "explore: succeeded", "train: running", "report: queued"]
    assert card.get_by_role("progressbar").get_attribute("aria-valuenow") == "27"
    assert "8 of 30 (27 %)" in card.locator(".nbpipe-words").inner_text()
    assert card.locator(".nbpipe-lines").inner_text().splitlines()[-1] == "epoch 8: loss 0.1111"
    assert card.get_by_role("status").inner_text() == "3 of 5 steps done, 1 running"
    assert card.locator(".nbpipe-spark").count() == 2
    buttons = card.locator(".nbpipe-action").all_inner_texts()
    assert buttons == ["Cancel", "Why?"]
    picture(notebook, "running")

    started = card.locator(".nbpipe-top time").inner_text()
    notebook.page.wait_for_function(
        "before => document.querySelector('.nbpipe-top time').textContent !== before", arg=started
    )
    card.locator(".nbpipe-action", has_text="Why?").focus()
    notebook.page.keyboard.press("Enter")
    notebook.page.wait_for_function("() => document.querySelector('.nbpipe-lines').textContent.includes('epoch 20')")
    assert notebook.page.evaluate("() => document.activeElement.dataset.action") == "why"
    pane = card.locator(".nbpipe-lines")
    assert pane.evaluate("pane => pane.scrollHeight - pane.scrollTop - pane.clientHeight < 2")
    assert lab.errors == []


def test_the_graph_is_walked_by_the_keyboard_and_buttons_reach_the_kernel(lab):
    notebook = lab.open(
        write(
            lab, "keys.ipynb", PREPARE,
            "card = CardWidget(lambda *what: (asked.append(what), card.tell(element('b', ' of '.join(what)))))\n"
            "card.show()\ncard.update(ended(1, 'train'))",
            "print(asked)",
        )
    )  # fmt: skip
    notebook.run(0)
    notebook.run(1)
    page = notebook.page
    page.locator(".nbpipe-node").first.wait_for()
    focused = "() => document.activeElement.getAttribute('aria-label')"
    page.locator(".nbpipe-node[tabindex='0']").focus()
    walked = [page.evaluate(focused)]
    for key in ("ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowRight", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        walked.append(page.evaluate(focused).partition(":")[0])
    assert walked == ["train: succeeded", "report", "train", "clean", "load", "clean", "explore", "clean"]

    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.nbpipe-chosen')?.textContent.includes('clean')")
    assert page.evaluate(focused) == "clean: succeeded"
    assert "80 rows × 3 columns" in page.locator(".nbpipe-outputs").inner_text()
    page.get_by_role("button", name="Why?").click()
    page.wait_for_function("() => document.querySelector('.nbpipe-answer').textContent === 'why of clean'")
    notebook.run(2)
    page.wait_for_function("() => document.body.textContent.includes(\"[('why', 'clean')]\")")
    picture(notebook, "finished")
    assert lab.errors == []


def test_a_failure_shows_the_failing_line(lab):
    notebook = lab.open(
        write(
            lab, "failed.ipynb", PREPARE,
            "card = CardWidget(lambda *what: card.update(ended(2, 'train', error_line='best = max([1])')))\n"
            "card.show()\n"
            "card.update(ended(2, 'train', error_line='best = max([])'))",
        )
    )  # fmt: skip
    notebook.run(0)
    notebook.run(1)
    card = notebook.page.locator(".nbpipe-card")
    card.locator(".nbpipe-error").wait_for()

    assert card.locator(".nbpipe-code").inner_text().split("\n")[-1].endswith("best = max([])")
    assert "ValueError" in card.locator(".nbpipe-said").inner_text()
    assert card.locator(".nbpipe-action").all_inner_texts() == ["Run again", "Debug", "Why?", "Executed notebook"]
    picture(notebook, "failed")

    # What the reader has opened stays open when the region is drawn anew.
    card.locator(".nbpipe-error summary").click()
    card.get_by_role("button", name="Why?").click()
    notebook.page.wait_for_function("() => document.querySelector('.nbpipe-code').textContent.includes('max([1])')")
    assert card.locator(".nbpipe-trace").is_visible()


def test_a_page_that_comes_later_gets_all_of_it(lab):
    """The log and the words about steps were sent as differences before the page was there."""
    notebook = lab.open(
        write(
            lab, "later.ipynb", PREPARE,
            "card = CardWidget(lambda *what: asked.append(what))\ncard.show()\n"
            "for done in (3, 8, 12):\n    card.update(running(1, 'train', done))",
        )
    )  # fmt: skip
    notebook.run(0)
    notebook.run(1)
    notebook.page.locator(".nbpipe-node").first.wait_for()
    notebook.save()
    notebook.reload()
    notebook.page.locator(".nbpipe-node").first.wait_for()
    notebook.page.wait_for_function("() => document.querySelector('.nbpipe-lines').textContent.includes('epoch 0:')")
    lines = notebook.page.locator(".nbpipe-lines").inner_text().splitlines()

    assert (len(lines), lines[-1]) == (13, "epoch 12: loss 0.0769")
    notebook.page.wait_for_function(
        "() => /succeeded [0-9.]+ s/.test(document.querySelector('.nbpipe-node .nbpipe-detail').textContent)"
    )
    assert lab.errors == []


ENDINGS = {
    "succeeded": "ended(1, 'train')",
    "failed": "ended(2, 'train', error_line='best = max([])')",
    "skipped": "ended(2, 'report')",
    "reused": "ended(3, 'explore')",
    "run": "ended(2, None)",
}


@pytest.fixture(scope="module")
def kept(lab):
    """Get a notebook in which all kinds of cards have ended, as it was saved."""
    ending = "card = CardWidget(print)\ncard.show()\ncard.update({0})\ncard.end({0})\ncard.end({0})"
    threaded = "import threading\n" + ending.replace(
        "card.end({0})\ncard.end({0})", "late = threading.Thread(target=card.end, args=({0},))\nlate.start()"
    )
    cells = [ending.format(state) for state in ENDINGS.values()]
    notebook = lab.open(
        write(
            lab,
            "kept.ipynb",
            PREPARE,
            *cells,
            threaded.format(ENDINGS["succeeded"]),
            "late.join()\nCardWidget.finish_all()",
        )
    )
    notebook.run_all(count=len(cells) + 3)
    notebook.page.wait_for_function("count => document.querySelectorAll('.nbpipe-twin').length >= count", arg=4)
    picture(notebook, "kept", ".jp-Notebook")
    return notebook.save()


def test_what_stays_in_the_file_is_a_picture_and_words_and_no_widget(kept):
    for cell, name in zip(kept["cells"][1:], [*ENDINGS, "succeeded"], strict=False):
        (output,) = [output for output in cell["outputs"] if output["output_type"] == "display_data"]
        assert set(output["data"]) == {"text/html", "text/plain"}, name
        html, text = "".join(output["data"]["text/html"]), "".join(output["data"]["text/plain"])
        assert "<svg" not in html
        assert "<script" not in html
        assert 'src="data:image/svg+xml;base64,' in html
        assert name in text
    assert "widgets" not in kept["metadata"]


def test_the_kept_picture_is_seen_in_an_untrusted_notebook(lab, kept):
    (lab.folder / "sent.ipynb").write_text(json.dumps(kept))
    notebook = lab.open("sent.ipynb")
    notebook.page.locator(".jp-RenderedHTMLCommon img").first.wait_for()
    shown = notebook.page.locator(".jp-RenderedHTMLCommon").first

    assert shown.locator("img").first.evaluate("image => image.complete && image.naturalWidth > 100")
    assert "graph of the steps" in shown.locator("img").first.get_attribute("alt")
    assert "train" in shown.inner_text()
    picture(notebook, "untrusted", ".jp-Notebook")


def test_three_hundred_steps_are_a_list_that_is_searched(lab):
    many = (
        "state = ended(1, 'train')\nimport dataclasses\n"
        "steps = tuple(dataclasses.replace(state.steps[n % 4], step=f'step_{n}', position=n) for n in range(300))\n"
        "needs = {f'step_{n}': (f'step_{n - 1}', f'step_{n // 2}') for n in range(2, 300)}\n"
        "card = CardWidget(print)\ncard.show()\n"
        "card.update(dataclasses.replace(state, steps=steps, needs=needs, focus='step_7'))"
    )
    notebook = lab.open(write(lab, "many.ipynb", PREPARE, many))
    notebook.run(0)
    notebook.run(1)
    page = notebook.page
    page.locator(".nbpipe-row").first.wait_for()
    assert page.locator(".nbpipe-row").count() == 300
    picture(notebook, "many")
    page.get_by_role("searchbox", name="find a step").fill("step_29")
    page.wait_for_function("() => document.querySelectorAll('.nbpipe-row:not([hidden])').length === 11")
    page.locator(".nbpipe-modes button", has_text="Graph").click()
    page.locator(".nbpipe-node").nth(299).wait_for()
    picture(notebook, "many-graph")
    assert lab.errors == []
