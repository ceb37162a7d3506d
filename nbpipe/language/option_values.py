"""Values of a declaration's keys: counts, durations, amounts, choices, text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbpipe.language.source_text import LocatedText, nearest, unquote
from nbpipe.model import ReusePolicy

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB|MiB|GiB|TiB)")
# An idle kernel needs some of it.
_LEAST = 100 * 10**6
TARGET_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def count(span: LocatedText) -> int:
    """Read a whole number that is not negative."""
    if not re.fullmatch(r"\d{1,6}", span.text):
        raise span.wrong(f"`{span.text}` is not a whole number", "For example: 2")
    return int(span.text)


def cores(span: LocatedText) -> int:
    """Read a number of processor cores, at least one."""
    number = count(span)
    if number == 0:
        raise span.wrong("`0` leaves no core to run on", "Write 1 or more; 1 is the default.")
    return number


def target(span: LocatedText) -> str:
    """Read the name of a compute target."""
    name = unquote(span).text
    if not TARGET_NAME.fullmatch(name):
        raise span.wrong(f"`{name}` is not the name of a compute target", "For example: --compute gpu")
    return name


def duration(span: LocatedText) -> float:
    """Read ``90s``, ``10m``, ``2h`` or ``1h30m`` as seconds."""
    text = unquote(span).text
    if not re.fullmatch(f"(?:{_DURATION.pattern}\\s*)+", text):
        raise span.wrong(f"`{text}` is not a duration", "Write a number and its unit: 90s, 10m, 2h.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    if seconds <= 0:
        raise span.wrong(f"`{text}` leaves no time at all", "Write a duration above zero, for example 90s.")
    return seconds


def size(span: LocatedText) -> int:
    """Read ``500MB`` or ``2GiB`` as bytes."""
    text = unquote(span).text
    amount = bytes_in(text)
    if amount is None:
        raise span.wrong(f"`{text}` is not an amount of memory", "Write a number and its unit: 500MB, 2GiB.")
    if amount < _LEAST:
        raise span.wrong(f"`{text}` leaves no room for Python itself", "Write 100MB or more.")
    return amount


def bytes_in(text: str) -> int | None:
    """Return the bytes that ``500MB`` or ``2GiB`` says; None if it says none."""
    match = _SIZE.fullmatch(text)
    return None if match is None else int(float(match[1]) * _BYTES[match[2]])


def one_of(span: LocatedText, choices: Sequence[str]) -> str:
    """Read one of several choices."""
    if span.text not in choices:
        raise span.wrong(
            f"`{span.text}` is none of {', '.join(choices)}", nearest(span.text, choices) or f"Write {choices[0]}."
        )
    return span.text


def truth(span: LocatedText) -> bool:
    """Read ``true`` or ``false``."""
    return one_of(span, ("true", "false")) == "true"


def reuse(span: LocatedText) -> ReusePolicy:
    """Read a reuse policy."""
    return ReusePolicy(one_of(span, [policy.value for policy in ReusePolicy]))


def text(span: LocatedText) -> str:
    """Read free text, without its quotes."""
    return unquote(span).text
