"""The code that gives a kernel of ordinary cells the outputs of steps, under their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nbpipe.compute import worker_entry_points
from nbpipe.data.materializer import Materializer
from nbpipe.language.notebook_parser import ParsedNotebook
from nbpipe.model import Artifact
from nbpipe.run.job_factory import definition_digests

_CODE = """\
def _nbpipe_bind(told):
    import json, pathlib, sys
    told = json.loads(told)
    try:
        from nbpipe.data import notebook_classes as classes, formats
    except ImportError:
        sys.path.insert(0, told["library"])
        from nbpipe.data import notebook_classes as classes, formats
    classes.share_classes(globals(), told["definitions"])
    for name, path, format in told["outputs"]:
        path = pathlib.Path(path)
        globals()[name] = path if format is None else formats.load(path, format)
_nbpipe_bind({told!r})
del _nbpipe_bind
"""


def binding_code(
    artifacts: Sequence[Artifact], reading: ParsedNotebook, store: Path, materializer: Materializer
) -> str:
    """Get the code; what it is told is one text, so no name or path becomes code."""
    library: Path = worker_entry_points.load_entry_point(worker_entry_points.SHIP)(store)
    definitions: dict[str, str] = {}
    for code in reading.code.values():
        definitions |= definition_digests(code)
    outputs = [
        [made.name, str(materializer.locate(made.reference)), None if made.is_path else made.format]
        for made in artifacts
    ]
    told = {"library": str(library), "definitions": definitions, "outputs": outputs}
    return _CODE.replace("{told!r}", repr(json.dumps(told)))
