"""``papermill --engine nbpipe``: a notebook's steps run as a parallel pipeline with reuse, its other cells as usual.

Papermill loads every registered engine when it is imported, so this module imports nothing else; the rest of the
engine is imported only for notebooks with steps.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from papermill.engines import NBClientEngine

_STEP = re.compile(r"\s*(?:%%(?:nb)?step\b|#\s?\|\s*step\s*:)")
_LATE = {"run_notebook": "nbpipe.papermill_engine.notebook_run"}


class NbpipeEngine(NBClientEngine):  # type: ignore[misc]  # papermill comes without types
    """Runs notebooks with step cells; notebooks without steps run on papermill's default engine."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        """Run all cells; each step's outputs appear in its cell while it runs."""
        if not any(cell.cell_type == "code" and _STEP.match(cell.source) for cell in nb_man.nb.cells):
            return super().execute_managed_notebook(nb_man, kernel_name, **options)
        run = getattr(import_module(_LATE["run_notebook"]), "run_notebook")  # noqa: B009  # imported late, by name
        return run(nb_man, kernel_name, options)
