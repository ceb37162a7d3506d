"""The words behind ``%nbpipe VERB``: names and options, spelled as in a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbpipe.errors import BadUsage
from nbpipe.language.text import nearest

_FLAGS = ("keep-going", "force", "full", "repair", "detach", "here", "locals", "check", "long", "short")
_SHELL_ONLY = ("json", "follow", "workspace", "limit", "help")
_SHORT = {"-p": "--param"}


@dataclass(frozen=True, slots=True)
class Words:
    """Names and given options; a flag's value is empty."""

    names: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]]

    def many(self, option: str) -> tuple[str, ...]:
        """Get all values of an option."""
        return self.given.get(option, ())

    def one(self, option: str) -> str | None:
        """Get the last value of an option, or None."""
        return self.given[option][-1] if option in self.given else None

    def pairs(self, option: str) -> dict[str, str]:
        """Get ``NAME=VALUE`` values split."""
        found: dict[str, str] = {}
        for text in self.many(option):
            name, equals, value = text.partition("=")
            if not equals or not name or name in found:
                raise BadUsage(f"`{text}` is not NAME=VALUE, or its name is given twice", "For example: -p rate=0.05")
            found[name] = value
        return found

    def forced(self) -> tuple[str, ...] | None:
        """Get the steps to force: None for no forcing, empty for all."""
        return tuple(name for name in self.given["force"] if name) if "force" in self.given else None


def read_words(text: str, takes: Sequence[str], names: int | None = None) -> Words:
    """Read what follows a verb that takes these options and, unless None, exactly so many names."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadUsage(f"`{text}` cannot be read: {error}", "Close the quote.") from None
    found: list[str] = []
    given: dict[str, tuple[str, ...]] = {}
    place = 0
    while place < len(words):
        word = _SHORT.get(words[place], words[place])
        if not word.startswith("-"):
            found.append(word)
            place += 1
            continue
        key, equals, value = word.removeprefix("--").partition("=")
        _require(key, word, takes)
        place += 1
        values: list[str] = [value] if equals else []
        while not equals and place < len(words) and not words[place].startswith("-") and _wants(key, values):
            values.append(words[place])
            place += 1
        if not values and key not in _FLAGS:
            raise BadUsage(f"`--{key}` needs a value")
        given[key] = (*given.get(key, ()), *(values or [""]))
    if names is not None and len(found) != names:
        raise BadUsage(f"{_number(names)} expected, found {', '.join(found) or 'none'}")
    return Words(tuple(found), given)


def _require(key: str, word: str, takes: Sequence[str]) -> None:
    if word.startswith("--") and key in _SHELL_ONLY and key not in takes:
        raise BadUsage(f"`--{key}` is for the command line", f"Leave it out, or in a shell: nbpipe VERB … --{key}")
    if not word.startswith("--") or key not in takes:
        hint = nearest(f"--{key}", [f"--{option}" for option in takes])
        listed = ", ".join(f"--{option}" for option in takes)
        raise BadUsage(
            f"there is no option `{word}` here", hint or (f"There are: {listed}." if listed else "It takes none.")
        )


def _wants(key: str, values: Sequence[str]) -> bool:
    return key == "force" or (key not in _FLAGS and not values)


def _number(names: int) -> str:
    return "no name is" if names == 0 else "one name is" if names == 1 else f"{names} names are"
