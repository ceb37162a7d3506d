"""Names for proposed steps: of a heading, of a tag, or of the main result."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection, Sequence
from itertools import chain

_IDLE = frozenset(
    {"the", "a", "an", "of", "and", "or", "to", "in", "on", "for", "with", "by", "from", "our", "your", "we", "is",
     "are", "let", "lets", "s", "it", "its", "this", "that", "into", "as", "at", "using", "some", "step", "part",
     "section", "chapter", "exercise", "us", "now", "how", "what", "do"}
)  # fmt: skip
_MARKUP = re.compile(r"<[^>]*>|\[([^\]]*)\]\([^)]*\)|[`*_$\\]")
_WORDS = 4
_LETTERS = 30


def heading_name(heading: str) -> str:
    """Return a name made of the words of a heading; empty if it has none that can be written."""
    text = _MARKUP.sub(lambda match: f" {match[1] or ''} ", heading).replace("'", "")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.findall(r"[a-z][a-z0-9]*", plain) if word not in _IDLE]
    chosen: list[str] = []
    for word in words[:_WORDS]:
        if len("_".join([*chosen, word])) <= _LETTERS:
            chosen.append(word)
    name = "_".join(chosen)
    return name if usable(name) else ""


def usable(name: str) -> bool:
    """Return whether a step can have this name."""
    return name.isidentifier() and not keyword.iskeyword(name)


def step_name(tag: str | None, heading: str, results: Sequence[str], taken: Collection[str], number: int) -> str:
    """Return a name for a step that is not among those ``taken``: its tag, its heading, its main result, its cell."""
    main = results[-1].strip("_").lower() if results else ""
    wanted = [tag or "", heading_name(heading), f"make_{main}" if usable(main) else "", f"cell_{number}"]
    names = [name for name in wanted if usable(name)]
    again = (f"{names[0]}_{count}" for count in range(2, 10_000))
    return next(name for name in chain(names[:-1], again) if name not in taken) if len(names) > 1 else names[0]
