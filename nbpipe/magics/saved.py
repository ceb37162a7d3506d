"""What a kernel does to the saved notebook that it belongs to."""

from __future__ import annotations

from pathlib import Path

from nbpipe.errors import BadUsage
from nbpipe.magics.session import Session
from nbpipe.run.notebooks import formatted_cells, rewrite


def laid_out_file(session: Session, style: str, *, dry: bool) -> list[str]:
    """Lay out the declarations in the saved notebook, and get what to tell about it; with ``dry`` write nothing."""
    path = saved_notebook(session)
    cells = formatted_cells(path, style)
    if not cells:
        return [f"{path.name} is left as written"]
    numbers = ", ".join(map(str, sorted(cells)))
    if dry:
        return [f"cell {numbers} of {path.name} would change"]
    rewrite(path, cells)
    return [f"cell {numbers} of {path.name} changed on disk: load it again (Reload Notebook from Disk)"]


def saved_notebook(session: Session) -> Path:
    """Get the notebook's file; BadUsage where the kernel is not told it."""
    if session.notebook is None:
        raise BadUsage("this kernel is not told which notebook it belongs to", "In a shell: nbpipe fmt NOTEBOOK")
    return session.notebook
