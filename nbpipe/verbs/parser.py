"""The parser of command lines: words become a typed invocation or an error, the same in a shell and a notebook."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.verbs.syntax import Arity, Face, HelpRequest, Invocation, Option, Parameter, Verb
from nbpipe.verbs.table import GROUPS, LATER_VERBS, VERBS, actions, name_length, verb_named

HELP = ("--help", "-h")


def split(text: str) -> list[str]:
    """Return the words of a line, split as in a shell; raise BadUsage for an unclosed quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadUsage(f"`{text}` cannot be parsed: {str(error).lower()}", "Close the quote.") from None


def parse(words: Sequence[str], face: Face) -> Invocation | HelpRequest:
    """Return the parsed invocation or request for help; raise BadUsage for invalid words."""
    if not words or words[0] in HELP:
        return HelpRequest()
    count = name_length(words)
    if words[0] in GROUPS and count == 1 and any(word in HELP for word in words[1:]):
        return HelpRequest(group=words[0])
    verb = find_verb(" ".join(words[:count]), face)
    rest = words[count:]
    if any(word in HELP for word in rest[: rest.index("--") if "--" in rest else None]):
        return HelpRequest(verb)
    return _Parse(verb, face).invocation(rest)


def find_verb(name: str, face: Face) -> Verb:
    """Return the verb with this name; raise BadUsage if this face has none."""
    verb = verb_named(name)
    if verb is not None and face in verb.faces:
        return verb
    if name in LATER_VERBS:
        raise BadUsage(f"`{face.program} {name}` is not supported yet")
    if verb is not None:
        raise _elsewhere(f"`{name}` is a verb of", name, verb.faces)
    group, _, action = name.partition(" ")
    if action:
        hint = nearest(action, actions(group)) or f"It knows: {', '.join(actions(group))}."
        raise BadUsage(f"`{group}` has no verb `{action}`", hint)
    names = list(dict.fromkeys(verb.name.partition(" ")[0] for verb in VERBS))
    raise BadUsage(f"there is no verb `{name}`", nearest(name, names) or f"The verbs: {', '.join(names)}.")


def is_option(word: str) -> bool:
    """Return whether a word is an option; a lone dash and a negative number are values."""
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit()


def _elsewhere(message: str, written: str, faces: Face) -> BadUsage:
    place, hint = ("the command line", "In a shell") if faces is Face.SHELL else ("a notebook", "In a notebook")
    return BadUsage(f"{message} {place}", f"{hint}: {faces.program} {written}")


@dataclass(slots=True)
class _Parse:
    """The parser's state for the words of one verb."""

    verb: Verb
    face: Face
    _words_by_parameter: dict[Parameter[Any], list[str]] = field(default_factory=dict)
    _positional: list[str] = field(default_factory=list)

    def invocation(self, words: Sequence[str]) -> Invocation:
        """Return the values of all arguments and options of the verb."""
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                self._positional += rest
                break
            if is_option(word):
                self._take_option(word, rest)
            else:
                self._positional.append(word)
        self._take_arguments()
        self._refuse_exclusive()
        every = (*self.verb.arguments, *self.verb.options)
        return Invocation(
            self.verb, {parameter: parameter.read(self._words_by_parameter.get(parameter, ())) for parameter in every}
        )

    def _take_option(self, word: str, rest: list[str]) -> None:
        option, value = self._option(word)
        values = self._words_by_parameter.setdefault(option, [])
        if option.arity is Arity.NONE:
            if value is not None:
                raise BadUsage(f"`{option.name}` takes no value", f"Write {option.name} alone.")
            values.append(option.name)
            return
        if option.arity is Arity.ONE and values:
            raise BadUsage(f"`{option.name}` is given twice", "Keep one.")
        if option.lists_names and value is None:
            # A notebook's path, which may follow in a shell, is not an identifier.
            names = 0
            while rest and rest[0].isidentifier():
                values.append(rest.pop(0))
                names += 1
            if not names:
                values.append("")
            return
        if value is None and rest and not is_option(rest[0]):
            value = rest.pop(0)
        if not value:
            raise BadUsage(f"`{option.name}` needs a value", f"Write {option.name} {option.metavar}.")
        values.append(value)

    def _option(self, word: str) -> tuple[Option[Any], str | None]:
        """Return the option that a word names, and the value in the same word, if any."""
        name, equals, value = word.partition("=")
        option = self.verb.option_named(name)
        if option is None and not word.startswith("--"):
            option, value, equals = self.verb.option_named(word[:2]), word[2:], "="
            if option is not None and option.arity is Arity.NONE:
                option = None
        if option is None:
            # Without the dashes, in which all are alike.
            names = [option.name.lstrip("-") for option in self.verb.options_in(self.face)]
            likely = nearest(name.lstrip("-"), names, cutoff=0.6).replace("`", "`--", 1)
            hint = likely or f"`{self.verb.name} --help` lists the options."
            raise BadUsage(f"`{self.verb.name}` has no option `{name}`", hint)
        if self.face not in option.faces:
            raise _elsewhere(f"`{option.name}` is for", f"{self.verb.name} … {option.name}", option.faces)
        return option, value if equals else None

    def _take_arguments(self) -> None:
        words = self._positional
        for argument in self.verb.arguments_in(self.face):
            count = len(words) if argument.arity.several else 1
            self._words_by_parameter[argument] = words[:count]
            words = words[count:]
            if argument.arity.required and not self._words_by_parameter[argument]:
                raise BadUsage(f"`{self.verb.name}` needs {argument.metavar}", self._hint)
        if words:
            raise BadUsage(f"`{self.verb.name}` cannot take `{words[0]}`", self._hint)

    @property
    def _hint(self) -> str:
        return f"`{self.verb.name} --help` shows the usage."

    def _refuse_exclusive(self) -> None:
        for group in self.verb.exclusive:
            present = [option.name for option in group if option in self._words_by_parameter]
            if len(present) > 1:
                raise BadUsage(f"`{present[0]}` and `{present[1]}` exclude each other", "Keep one.")
