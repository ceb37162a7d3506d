"""The files that a command mentions, including shell syntax. Shipped to steps' kernels as source."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator, Sequence

_PATTERN = frozenset("*?[")
_WRITES = ">"
_SHELLS = ("sh", "bash", "dash", "zsh")


def paths_named(words: Sequence[str], folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the paths that a command may name, and whether each is a folder that a pattern lists.

    ``folder`` is the command's working directory, empty for the current one.
    """
    line = _shell_line(words)
    for word in _all_words(words):
        yield os.path.join(folder, word), False
    for word in _words_of(line) if line else ():
        spelled = os.path.join(folder, word)
        # Quotes are removed already: a word with a blank was quoted.
        matches = [] if _PATTERN.isdisjoint(word) or " " in word else glob.glob(spelled)
        if matches:
            yield os.path.dirname(spelled) or ".", True
            yield from ((each, False) for each in matches)


def _shell_line(words: Sequence[str]) -> str | None:
    """Return the command line that is passed to a shell, if any."""
    *before, last = words or [""]
    return last if before[-1:] == ["-c"] and any(os.path.basename(word) in _SHELLS for word in before) else None


def _all_words(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command, of command lines in it, and the values of options like ``--in=path``."""
    for word in words:
        for each in (word, *_words_of(word)):
            yield each
            _, equals, value = each.partition("=")
            if equals:
                yield value


def _words_of(line: str) -> list[str]:
    """Return the words of a command line, except for the files that it writes to."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        return []
    return [word for before, word in zip(("", *words), words, strict=False) if not before.startswith(_WRITES)]
