"""S22: an executed notebook that was changed after its run is reported, and nothing of it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebook_author import Author

from nbpipe.data.digests import bytes_digest
from nbpipe.errors import StoreOutOfReach
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

pytestmark = pytest.mark.kernel
FINE, FAILING = "%%step a -o x\nprint('fine')\nx = 1", "%%step b -i x\nprint('so far')\nx / 0"


@pytest.fixture
def author(tmp_path):
    made = Author(tmp_path, FINE, FAILING)
    made.run()
    return made


def executed(author: Author, step: str) -> Path:
    """Get the executed notebook of a step."""
    return Path(author.step(step).notebook)


@pytest.mark.parametrize("step", ["a", "b"])
def test_its_digest_is_recorded_whether_the_step_succeeds_or_fails(author, step):
    path = executed(author, step)
    with Workspace.open(author.folder) as workspace:
        attempt = workspace.context.history.attempts.get(path.parent.name)
    assert attempt.notebook_digest == bytes_digest(path.read_bytes())


@pytest.mark.parametrize("step", ["a", "b"])
def test_s22_a_changed_one_is_reported_and_not_shown(author, step):
    path = executed(author, step)
    document = json.loads(path.read_text())
    document["cells"].append(
        {"cell_type": "code", "metadata": {}, "source": "", "execution_count": None, "outputs": [
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>alert()</script>"}}]}
    )  # fmt: skip
    path.write_text(json.dumps(document))
    with Workspace.open(author.folder) as workspace:
        with pytest.raises(StoreOutOfReach, match="was changed after its run"):
            workspace.results.read_executed(path)
        with pytest.raises(StoreOutOfReach, match="was changed after its run"):
            workspace.results.log(str(author.path), step)
    problems = verify_workspace(author.folder).problems
    assert [(problem.where, problem.said) for problem in problems] == [
        (str(path), "the executed notebook was changed after its run")
    ]
    assert verify_workspace(author.folder, repair=True).is_intact
    assert verify_workspace(author.folder).problems == ()
    assert not path.exists()


def test_an_unchanged_one_is_shown(author):
    with Workspace.open(author.folder) as workspace:
        assert workspace.results.log(str(author.path), "a").executed_notebook == executed(author, "a")
    assert verify_workspace(author.folder).problems == ()
