"""The code that binds outputs of steps in the kernel of ordinary cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nbpipe.compute import worker_entry_points
from nbpipe.data.materializer import Materializer
from nbpipe.entry_points import load_entry_point
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.model import Artifact
from nbpipe.run.job_factory import definition_digests

_CODE = """\
def _nbpipe_bind(text):
    import json, pathlib, sys
    payload = json.loads(text)
    try:
        from nbpipe.data import notebook_classes as classes, formats, shared_objects
    except ImportError:
        exec(payload["loading"], {})
        from nbpipe.data import notebook_classes as classes, formats, shared_objects
    classes.share_classes(globals(), payload["definitions"])
    for name, path, format, step in payload["outputs"]:
        path, together = pathlib.Path(path), shared_objects.LOADED.setdefault(step, {})
        globals()[name] = path if format is None else formats.load(path, format, together)
_nbpipe_bind({payload!r})
del _nbpipe_bind
"""


def binding_code(
    artifacts: Sequence[tuple[str, Artifact]], reading: ParsedNotebook, store: Path, materializer: Materializer
) -> str:
    """Return the binding code for outputs with the steps that made them.

    Names and paths are in one JSON text, so that none of them becomes code.
    """
    loading: str = load_entry_point(worker_entry_points.SHIP)(store).loading
    definitions: dict[str, str] = {}
    for code in reading.code.values():
        definitions |= definition_digests(code)
    outputs = [
        [
            artifact.name,
            str(materializer.fetch(artifact)),
            None if artifact.is_path else artifact.format,
            step,
        ]
        for step, artifact in artifacts
    ]
    payload = {"loading": loading, "definitions": definitions, "outputs": outputs}
    return _CODE.replace("{payload!r}", repr(json.dumps(payload)))
