"""The syntax of a verb: its arguments and options, where each is available, and the parsed invocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Face(Flag):
    """Where a verb is called, and where a verb, an argument or an option is available."""

    SHELL = auto()
    NOTEBOOK = auto()
    BOTH = SHELL | NOTEBOOK

    @property
    def program(self) -> str:
        """Return the first word of a call."""
        return "%nbpipe" if self is Face.NOTEBOOK else "nbpipe"


class ValueKind(Enum):
    """The kind of thing that a value names, for completion."""

    TEXT = auto()
    STEP = auto()
    OUTPUT = auto()
    PARAMETER = auto()
    RUN_STATUS = auto()
    DEFAULT = auto()
    DATASTORE = auto()
    DATASET = auto()
    PATH = auto()


class Arity(Enum):
    """How many values an argument or an option takes."""

    NONE = auto()
    ONE = auto()
    OPTIONAL = auto()
    MANY = auto()
    SOME = auto()

    @property
    def required(self) -> bool:
        """Return whether at least one value is required."""
        return self in (Arity.ONE, Arity.SOME)

    @property
    def several(self) -> bool:
        """Return whether more than one value is allowed."""
        return self in (Arity.MANY, Arity.SOME)


@dataclass(frozen=True, slots=True, eq=False)
class Parameter(Generic[T]):
    """The base of arguments and options; ``read`` turns its words (none if it is absent) into a value."""

    metavar: str
    read: Callable[[Sequence[str]], T]
    arity: Arity
    kind: ValueKind = ValueKind.TEXT
    faces: Face = Face.BOTH


@dataclass(frozen=True, slots=True, eq=False)
class Argument(Parameter[T]):
    """A positional argument."""

    @property
    def usage(self) -> str:
        """Return the usage text, e.g. ``[STEP...]``."""
        text = self.metavar + "..." * self.arity.several
        return text if self.arity.required else f"[{text}]"


@dataclass(frozen=True, slots=True, eq=False)
class Option(Parameter[T]):
    """An option and its values.

    Each use of an option with ``Arity.MANY`` gives one value. With ``lists_names`` it takes all names that follow it,
    if any.
    """

    name: str = ""
    help: str = ""
    short: str = ""
    lists_names: bool = False

    @property
    def usage(self) -> str:
        """Return the short usage text, e.g. ``-p NAME=VALUE``."""
        return f"{self.short or self.name} {self.metavar}".rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """One verb: its name, a sentence of help, the function that it calls, its arguments and options.

    The name of a verb of a group has two words, the first of which is the group's.

    At most one option of each group in ``exclusive`` may be given. A verb that ``reads_only`` needs only read
    permission, and writes nothing to a workspace of another user.
    """

    name: str
    help: str
    call: str
    arguments: tuple[Argument[Any], ...] = ()
    options: tuple[Option[Any], ...] = ()
    exclusive: tuple[tuple[Option[Any], ...], ...] = ()
    faces: Face = Face.BOTH
    reads_only: bool = False

    def arguments_in(self, face: Face) -> tuple[Argument[Any], ...]:
        """Return the arguments that are available there."""
        return tuple(argument for argument in self.arguments if face in argument.faces)

    def options_in(self, face: Face) -> tuple[Option[Any], ...]:
        """Return the options that are available there."""
        return tuple(option for option in self.options if face in option.faces)

    def option_named(self, word: str) -> Option[Any] | None:
        """Return the option with this long or short name, wherever it is available."""
        return next((option for option in self.options if word and word in (option.name, option.short)), None)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A verb with the values of all its arguments and options, or their defaults."""

    verb: Verb
    values: Mapping[Parameter[Any], Any] = field(default_factory=dict)

    def __getitem__(self, parameter: Parameter[T]) -> T:
        """Return the value of an argument or option of the verb."""
        value: T = self.values[parameter]
        return value


@dataclass(frozen=True, slots=True)
class HelpRequest:
    """A request for help about a verb, about the verbs of a group, or about all verbs."""

    verb: Verb | None = None
    group: str = ""
