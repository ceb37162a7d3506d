"""HTML as a type of its own, built from escaped text and other HTML, so that no text becomes markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NoReturn, Self

from nbpipe.views.terminal_text import harmless, one_line

# Elements without content: void elements of HTML, and self-closing ones of SVG.
_VOID = frozenset({"br", "img"})
_SELF_CLOSING = frozenset({"circle", "path", "polyline", "rect"})


class Html:
    """A fragment of HTML; ``Html(text)`` is escaped text with its line breaks.

    It cannot be converted by ``str`` or an f-string; ``text`` is only for sending or writing a page.
    """

    __slots__ = ("_markup",)

    def __init__(self, text: str = "") -> None:
        self._markup = escape("\n".join(map(harmless, text.split("\n"))), quote=True)

    @classmethod
    def line(cls, text: str) -> Self:
        """Return a text as one line with normalized white space."""
        return cls(one_line(text))

    @classmethod
    def join(cls, parts: Iterable[Html]) -> Self:
        """Return fragments one after another."""
        return cls.trusted("".join(part.text for part in parts))

    @classmethod
    def trusted(cls, markup: str) -> Self:
        """Return markup unescaped; only for what the author of a notebook displays, never for other texts."""
        html = cls()
        html._markup = markup
        return html

    @property
    def text(self) -> str:
        """Return the markup, to be sent to a front end or written to a file."""
        return self._markup

    def __html__(self) -> str:
        """Return the markup, for template engines and IPython."""
        return self._markup

    def __bool__(self) -> bool:
        return bool(self._markup)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Html) and other._markup == self._markup

    def __hash__(self) -> int:
        return hash(self._markup)

    def __repr__(self) -> str:
        return f"Html.trusted({self._markup!r})"

    def __str__(self) -> NoReturn:
        raise TypeError("HTML is no string: join it with other Html, or send its `text`")

    def __format__(self, _spec: str) -> NoReturn:
        raise TypeError("HTML is no part of a string: join it with other Html, or send its `text`")


def element(tag: str, /, *content: Html | str, **attributes: str | None) -> Html:
    """Return an element; strings in its content are escaped.

    ``data_step`` becomes the attribute ``data-step``, ``class_`` becomes ``class``. Attributes with None are omitted.
    """
    opening = tag + "".join(_attribute(name, value) for name, value in attributes.items() if value is not None)
    if tag in _VOID:
        return Html.trusted(f"<{opening}>")
    if tag in _SELF_CLOSING and not content:
        return Html.trusted(f"<{opening}/>")
    inside = "".join((part if isinstance(part, Html) else Html(part)).text for part in content)
    return Html.trusted(f"<{opening}>{inside}</{tag}>")


def _attribute(name: str, value: str) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f' {name}="{escape(one_line(value), quote=True)}"'
