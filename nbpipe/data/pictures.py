"""Pictures as PNG files, and figures beside their picture in one file. Shipped to steps' kernels beside ``formats``.

A stored figure is a PNG file that everything can show; after the picture's end follows the figure itself, pickled.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import IO, Any

from nbpipe.data.value_types import UnsupportedValue, kind_of, library

_BEGINNING = b"\x89PNG\r\n\x1a\n"
_END = b"IEND"


def write_png(value: Any, path: Path) -> str:
    """Write a matplotlib figure, a PIL image or PNG bytes as a PNG file."""
    figure = sys.modules.get("matplotlib.figure")
    data = getattr(value, "data", value)
    if figure is not None and isinstance(value, figure.Figure):
        # Without the writer's version, so that equal figures have equal bytes.
        value.savefig(path, format="png", metadata={"Software": None})
    elif isinstance(data, bytes) and data.startswith(_BEGINNING):
        path.write_bytes(data)
    elif "PIL.Image" in sys.modules and isinstance(value, sys.modules["PIL.Image"].Image):
        value.save(path, format="PNG")
    else:
        raise UnsupportedValue("png takes a matplotlib figure, a PIL image or PNG bytes")
    return ""


def read_png(path: Path) -> Any:
    """Return the picture as ``IPython.display.Image``."""
    return library("IPython.display").Image(data=path.read_bytes(), format="png")


def require_figure(value: Any) -> None:
    """Raise UnsupportedValue for anything but a matplotlib figure."""
    if kind_of(value) != "matplotlib.figure.Figure":
        raise UnsupportedValue("figure takes a matplotlib figure")


def skip_picture(file: IO[bytes]) -> None:
    """Move to the end of the picture at the beginning of a file; raise ValueError if there is none."""
    if file.read(len(_BEGINNING)) != _BEGINNING:
        raise ValueError("it does not begin with a picture")
    kind = b""
    while kind != _END:
        head = file.read(8)
        kind = head[4:]
        if len(head) < 8:
            raise ValueError("its picture has no end")
        # The content and a checksum.
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)


def show_figures() -> None:
    """Let this kernel show figures as pictures if nothing does so yet: matplotlib's pyplot may not be loaded here."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", bool)()
    formatter = getattr(shell, "display_formatter", None)
    if formatter is not None:
        pictures, figure = formatter.formatters["image/png"], sys.modules["matplotlib.figure"].Figure
        if figure not in pictures:
            pictures.for_type(figure, _png_of)


def _png_of(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()
