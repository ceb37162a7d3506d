"""Why a step runs or is reused."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nbpipe.model.component_names import ComponentKind, ComponentName, component_name, split_name
from nbpipe.model.content import Artifact


@dataclass(frozen=True, slots=True)
class KeyComponent:
    """One part of the reuse key. ``summary`` is short, for people; ``text`` is compared in diffs.

    ``raw`` is the digest in the second key, which is computed from code as written; empty if it is the same.
    """

    name: ComponentName
    digest: str
    summary: str
    text: str = ""
    raw: str = field(default="", compare=False)

    @property
    def kind(self) -> ComponentKind | None:
        """Return what the component is about; None if this version does not know it."""
        return split_name(self.name)[0]

    @property
    def subject(self) -> str:
        """Return which of its kind the component is; empty if there is only one."""
        return split_name(self.name)[1]


@dataclass(frozen=True, slots=True)
class Reason:
    """A component that decided a verdict, with its earlier and its present summary."""

    component: ComponentName
    was: str | None = None
    now: str | None = None

    @property
    def kind(self) -> ComponentKind | None:
        """Return what the reason is about; None if this version does not know it."""
        return split_name(self.component)[0]

    @property
    def subject(self) -> str:
        """Return which of its kind the reason is about; empty if there is only one."""
        return split_name(self.component)[1]

    @classmethod
    def about(cls, kind: ComponentKind, now: str | None, *, subject: str = "", was: str | None = None) -> Reason:
        """Return the reason that is about a component of this kind."""
        return cls(component_name(kind, subject), was, now)


@dataclass(frozen=True, slots=True)
class ResultOrigin:
    """Where a result comes from: the attempt that computed it, with its run and its step."""

    run: str
    step: str
    attempt: str = ""


class ObservationKind(StrEnum):
    """What an attempt can use without declaring it."""

    READ = "read"
    """a file"""
    LISTED = "listed"
    """a folder's names"""
    PROBED = "probed"
    """whether a path is there"""
    PACKAGE = "package"
    """an installed distribution"""
    MISSING = "missing"
    """a module that could not be imported"""
    SOURCES = "sources"
    """all code around the notebook"""


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that an attempt used without declaring it, in the state it had then.

    Paths are relative to the notebook's folder, or absolute, as the code spelled them. ``left`` is a second
    accepted state: the one that the attempt itself left behind.
    """

    kind: ObservationKind
    name: str
    state: str
    left: str = ""


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A recorded result that may be reused.

    ``display`` is what the step displayed and printed. ``observed`` must still hold. ``accepted`` is empty, or says who
    accepted an older result for this key, and when.
    """

    key: str
    attempt: str
    origin: ResultOrigin
    seconds: float
    notebook: str
    artifacts: tuple[Artifact, ...]
    observed: tuple[Observation, ...] = ()
    accepted: str = ""
    display: Artifact | None = None


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The step must be executed."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ReuseVerdict:
    """A recorded result is reused for this step."""

    hit: CachedResult
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class SkipVerdict:
    """The step's condition is false, or a step that it needs is skipped or has failed."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class DependsVerdict:
    """The verdict depends on inputs that are not known yet."""

    reasons: tuple[Reason, ...]


Verdict = RunVerdict | ReuseVerdict | SkipVerdict | DependsVerdict
