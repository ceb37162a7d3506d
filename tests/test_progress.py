"""A run's brain: whatever happens, in whatever order, it ends, and its statuses follow the rules."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nbpipe.model import Failure, Hit, Origin, Reason, ReuseVerdict, RunVerdict, SkipVerdict, Status, Verdict
from nbpipe.planning.progress import (
    LOST_TRIES,
    Begin,
    CancelAsked,
    Claim,
    Claimed,
    Committed,
    Decide,
    Decided,
    Ended,
    Event,
    Finish,
    Instruction,
    Progress,
    Record,
    Started,
    StepCancelAsked,
    Stop,
    Submit,
)

RUN = RunVerdict((Reason("code"),))
REUSE = ReuseVerdict(Hit("k", "a", Origin("r0", "s"), 1.0, "", ()), (Reason("unchanged", None, "r0"),))
SKIP = SkipVerdict((Reason("when", None, "false"),))
BROKEN = Failure("user", "ValueError", "no", "no")


def progress(needs: dict[str, tuple[str, ...]], *, keep_going: bool = False, **retries: int) -> Progress:
    """Get a run that has begun."""
    made = Progress(needs, {name: retries.get(name, 0) for name in needs}, keep_going)
    made.handle(Begin())
    return made


def handle(run: Progress, *events: Event) -> list[Instruction]:
    """Feed events and get all instructions; the invariants hold after each."""
    out: list[Instruction] = []
    for event in events:
        out += run.handle(event)
        run.validate()
    return out


def start(run: Progress, step: str) -> list[Instruction]:
    """Bring a step from its decision to its running attempt."""
    return handle(run, Decided(step, RUN), Claimed(step), Started(step))


def recorded(instructions: list[Instruction]) -> dict[str, Status]:
    """Get what is written down."""
    return {each.step: each.status for each in instructions if isinstance(each, Record)}


def finished(instructions: list[Instruction]) -> Status | None:
    """Get how the run ended, if it did."""
    found = [each.status for each in instructions if isinstance(each, Finish)]
    assert len(found) <= 1
    return found[0] if found else None


def test_steps_without_needs_are_decided_first():
    run = Progress({"a": (), "b": ("a",), "c": ()}, {"a": 0, "b": 0, "c": 0})

    assert run.handle(Begin()) == [Decide("a"), Decide("c")]


def test_a_step_goes_from_decision_to_claim_to_attempt_to_record():
    run = progress({"a": (), "b": ("a",)})

    assert handle(run, Decided("a", RUN)) == [Claim("a")]
    assert handle(run, Claimed("a")) == [Submit("a", 1)]
    assert handle(run, Started("a")) == []
    assert handle(run, Committed("a")) == [Record("a", Status.SUCCEEDED, ()), Decide("b")]
    assert handle(run, Decided("b", REUSE)) == [Record("b", Status.REUSED, REUSE.reasons), Finish(Status.SUCCEEDED)]


def test_a_run_of_no_steps_is_over_at_once():
    assert Progress({}, {}).handle(Begin()) == [Finish(Status.SUCCEEDED)]


def test_a_step_waits_for_all_that_it_needs():
    run = progress({"a": (), "b": (), "c": ("a", "b")})

    assert Decide("c") not in handle(run, Decided("a", REUSE))
    assert Decide("c") in handle(run, Decided("b", REUSE))


def test_a_failure_starts_nothing_new_lets_finish_what_runs_and_fails_the_run():
    run = progress({"bad": (), "good": (), "behind": ("bad",), "other": ("good",), "idle": ()})
    start(run, "bad")
    start(run, "good")
    out = handle(run, Ended("bad", Status.FAILED, BROKEN))

    assert recorded(out) == {"bad": Status.FAILED, "behind": Status.SKIPPED, "other": Status.SKIPPED}
    assert handle(run, Decided("idle", RUN)) == [
        Record("idle", Status.SKIPPED, (Reason("stopped", None, "`bad` failed, so nothing new starts"),))
    ]
    assert handle(run, Committed("good")) == [Record("good", Status.SUCCEEDED, ()), Finish(Status.FAILED)]


def test_after_a_failure_a_result_that_is_there_is_still_taken():
    run = progress({"bad": (), "idle": ()})
    start(run, "bad")
    handle(run, Ended("bad", Status.FAILED, BROKEN))

    assert recorded(handle(run, Decided("idle", REUSE))) == {"idle": Status.REUSED}


def test_keep_going_runs_all_that_does_not_depend_on_the_failure_and_ends_partial():
    run = progress({"bad": (), "good": (), "behind": ("bad",), "other": ("good",)}, keep_going=True)
    start(run, "bad")
    start(run, "good")

    assert recorded(handle(run, Ended("bad", Status.FAILED, BROKEN))) == {
        "bad": Status.FAILED, "behind": Status.SKIPPED,
    }  # fmt: skip
    assert Decide("other") in handle(run, Committed("good"))
    assert finished(handle(run, Decided("other", REUSE))) is Status.PARTIAL


def test_a_skipped_step_says_what_it_waited_for():
    run = progress({"a": (), "b": ("a",), "c": ("b",)})
    start(run, "a")
    out = handle(run, Ended("a", Status.FAILED, BROKEN))

    assert Record("b", Status.SKIPPED, (Reason("upstream:a", None, "failed"),)) in out
    assert Record("c", Status.SKIPPED, (Reason("upstream:b", None, "skipped"),)) in out


def test_a_false_condition_skips_what_needs_the_step_and_the_run_succeeds():
    run = progress({"a": (), "b": ("a",), "c": ()})
    out = handle(run, Decided("a", SKIP), Decided("c", REUSE))

    assert recorded(out) == {"a": Status.SKIPPED, "b": Status.SKIPPED, "c": Status.REUSED}
    assert finished(out) is Status.SUCCEEDED


def test_a_step_is_tried_again_as_often_as_it_says():
    run = progress({"a": ()}, a=2)
    start(run, "a")

    assert handle(run, Ended("a", Status.FAILED, BROKEN)) == [Submit("a", 2)]
    assert handle(run, Ended("a", Status.FAILED, BROKEN)) == [Submit("a", 3)]
    assert recorded(handle(run, Ended("a", Status.FAILED, BROKEN))) == {"a": Status.FAILED}


def test_a_lost_attempt_gets_two_more_which_are_not_counted():
    run = progress({"a": ()}, a=1)
    start(run, "a")
    lost = Ended("a", Status.LOST, BROKEN)

    assert handle(run, lost) == [Submit("a", 2)]
    assert handle(run, Ended("a", Status.FAILED, BROKEN)) == [Submit("a", 3)]
    assert handle(run, lost) == [Submit("a", 4)]
    assert recorded(handle(run, lost)) == {"a": Status.FAILED}


def test_what_cannot_be_helped_is_not_tried_again():
    run = progress({"a": ()}, a=5)
    start(run, "a")

    assert recorded(handle(run, Ended("a", Status.FAILED, BROKEN, final=True))) == {"a": Status.FAILED}


def test_nothing_is_tried_again_once_the_run_stops():
    """A retry would be something new."""
    run = progress({"a": (), "b": ()}, b=3)
    start(run, "a")
    start(run, "b")
    handle(run, Ended("a", Status.FAILED, BROKEN))

    assert recorded(handle(run, Ended("b", Status.FAILED, BROKEN))) == {"b": Status.FAILED}


def test_cancel_stops_what_runs_and_waits_for_its_end():
    """The status says cancelled only when the processes are gone."""
    run = progress({"a": (), "b": ("a",), "c": ()})
    start(run, "a")
    out = handle(run, CancelAsked())

    assert Stop("a") in out
    assert recorded(out) == {"b": Status.CANCELLED, "c": Status.CANCELLED}
    out = handle(run, Ended("a", Status.CANCELLED, BROKEN))
    assert recorded(out) == {"a": Status.CANCELLED}
    assert finished(out) is Status.CANCELLED


def test_one_step_is_cancelled_with_what_needs_it_and_the_others_go_on():
    run = progress({"a": (), "b": ("a",), "c": (), "d": ("c",)}, a=3)
    start(run, "a")
    start(run, "c")

    assert handle(run, StepCancelAsked("a")) == [Stop("a")]
    out = handle(run, Ended("a", Status.LOST, BROKEN))
    assert recorded(out) == {"a": Status.CANCELLED, "b": Status.SKIPPED}
    assert Decide("d") in handle(run, Committed("c"))
    out = handle(run, StepCancelAsked("d"))
    assert recorded(out) == {"d": Status.CANCELLED}
    assert finished(out) is Status.CANCELLED


def test_what_succeeds_while_it_is_being_stopped_is_kept():
    run = progress({"a": ()})
    start(run, "a")
    handle(run, CancelAsked())
    out = handle(run, Committed("a"))

    assert recorded(out) == {"a": Status.SUCCEEDED}
    assert finished(out) is Status.SUCCEEDED


def test_a_cancelled_run_tries_nothing_again():
    run = progress({"a": ()}, a=3)
    start(run, "a")
    handle(run, CancelAsked())

    assert recorded(handle(run, Ended("a", Status.LOST, BROKEN))) == {"a": Status.CANCELLED}


@pytest.mark.parametrize(
    "late", [Committed("a"), Ended("a", Status.FAILED, BROKEN), Started("a"), Claimed("a"), Decided("a", RUN)]
)
def test_what_has_ended_stays_as_it_ended(late):
    run = progress({"a": (), "b": ()})
    handle(run, Decided("a", REUSE))

    assert handle(run, late) == []
    assert run.status("a") is Status.REUSED


def test_the_log_is_every_event_in_order():
    run = progress({"a": ()})
    start(run, "a")

    assert run.log == [Begin(), Decided("a", RUN), Claimed("a"), Started("a")]


@dataclasses.dataclass
class World:
    """What a driver would know of one step: its open question, its attempts, its record."""

    waits_for: str = ""
    attempts: int = 0
    failures: int = 0
    lost: int = 0
    record: Status | None = None
    reasons: tuple[Reason, ...] = ()


class Runs(RuleBasedStateMachine):
    """Random pipelines with random fates; each instruction is carried out by a rule, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, World] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.finish: Status | None = None
        self.cancelled = False
        self.failed = False

    @initialize(data=st.data(), keep_going=st.booleans())
    def begin(self, data: st.DataObject, *, keep_going: bool) -> None:
        """Make a pipeline and begin its run."""
        count = data.draw(st.integers(1, 6))
        self.needs = {f"s{n}": tuple(f"s{m}" for m in range(n) if data.draw(st.booleans())) for n in range(count)}
        self.retries = {name: data.draw(st.integers(0, 2)) for name in self.needs}
        self.steps = {name: World() for name in self.needs}
        self.keep_going = keep_going
        self.run = Progress(self.needs, self.retries, keep_going)
        self.feed(Begin())

    def feed(self, event: Event) -> None:
        """Hand in an event and do what is told."""
        for instruction in self.run.handle(event):
            self.run.validate()
            self.carry_out(instruction)

    def carry_out(self, instruction: Instruction) -> None:
        """Note an instruction; it must be possible now."""
        assert self.finish is None, "nothing is told after the end"
        if isinstance(instruction, Finish):
            self.finish = instruction.status
            return
        world = self.steps[instruction.step]
        assert world.record is None, "terminal is final"
        match instruction:
            case Decide(step):
                assert world.waits_for == ""
                assert all(self.done(need) for need in self.needs[step])
                world.waits_for = "decision"
            case Claim():
                world.waits_for = "claim"
            case Submit(_, number):
                assert not self.cancelled
                world.attempts += 1
                assert number == world.attempts
                world.waits_for = "start"
            case Record(_, status, reasons):
                world.record, world.reasons, world.waits_for = status, reasons, ""
            case Stop():
                assert world.waits_for in ("start", "end")

    def done(self, step: str) -> bool:
        """Say whether a step has its outputs."""
        return self.steps[step].record in (Status.SUCCEEDED, Status.REUSED)

    def waiting(self, *kinds: str) -> list[str]:
        """Get the steps that wait for this."""
        return [name for name, world in self.steps.items() if world.waits_for in kinds]

    @precondition(lambda self: self.waiting("decision"))
    @rule(data=st.data(), verdict=st.sampled_from([RUN, RUN, REUSE, SKIP]))
    def decide(self, data: st.DataObject, verdict: Verdict) -> None:
        """Find a verdict."""
        self.feed(Decided(data.draw(st.sampled_from(self.waiting("decision"))), verdict))

    @precondition(lambda self: self.waiting("claim"))
    @rule(data=st.data(), held=st.booleans())
    def claim(self, data: st.DataObject, *, held: bool) -> None:
        """Take the key, or find that another run holds it and ask for the decision again."""
        step = data.draw(st.sampled_from(self.waiting("claim")))
        if held:
            self.steps[step].waits_for = "decision"
        else:
            self.feed(Claimed(step))

    @precondition(lambda self: self.waiting("start"))
    @rule(data=st.data())
    def started(self, data: st.DataObject) -> None:
        """Begin an attempt."""
        step = data.draw(st.sampled_from(self.waiting("start")))
        self.steps[step].waits_for = "end"
        self.feed(Started(step))

    @precondition(lambda self: self.waiting("start", "end"))
    @rule(data=st.data())
    def committed(self, data: st.DataObject) -> None:
        """Let an attempt succeed."""
        self.feed(Committed(data.draw(st.sampled_from(self.waiting("start", "end")))))

    @precondition(lambda self: self.waiting("start", "end"))
    @rule(data=st.data(), status=st.sampled_from([Status.FAILED, Status.LOST, Status.CANCELLED]), final=st.booleans())
    def ended(self, data: st.DataObject, status: Status, *, final: bool) -> None:
        """Let an attempt come to nothing."""
        step = data.draw(st.sampled_from(self.waiting("start", "end")))
        world = self.steps[step]
        world.lost += status is Status.LOST
        world.failures += status is Status.FAILED
        before = world.attempts
        self.feed(Ended(step, status, BROKEN, final))
        if world.attempts > before:
            assert not final
            assert world.lost <= LOST_TRIES
            assert world.failures <= self.retries[step]
        self.failed = self.failed or world.record is Status.FAILED

    @precondition(lambda self: self.needs and not self.cancelled)
    @rule()
    def cancel(self) -> None:
        """Somebody asks the run to stop."""
        running = set(self.waiting("start", "end"))
        self.cancelled = True
        self.feed(CancelAsked())
        assert set(self.waiting("start", "end", "claim", "decision")) == running

    @precondition(lambda self: self.needs and self.finish is None)
    @rule(data=st.data())
    def cancel_step(self, data: st.DataObject) -> None:
        """Somebody asks one step to stop; it is not tried again, and ends as cancelled unless it succeeds."""
        step = data.draw(st.sampled_from([name for name, world in self.steps.items() if world.record is None]))
        runs = step in self.waiting("start", "end")
        self.feed(StepCancelAsked(step))
        assert (self.steps[step].record is None) == runs
        if not runs:
            assert self.steps[step].record is Status.CANCELLED

    @precondition(lambda self: self.needs)
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """Tell of a step that has ended, which changes nothing."""
        ended = [name for name, world in self.steps.items() if world.record is not None]
        if ended:
            assert self.run.handle(Committed(data.draw(st.sampled_from(ended)))) == []

    @invariant()
    def open_questions_or_the_end(self) -> None:
        """See that a run that is not over waits for something: it cannot hang."""
        if self.needs:
            self.run.validate()
            assert bool(self.waiting("decision", "claim", "start", "end")) == (self.finish is None)

    @invariant()
    def statuses_follow_the_rules(self) -> None:
        """See that what needs a step without success does not run, and that what is skipped says why."""
        for name, world in self.steps.items():
            assert world.record is self.run.status(name)
            if world.attempts:
                assert all(self.done(need) for need in self.needs[name])
            if world.record is Status.SKIPPED:
                assert world.reasons

    @invariant()
    def the_end_is_true(self) -> None:
        """See that the run's status follows from its steps'."""
        if self.finish is None:
            return
        records = {world.record for world in self.steps.values()}
        assert None not in records
        if self.finish is Status.SUCCEEDED:
            assert records <= {Status.SUCCEEDED, Status.REUSED, Status.SKIPPED}
        if self.finish is Status.CANCELLED:
            assert Status.CANCELLED in records
        else:
            assert (self.finish in (Status.FAILED, Status.PARTIAL)) == (Status.FAILED in records)
            assert (self.finish is Status.PARTIAL) <= self.keep_going


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
