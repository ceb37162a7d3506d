"""A run's brain: a pure state machine, events in, instructions out. It reads no clock and touches nothing.

The idea is distributed's worker state machine: one mutating door (:meth:`Progress.handle`), every event names its
cause, and the driver only carries out what it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nbpipe.model import Failure, Reason, ReuseVerdict, RunVerdict, SkipVerdict, Status, Verdict

LOST_TRIES = 2


# Events


@dataclass(frozen=True, slots=True)
class Begin:
    """The run begins."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A step whose inputs are known has its verdict."""

    step: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Claimed:
    """The step's key is ours: nobody else computes it."""

    step: str


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt runs."""

    step: str


@dataclass(frozen=True, slots=True)
class Committed:
    """An attempt succeeded and its result is visible."""

    step: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt failed, was cancelled or was lost; ``final`` when another try could not help."""

    step: str
    status: Status
    failure: Failure
    final: bool = False


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody asked the run to stop now."""


@dataclass(frozen=True, slots=True)
class StepCancelAsked:
    """Somebody asked for one step to stop now; what does not need it goes on."""

    step: str


Event = Begin | Decided | Claimed | Started | Committed | Ended | CancelAsked | StepCancelAsked


# Instructions


@dataclass(frozen=True, slots=True)
class Decide:
    """Find the step's verdict: all that it needs is done."""

    step: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the step's key, or wait for who holds it and decide again."""

    step: str


