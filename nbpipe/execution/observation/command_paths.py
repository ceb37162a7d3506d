"""The files that the command of a program names, shell syntax included. Shipped to steps' kernels as source."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator, Sequence

_PATTERN = frozenset("*?[")
_WRITES = ">"
_SHELLS = ("sh", "bash", "dash", "zsh")


def paths_named(words: Sequence[str], folder: str) -> Iterator[tuple[str, bool]]:
    """Return the paths that a command may name, and whether each is a folder whose names a pattern goes through.

    ``folder`` is where the command runs, empty for here.
    """
    line = _shell_line(words)
    for word in _all_words(words):
        yield os.path.join(folder, word), False
    for word in _words_of(line) if line else ():
        spelled = os.path.join(folder, word)
        # Quotes are gone by now: what holds a blank was in some.
        found = [] if _PATTERN.isdisjoint(word) or " " in word else glob.glob(spelled)
        if found:
            yield os.path.dirname(spelled) or ".", True
            yield from ((each, False) for each in found)


def _shell_line(words: Sequence[str]) -> str | None:
    """Return the command line that a shell is given."""
    *before, last = words or [""]
    return last if before[-1:] == ["-c"] and any(os.path.basename(word) in _SHELLS for word in before) else None


def _all_words(words: Sequence[str]) -> Iterator[str]:
    """Return the words of a command, those of command lines in it, and the values of options like ``--in=path``."""
    for word in words:
        for each in (word, *_words_of(word)):
            yield each
            _, equals, value = each.partition("=")
            if equals:
                yield value


def _words_of(line: str) -> list[str]:
    """Return the words of a command line, but for the files that it writes to."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        return []
    return [word for before, word in zip(("", *words), words, strict=False) if not before.startswith(_WRITES)]
