"""HTML as a type of its own: made from escaped texts and from other HTML, so that no text becomes markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NoReturn, Self

from nbpipe.views.terminal_text import harmless, one_line

# Elements without content: of HTML, which have no end, and of SVG, which end themselves.
_VOID = frozenset({"br", "img"})
_SELF_CLOSING = frozenset({"circle", "path", "polyline", "rect"})


class Html:
    """A fragment of HTML; ``Html(text)`` is a text, escaped, with its lines as they are.

    It is no string, and neither ``str`` nor an f-string takes it: ``text`` is for the place where a page is sent.
    """

    __slots__ = ("_markup",)

    def __init__(self, text: str = "") -> None:
        self._markup = escape("\n".join(map(harmless, text.split("\n"))), quote=True)

    @classmethod
    def line(cls, text: str) -> Self:
        """Return a text as one line, its white space joined."""
        return cls(one_line(text))

    @classmethod
    def join(cls, parts: Iterable[Html]) -> Self:
        """Return fragments one after another."""
        return cls.trusted("".join(part.text for part in parts))

    @classmethod
    def trusted(cls, markup: str) -> Self:
        """Return markup as it is: for what the author of a notebook displays, and for nothing made from other texts."""
        html = cls()
        html._markup = markup
        return html

    @property
    def text(self) -> str:
        """Return the markup, to be sent to a front end or written to a file."""
        return self._markup

    def __html__(self) -> str:
        """Return the markup, as template engines and IPython ask for it."""
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
    """Return an element; strings are texts, and are escaped.

    ``data_step`` is the attribute ``data-step``, ``class_`` is ``class``. An attribute that is None is left out.
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