@dataclass(frozen=True, slots=True)
class Submit:
    """Start attempt ``number`` (from 1) of a step whose key is ours."""

    step: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """Write down a step's final state."""

    step: str
    status: Status
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Kill a running attempt."""

    step: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    status: Status


Instruction = Decide | Claim | Submit | Record | Stop | Finish


@dataclass(slots=True)
class _State:
    phase: str = "waiting"
    status: Status | None = None
    tries: int = 0
    lost: int = 0
    unwanted: bool = False


@dataclass(slots=True)
class Progress:
    """The state of one run. ``needs`` holds the selected steps only; ``retries`` how often each is tried again."""

    needs: Mapping[str, tuple[str, ...]]
    retries: Mapping[str, int]
    keep_going: bool = False
    log: list[Event] = field(default_factory=list)
    _steps: dict[str, _State] = field(default_factory=dict)
    _dependants: dict[str, list[str]] = field(default_factory=dict)
    _open: int = 0
    _stopping: str | None = None
    _cancelled: bool = False
    _finished: bool = False

    def __post_init__(self) -> None:
        self._steps = {name: _State() for name in self.needs}
        self._open = len(self._steps)
        for name, needed in self.needs.items():
            for need in needed:
                self._dependants.setdefault(need, []).append(name)

    def status(self, step: str) -> Status | None:
        """Get a step's final status, or None while it has none."""
        return self._steps[step].status

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event and get what is to be done; an event for a step that is done changes nothing."""
        self.log.append(event)
        out: list[Instruction] = []
        match event:
            case Begin():
                out = [self._decide(name) for name, needed in self.needs.items() if not needed]
            case CancelAsked():
                out = self._cancel()
            case _ if self._steps[event.step].status is not None:
                return []
            case StepCancelAsked():
                out = self._cancel_step(event.step)
            case Decided():
                out = self._decided(event)
            case Claimed():
                out = self._claimed(event.step)
            case Started():
                self._steps[event.step].phase = "running"
            case Committed():
                out = self._close(event.step, Status.SUCCEEDED, ())
            case Ended():
                out = self._ended(event)
        return [*out, *self._finish()]

    def validate(self) -> None:
        """Check what must always hold; AssertionError names the step."""
        for name, state in self._steps.items():
            done = state.status is not None
            assert done == (state.phase == "done"), name
            if state.phase in ("deciding", "claiming", "submitted", "running"):
                assert all(self._succeeded(need) for need in self.needs[name]), name
            if state.status in (Status.SUCCEEDED, Status.REUSED):
                assert all(self._succeeded(need) for need in self.needs[name]), name
        assert self._open == sum(state.status is None for state in self._steps.values())

    def _succeeded(self, name: str) -> bool:
        return self._steps[name].status in (Status.SUCCEEDED, Status.REUSED)

    def _decide(self, name: str) -> Instruction:
        self._steps[name].phase = "deciding"
        return Decide(name)

    def _decided(self, event: Decided) -> list[Instruction]:
        if isinstance(event.verdict, ReuseVerdict):
            return self._close(event.step, Status.REUSED, event.verdict.reasons)
        if isinstance(event.verdict, SkipVerdict):
            return self._close(event.step, Status.SKIPPED, event.verdict.reasons)
        assert isinstance(event.verdict, RunVerdict), event
        if self._stopping:
            return self._close(event.step, Status.SKIPPED, self._because())
        self._steps[event.step].phase = "claiming"
        return [Claim(event.step)]

    def _claimed(self, name: str) -> list[Instruction]:
        if self._stopping:
            return self._close(name, Status.SKIPPED, self._because())
        return [self._submit(name)]

    def _submit(self, name: str) -> Instruction:
        state = self._steps[name]
        state.tries += 1
        state.phase = "submitted"
        return Submit(name, state.tries)

    def _ended(self, event: Ended) -> list[Instruction]:
        state = self._steps[event.step]
        if event.status is Status.LOST:
            state.lost += 1
            again = state.lost <= LOST_TRIES
        else:
            again = state.tries - state.lost <= self.retries[event.step]
        unwanted = self._cancelled or state.unwanted or event.status is Status.CANCELLED
        if again and not event.final and not self._stopping and not unwanted:
            return [self._submit(event.step)]
        if unwanted:
            return self._close(event.step, Status.CANCELLED, ())
        return self._close(event.step, Status.FAILED, ())

    def _close(self, name: str, status: Status, reasons: tuple[Reason, ...]) -> list[Instruction]:
        out: list[Instruction] = [self._record(name, status, reasons)]
        if self._succeeded(name):
            return out + [self._decide(other) for other in self._dependants.get(name, []) if self._ready(other)]
        out += self._skip_dependants(name)
        if status is Status.FAILED and not self.keep_going and not self._stopping:
            self._stopping = name
            waiting = [other for other, state in self._steps.items() if state.phase == "waiting"]
            out += [self._record(other, Status.SKIPPED, self._because()) for other in waiting]
        return out

    def _record(self, name: str, status: Status, reasons: tuple[Reason, ...]) -> Instruction:
        state = self._steps[name]
        state.phase, state.status = "done", status
        self._open -= 1
        return Record(name, status, reasons)

    def _ready(self, name: str) -> bool:
        waiting = self._steps[name].phase == "waiting" and not self._stopping and not self._cancelled
        return waiting and all(self._succeeded(need) for need in self.needs[name])

    def _skip_dependants(self, name: str) -> list[Instruction]:
        out: list[Instruction] = []
        todo = [name]
        while todo:
            cause = todo.pop()
            status = self._steps[cause].status
            for other in self._dependants.get(cause, []):
                if self._steps[other].status is None:
                    reasons = (Reason(f"upstream:{cause}", None, status.value if status else None),)
                    out.append(self._record(other, Status.SKIPPED, reasons))
                    todo.append(other)
        return out

    def _because(self) -> tuple[Reason, ...]:
        return (Reason("stopped", None, f"`{self._stopping}` failed, so nothing new starts"),)

    def _cancel(self) -> list[Instruction]:
        self._cancelled = True
        out: list[Instruction] = []
        for name, state in self._steps.items():
            if state.status is None and state.phase in ("submitted", "running"):
                out.append(Stop(name))
            elif state.status is None:
                out.append(self._record(name, Status.CANCELLED, ()))
        return out

    def _cancel_step(self, name: str) -> list[Instruction]:
        state = self._steps[name]
        if state.phase not in ("submitted", "running"):
            return self._close(name, Status.CANCELLED, ())
        state.unwanted = True
        return [Stop(name)]

    def _finish(self) -> Iterable[Instruction]:
        if self._open or self._finished:
            return []
        self._finished = True
        return [Finish(self._outcome())]

    def _outcome(self) -> Status:
        statuses = {state.status for state in self._steps.values()}
        if Status.CANCELLED in statuses and (self._cancelled or Status.FAILED not in statuses):
            return Status.CANCELLED
        if Status.FAILED not in statuses:
            return Status.SUCCEEDED
        return Status.PARTIAL if self.keep_going else Status.FAILED
