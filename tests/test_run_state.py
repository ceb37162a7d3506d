"""The state machine of a run: whatever happens, in whatever order, it ends, and its statuses follow the rules."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nbpipe.model import (
    CachedResult,
    DependsVerdict,
    Failure,
    Reason,
    ResultOrigin,
    ReuseVerdict,
    RunVerdict,
    SkipVerdict,
    Status,
)
from nbpipe.planning.execution_graph import Phase
from nbpipe.planning.instructions import (
    CheckDecision,
    ClaimKey,
    DecideExecution,
    FinishRun,
    Instruction,
    NoteBlocked,
    RecordExecution,
    ReleaseClaim,
    StopAttempt,
    SubmitAttempt,
)
from nbpipe.planning.run_state import LOG_LENGTH, RunOver, RunState
from nbpipe.planning.stimuli import (
    AwaitedAttemptEnded,
    ClaimRefused,
    CommitOvertaken,
    DecisionChecked,
    ExecutionAttemptEnded,
    ExecutionCancelRequested,
    ExecutionDecided,
    ExecutionsAdded,
    ExecutionStarted,
    KeyClaimed,
    NewExecution,
    ResultCommitted,
    RunCancelRequested,
    RunHeld,
    RunReleased,
    Stimulus,
    TimePassed,
)
from nbpipe.planning.tries import LOST_TRIES

RUN = RunVerdict((Reason("code"),))
REUSE = ReuseVerdict(CachedResult("k", "a", ResultOrigin("r0", "s"), 1.0, "", ()), (Reason("unchanged", None, "r0"),))
OWN = ReuseVerdict(CachedResult("k", "a", ResultOrigin("r1", "s"), 1.0, "", ()), (Reason("unchanged", None, "r1"),))
SKIP = SkipVerdict((Reason("when", None, "false"),))
BROKEN = Failure("user", "ValueError", "no", "no")
FAILED_THERE = AwaitedAttemptEnded(Status.FAILED, BROKEN)
STOPPED = (Reason("stopped", None, "`bad` failed, so nothing new starts"),)


def new(needs: dict[str, tuple[str, ...]], **retries: int) -> tuple[NewExecution, ...]:
    """Return executions whose ids are their steps' names."""
    return tuple(NewExecution(name, name, needed, retries.get(name, 0)) for name, needed in needs.items())


def begun(
    needs: dict[str, tuple[str, ...]], *, keep_going: bool = False, attach: bool = False, **retries: int
) -> RunState:
    """Return a run that has begun."""
    run = RunState("r1", keep_going, attach)
    run.handle(ExecutionsAdded(new(needs, **retries)))
    return run


def handle(run: RunState, *stimuli: Stimulus) -> list[Instruction]:
    """Return all instructions for some stimuli; the invariants hold after each."""
    out: list[Instruction] = []
    for stimulus in stimuli:
        out += run.handle(stimulus)
        run.validate()
    return out


def start(run: RunState, *executions: str) -> list[Instruction]:
    """Bring executions from their decision to their running attempt."""
    return [
        told
        for name in executions
        for told in handle(
            run, ExecutionDecided(name, RUN), KeyClaimed(name), DecisionChecked(name, RUN), ExecutionStarted(name)
        )
    ]


def recorded(instructions: list[Instruction]) -> dict[str, Status]:
    """Return what is written down."""
    return {each.execution: each.status for each in instructions if isinstance(each, RecordExecution)}


def finished(instructions: list[Instruction]) -> Status | None:
    """Return how the run ended, if it did."""
    found = [each.status for each in instructions if isinstance(each, FinishRun)]
    assert len(found) <= 1
    return found[0] if found else None


class TestOneExecution:
    """From the decision to the record."""

    def test_executions_without_needs_are_decided_first(self):
        run = RunState("r1")

        assert run.handle(ExecutionsAdded(new({"a": (), "b": ("a",), "c": ()}))) == [
            DecideExecution("a"),
            DecideExecution("c"),
        ]

    def test_an_execution_goes_from_decision_to_claim_to_attempt_to_record(self):
        run = begun({"a": (), "b": ("a",)})

        assert handle(run, ExecutionDecided("a", RUN)) == [ClaimKey("a")]
        assert handle(run, KeyClaimed("a")) == [CheckDecision("a")]
        assert handle(run, DecisionChecked("a", RUN)) == [SubmitAttempt("a", 1)]
        assert handle(run, ExecutionStarted("a")) == []
        assert handle(run, ResultCommitted("a")) == [RecordExecution("a", Status.SUCCEEDED, ()), DecideExecution("b")]
        assert handle(run, ExecutionDecided("b", REUSE)) == [
            RecordExecution("b", Status.REUSED, REUSE.reasons),
            FinishRun(Status.SUCCEEDED),
        ]

    def test_its_phase_tells_how_far_it_is(self):
        run = begun({"z": (), "a": ("z",)})
        phases = [run.phase("a")]
        for stimulus in (
            ExecutionDecided("z", REUSE),
            ExecutionDecided("a", RUN),
            ClaimRefused("a", None),
            TimePassed(),
            ExecutionDecided("a", RUN),
            KeyClaimed("a"),
            DecisionChecked("a", RUN),
            ExecutionStarted("a"),
            ResultCommitted("a"),
        ):
            handle(run, stimulus)
            phases.append(run.phase("a"))

        assert phases == [
            Phase.WAITING,
            Phase.DECIDING,
            Phase.CLAIMING,
            Phase.BLOCKED,
            Phase.DECIDING,
            Phase.CLAIMING,
            Phase.CHECKING,
            Phase.SUBMITTED,
            Phase.RUNNING,
            Phase.ENDED,
        ]

    def test_a_run_of_no_executions_is_over_at_once(self):
        assert RunState("r1").handle(ExecutionsAdded(())) == [FinishRun(Status.SUCCEEDED)]

    def test_an_execution_waits_for_all_that_it_needs(self):
        run = begun({"a": (), "b": (), "c": ("a", "b")})

        assert DecideExecution("c") not in handle(run, ExecutionDecided("a", REUSE))
        assert DecideExecution("c") in handle(run, ExecutionDecided("b", REUSE))

    def test_a_need_that_is_named_twice_counts_once(self):
        run = begun({"a": (), "b": ("a", "a")})

        assert DecideExecution("b") in handle(run, ExecutionDecided("a", REUSE))

    def test_a_false_condition_skips_what_needs_the_execution_and_the_run_succeeds(self):
        run = begun({"a": (), "b": ("a",), "c": ()})
        out = handle(run, ExecutionDecided("a", SKIP), ExecutionDecided("c", REUSE))

        assert recorded(out) == {"a": Status.SKIPPED, "b": Status.SKIPPED, "c": Status.REUSED}
        assert finished(out) is Status.SUCCEEDED

    def test_a_result_of_this_very_run_is_no_reuse(self):
        """What was made a moment ago, by another execution of the run, was not there before it."""
        run = begun({"a": (), "b": ()})

        assert handle(run, ExecutionDecided("a", OWN)) == [RecordExecution("a", Status.SUCCEEDED, OWN.reasons)]
        out = handle(run, ExecutionDecided("b", RUN), KeyClaimed("b"), DecisionChecked("b", OWN))
        assert RecordExecution("b", Status.SUCCEEDED, OWN.reasons) in out

    @pytest.mark.parametrize(
        "late",
        [
            ResultCommitted("a"),
            ExecutionAttemptEnded("a", Status.FAILED, BROKEN),
            ExecutionStarted("a"),
            ExecutionDecided("a", RUN),
            DecisionChecked("a", RUN),
            ClaimRefused("a", "r2"),
            CommitOvertaken("a"),
            ExecutionCancelRequested("a"),
            TimePassed(),
        ],
    )
    def test_what_has_ended_stays_as_it_ended(self, late):
        run = begun({"a": (), "b": ()})
        handle(run, ExecutionDecided("a", REUSE))

        assert handle(run, late) == []
        assert run.status("a") is Status.REUSED

    def test_a_claim_that_comes_too_late_is_given_back(self):
        run = begun({"a": ()})
        handle(run, ExecutionDecided("a", RUN))
        assert handle(run, RunCancelRequested()) == [
            RecordExecution("a", Status.CANCELLED, ()),
            FinishRun(Status.CANCELLED),
        ]

        assert handle(run, KeyClaimed("a")) == [ReleaseClaim("a")]


class TestFailures:
    """What a failure stops, and what is tried again."""

    def test_a_failure_starts_nothing_new_lets_finish_what_runs_and_fails_the_run(self):
        run = begun({"bad": (), "good": (), "behind": ("bad",), "other": ("good",), "idle": ()})
        start(run, "bad", "good")
        out = handle(run, ExecutionAttemptEnded("bad", Status.FAILED, BROKEN))

        assert recorded(out) == {"bad": Status.FAILED, "behind": Status.SKIPPED, "other": Status.SKIPPED}
        assert handle(run, ExecutionDecided("idle", RUN)) == [RecordExecution("idle", Status.SKIPPED, STOPPED)]
        assert handle(run, ResultCommitted("good")) == [
            RecordExecution("good", Status.SUCCEEDED, ()),
            FinishRun(Status.FAILED),
        ]

    def test_after_a_failure_a_result_that_is_there_is_still_taken(self):
        run = begun({"bad": (), "idle": (), "claiming": ()})
        start(run, "bad")
        handle(run, ExecutionDecided("claiming", RUN), ExecutionAttemptEnded("bad", Status.FAILED, BROKEN))

        assert recorded(handle(run, ExecutionDecided("idle", REUSE))) == {"idle": Status.REUSED}
        assert handle(run, KeyClaimed("claiming"), DecisionChecked("claiming", REUSE)) == [
            CheckDecision("claiming"),
            ReleaseClaim("claiming"),
            RecordExecution("claiming", Status.REUSED, REUSE.reasons),
            FinishRun(Status.FAILED),
        ]

    def test_after_a_failure_what_holds_its_claim_gives_it_back_and_does_not_start(self):
        run = begun({"bad": (), "checking": ()})
        start(run, "bad")
        handle(
            run,
            ExecutionDecided("checking", RUN),
            KeyClaimed("checking"),
            ExecutionAttemptEnded("bad", Status.FAILED, BROKEN),
        )

        assert handle(run, DecisionChecked("checking", RUN)) == [
            ReleaseClaim("checking"),
            RecordExecution("checking", Status.SKIPPED, STOPPED),
            FinishRun(Status.FAILED),
        ]

    def test_after_a_failure_what_another_run_made_meanwhile_is_taken_and_nothing_else(self):
        run = begun({"bad": (), "one": (), "two": ()})
        start(run, "bad")
        handle(
            run,
            ExecutionDecided("one", RUN),
            ClaimRefused("one", "r2"),
            ExecutionDecided("two", RUN),
            ClaimRefused("two", "r2"),
        )
        handle(run, ExecutionAttemptEnded("bad", Status.FAILED, BROKEN), TimePassed())
        out = handle(run, ExecutionDecided("one", REUSE), ExecutionDecided("two", RUN))

        assert recorded(out) == {"one": Status.REUSED, "two": Status.SKIPPED}
        assert finished(out) is Status.FAILED

    def test_keep_going_runs_all_that_does_not_depend_on_the_failure_and_ends_partial(self):
        run = begun({"bad": (), "good": (), "behind": ("bad",), "other": ("good",)}, keep_going=True)
        start(run, "bad", "good")

        assert recorded(handle(run, ExecutionAttemptEnded("bad", Status.FAILED, BROKEN))) == {
            "bad": Status.FAILED,
            "behind": Status.SKIPPED,
        }
        assert DecideExecution("other") in handle(run, ResultCommitted("good"))
        assert finished(handle(run, ExecutionDecided("other", REUSE))) is Status.PARTIAL

    def test_a_skipped_execution_says_which_step_it_waited_for(self):
        run = RunState("r1")
        run.handle(
            ExecutionsAdded((NewExecution("1", "a"), NewExecution("2", "b", ("1",)), NewExecution("3", "c", ("2",))))
        )
        start(run, "1")
        out = handle(run, ExecutionAttemptEnded("1", Status.FAILED, BROKEN))

        assert RecordExecution("2", Status.SKIPPED, (Reason("upstream:a", None, "failed"),)) in out
        assert RecordExecution("3", Status.SKIPPED, (Reason("upstream:b", None, "skipped"),)) in out

    def test_an_execution_is_tried_again_as_often_as_it_says_and_keeps_its_claim(self):
        run = begun({"a": ()}, a=2)
        start(run, "a")

        assert handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN)) == [SubmitAttempt("a", 2)]
        assert handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN)) == [SubmitAttempt("a", 3)]
        assert handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN)) == [
            ReleaseClaim("a"),
            RecordExecution("a", Status.FAILED, ()),
            FinishRun(Status.FAILED),
        ]

    def test_a_lost_attempt_gets_two_more_which_are_not_counted(self):
        run = begun({"a": ()}, a=1)
        start(run, "a")
        lost = ExecutionAttemptEnded("a", Status.LOST, BROKEN)

        assert handle(run, lost) == [SubmitAttempt("a", 2)]
        assert handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN)) == [SubmitAttempt("a", 3)]
        assert handle(run, lost) == [SubmitAttempt("a", 4)]
        assert recorded(handle(run, lost)) == {"a": Status.FAILED}

    def test_what_cannot_be_helped_is_not_tried_again(self):
        run = begun({"a": ()}, a=5)
        start(run, "a")

        assert recorded(handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN, final=True))) == {
            "a": Status.FAILED
        }

    @pytest.mark.parametrize(
        "before", [(), (ExecutionDecided("a", RUN), KeyClaimed("a"))], ids=["deciding", "checking"]
    )
    def test_a_result_that_cannot_be_delivered_fails_without_an_attempt(self, before):
        run = begun({"a": ()}, a=5)
        handle(run, *before)
        out = handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN))

        assert recorded(out) == {"a": Status.FAILED}
        assert (ReleaseClaim("a") in out) == bool(before)

    def test_nothing_is_tried_again_once_the_run_stops(self):
        """A retry would be something new."""
        run = begun({"a": (), "b": ()}, b=3)
        start(run, "a", "b")
        handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN))

        assert recorded(handle(run, ExecutionAttemptEnded("b", Status.FAILED, BROKEN))) == {"b": Status.FAILED}


class TestCancellation:
    """Of the run and of one execution."""

    def test_cancel_stops_what_runs_and_waits_for_its_end(self):
        """The status says cancelled only when the processes are gone."""
        run = begun({"a": (), "b": ("a",), "c": ()})
        start(run, "a")
        out = handle(run, RunCancelRequested())

        assert StopAttempt("a") in out
        assert recorded(out) == {"b": Status.CANCELLED, "c": Status.CANCELLED}
        out = handle(run, ExecutionAttemptEnded("a", Status.CANCELLED, BROKEN))
        assert recorded(out) == {"a": Status.CANCELLED}
        assert finished(out) is Status.CANCELLED

    def test_one_execution_is_cancelled_with_what_needs_it_and_the_others_go_on(self):
        run = begun({"a": (), "b": ("a",), "c": (), "d": ("c",)}, a=3)
        start(run, "a", "c")

        assert handle(run, ExecutionCancelRequested("a")) == [StopAttempt("a")]
        out = handle(run, ExecutionAttemptEnded("a", Status.LOST, BROKEN))
        assert recorded(out) == {"a": Status.CANCELLED, "b": Status.SKIPPED}
        assert DecideExecution("d") in handle(run, ResultCommitted("c"))
        out = handle(run, ExecutionCancelRequested("d"))
        assert recorded(out) == {"d": Status.CANCELLED}
        assert finished(out) is Status.CANCELLED

    def test_what_succeeds_while_it_is_being_stopped_is_kept(self):
        run = begun({"a": ()})
        start(run, "a")
        handle(run, RunCancelRequested())
        out = handle(run, ResultCommitted("a"))

        assert recorded(out) == {"a": Status.SUCCEEDED}
        assert finished(out) is Status.SUCCEEDED

    def test_a_cancelled_run_tries_nothing_again(self):
        run = begun({"a": ()}, a=3)
        start(run, "a")
        handle(run, RunCancelRequested())

        assert recorded(handle(run, ExecutionAttemptEnded("a", Status.LOST, BROKEN))) == {"a": Status.CANCELLED}

    def test_an_attempt_is_stopped_once(self):
        run = begun({"a": ()})
        start(run, "a")

        assert handle(run, ExecutionCancelRequested("a"), RunCancelRequested(), RunCancelRequested()) == [
            StopAttempt("a")
        ]

    def test_a_cancelled_attempt_that_was_overtaken_does_not_begin_anew(self):
        run = begun({"a": ()})
        start(run, "a")
        handle(run, RunCancelRequested())

        assert handle(run, CommitOvertaken("a")) == [
            ReleaseClaim("a"),
            RecordExecution("a", Status.CANCELLED, ()),
            FinishRun(Status.CANCELLED),
        ]

    def test_what_checks_gives_its_claim_back(self):
        run = begun({"a": ()})
        handle(run, ExecutionDecided("a", RUN), KeyClaimed("a"))

        assert handle(run, RunCancelRequested())[:2] == [ReleaseClaim("a"), RecordExecution("a", Status.CANCELLED, ())]


class TestOtherRuns:
    """Waiting for another run's claim, its ending, and being taken over."""

    def test_a_refused_claim_is_noted_once_and_decided_again_with_time(self):
        run = begun({"a": ()})

        assert handle(run, ExecutionDecided("a", RUN), ClaimRefused("a", "r2")) == [
            ClaimKey("a"),
            NoteBlocked("a", "another run is computing this result"),
        ]
        assert handle(run, TimePassed(), TimePassed()) == [DecideExecution("a")]
        assert handle(run, ExecutionDecided("a", RUN), ClaimRefused("a", "r3"), TimePassed()) == [
            ClaimKey("a"),
            DecideExecution("a"),
        ]
        assert run.awaited("a") == {"r2", "r3"}
        assert handle(run, ExecutionDecided("a", REUSE)) == [
            RecordExecution("a", Status.REUSED, REUSE.reasons),
            FinishRun(Status.SUCCEEDED),
        ]

    def test_who_holds_the_key_need_not_be_known(self):
        run = begun({"a": ()})
        handle(run, ExecutionDecided("a", RUN))

        assert handle(run, ClaimRefused("a", None)) == [NoteBlocked("a", "another run is computing this result")]
        assert run.awaited("a") == frozenset()

    def test_another_execution_of_this_run_is_waited_for_and_its_ending_is_not_taken(self):
        """The cell that runs again while its older execution is being stopped must not end as cancelled, too."""
        run = begun({"a": ()}, attach=True)
        handle(run, ExecutionDecided("a", RUN))

        note = NoteBlocked("a", "another step of this run is computing this result")
        assert handle(run, ClaimRefused("a", "r1")) == [note]
        assert run.awaited("a") == frozenset()
        assert handle(run, TimePassed()) == [DecideExecution("a")]

    def test_what_came_meanwhile_is_taken_and_the_claim_given_back(self):
        run = begun({"a": ()})
        handle(run, ExecutionDecided("a", RUN), KeyClaimed("a"))

        assert handle(run, DecisionChecked("a", REUSE, FAILED_THERE)) == [
            ReleaseClaim("a"),
            RecordExecution("a", Status.REUSED, REUSE.reasons),
            FinishRun(Status.SUCCEEDED),
        ]

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_an_attached_execution_ends_as_it_did_elsewhere(self, status):
        run = begun({"a": (), "b": ("a",)}, attach=True, a=3)
        handle(run, ExecutionDecided("a", RUN), KeyClaimed("a"))
        out = handle(run, DecisionChecked("a", RUN, AwaitedAttemptEnded(status, BROKEN)))

        assert out[:2] == [ReleaseClaim("a"), RecordExecution("a", status, ())]
        assert recorded(out) == {"a": status, "b": Status.SKIPPED}
        assert finished(out) is status

    def test_what_was_lost_elsewhere_is_tried_here(self):
        run = begun({"a": ()}, attach=True)
        handle(run, ExecutionDecided("a", RUN), KeyClaimed("a"))

        assert handle(run, DecisionChecked("a", RUN, AwaitedAttemptEnded(Status.LOST, BROKEN))) == [
            SubmitAttempt("a", 1)
        ]

    def test_whoever_is_not_attached_tries_what_failed_elsewhere(self):
        run = begun({"a": ()})
        handle(run, ExecutionDecided("a", RUN), KeyClaimed("a"))

        assert handle(run, DecisionChecked("a", RUN, FAILED_THERE)) == [SubmitAttempt("a", 1)]

    def test_an_overtaken_attempt_waits_for_the_other_run(self):
        run = begun({"a": ()})
        start(run, "a")

        assert handle(run, CommitOvertaken("a")) == [ReleaseClaim("a")]
        assert run.phase("a") is Phase.BLOCKED
        assert handle(run, TimePassed()) == [DecideExecution("a")]
        assert recorded(handle(run, ExecutionDecided("a", REUSE))) == {"a": Status.REUSED}

    def test_an_execution_that_is_overtaken_again_and_again_fails(self):
        run = begun({"a": ()}, a=9)
        for number in range(1, LOST_TRIES + 1):
            assert start(run, "a")[-1] == SubmitAttempt("a", number)
            assert handle(run, CommitOvertaken("a"), TimePassed()) == [ReleaseClaim("a"), DecideExecution("a")]
        start(run, "a")

        assert handle(run, CommitOvertaken("a")) == [
            ReleaseClaim("a"),
            RecordExecution("a", Status.FAILED, ()),
            FinishRun(Status.FAILED),
        ]

    def test_an_overtaken_attempt_costs_no_retry(self):
        run = begun({"a": ()}, a=1)
        start(run, "a")
        handle(run, CommitOvertaken("a"), TimePassed())
        start(run, "a")

        assert handle(run, ExecutionAttemptEnded("a", Status.FAILED, BROKEN)) == [SubmitAttempt("a", 3)]


class TestGrowth:
    """A run that grows while it goes on."""

    def test_an_execution_whose_needs_have_succeeded_is_decided_at_once(self):
        run = begun({"a": (), "z": ()})
        handle(run, ExecutionDecided("a", REUSE))

        assert handle(run, ExecutionsAdded(new({"c": ("b",), "b": ("a",), "d": ("a", "z")}))) == [DecideExecution("b")]
        assert handle(run, ExecutionDecided("b", REUSE), ExecutionDecided("z", REUSE))[1::2] == [
            DecideExecution("c"),
            DecideExecution("d"),
        ]

    def test_what_is_added_after_a_failure_starts_and_what_was_there_does_not(self):
        run = begun({"bad": (), "old": ()})
        start(run, "bad")
        handle(run, ExecutionAttemptEnded("bad", Status.FAILED, BROKEN))
        out = handle(
            run,
            ExecutionsAdded(new({"new": ()})),
            ExecutionDecided("new", RUN),
            KeyClaimed("new"),
            DecisionChecked("new", RUN),
        )

        assert SubmitAttempt("new", 1) in out
        assert handle(run, ExecutionDecided("old", RUN)) == [RecordExecution("old", Status.SKIPPED, STOPPED)]
        assert finished(handle(run, ResultCommitted("new"))) is Status.FAILED

    def test_each_failure_stops_what_is_there_by_then(self):
        run = begun({"bad": (), "old": ()})
        start(run, "bad")
        handle(
            run,
            ExecutionAttemptEnded("bad", Status.FAILED, BROKEN),
            ExecutionsAdded(new({"worse": (), "late": (), "last": ("late",)})),
        )
        start(run, "worse")
        out = handle(run, ExecutionAttemptEnded("worse", Status.FAILED, BROKEN))

        because = (Reason("stopped", None, "`worse` failed, so nothing new starts"),)
        assert RecordExecution("last", Status.SKIPPED, because) in out
        assert handle(run, ExecutionDecided("late", RUN)) == [RecordExecution("late", Status.SKIPPED, because)]
        assert handle(run, ExecutionDecided("old", RUN))[0] == RecordExecution("old", Status.SKIPPED, STOPPED)

    @pytest.mark.parametrize(
        "ending, status",
        [
            (ExecutionDecided("a", SKIP), "skipped"),
            (ExecutionCancelRequested("a"), "cancelled"),
            (ExecutionAttemptEnded("a", Status.FAILED, BROKEN), "failed"),
        ],
        ids=["skipped", "cancelled", "failed"],
    )
    def test_what_needs_an_execution_that_has_ended_badly_is_skipped(self, ending, status):
        run = begun({"a": (), "z": ()})
        handle(run, ending)

        assert handle(run, ExecutionsAdded(new({"c": ("b",), "b": ("z", "a")}))) == [
            RecordExecution("b", Status.SKIPPED, (Reason("upstream:a", None, status),)),
            RecordExecution("c", Status.SKIPPED, (Reason("upstream:b", None, "skipped"),)),
        ]

    def test_what_is_added_after_a_cancellation_is_cancelled_at_once(self):
        run = begun({"a": ()})
        start(run, "a")
        handle(run, RunCancelRequested())

        assert handle(run, ExecutionsAdded(new({"b": (), "c": ("b",), "d": ("a",)}))) == [
            RecordExecution(name, Status.CANCELLED, ()) for name in "bcd"
        ]

    def test_a_held_run_does_not_finish_before_it_is_released(self):
        run = begun({"a": ()})

        assert handle(run, RunHeld(), ExecutionDecided("a", REUSE)) == [
            RecordExecution("a", Status.REUSED, REUSE.reasons)
        ]
        assert handle(run, ExecutionsAdded(new({"b": ("a",)}))) == [DecideExecution("b")]
        assert handle(run, RunReleased()) == []
        assert finished(handle(run, ExecutionDecided("b", REUSE))) is Status.SUCCEEDED

    def test_a_run_that_is_held_and_released_without_executions_succeeds(self):
        run = RunState("r1")

        assert handle(run, TimePassed(), RunHeld(), TimePassed()) == []
        assert handle(run, RunReleased()) == [FinishRun(Status.SUCCEEDED)]

    @pytest.mark.parametrize("added", [ExecutionsAdded(()), ExecutionsAdded(new({"b": ()}))], ids=["none", "one"])
    def test_nothing_joins_a_run_that_is_over(self, added):
        run = begun({"a": ()})
        handle(run, ExecutionDecided("a", REUSE))

        with pytest.raises(RunOver, match="`r1`"):
            run.handle(added)
        assert handle(run, RunHeld(), RunReleased(), TimePassed(), RunCancelRequested()) == []

    @pytest.mark.parametrize(
        "added, said",
        [
            (ExecutionsAdded(new({"b": ("nobody",)})), "no execution `nobody`"),
            (ExecutionsAdded(new({"b": ()}), ("nobody",)), "no execution `nobody`"),
            (ExecutionsAdded(new({"b": ()}), ("b",)), "no execution `b`"),
            (ExecutionsAdded(new({"a": ()})), "`a` already"),
            (ExecutionsAdded((*new({"b": ()}), *new({"b": ()}))), "`b` already"),
            (ExecutionsAdded(new({"b": ("b",)})), "b → b"),
            (ExecutionsAdded(new({"b": ("c",), "c": ("d",), "d": ("b",)}), ("a",)), "need each other"),
            (ResultCommitted("nobody"), "no execution `nobody`"),
            (ResultCommitted("a"), "`a` is deciding"),
            (KeyClaimed("a"), "`a` is deciding"),
            (ExecutionsAdded((NewExecution("b", "b", replaces="x"),)), "no execution `x`"),
            (ExecutionDecided("a", DependsVerdict(())), "no verdict"),
        ],
    )
    def test_what_cannot_be_is_refused_and_changes_nothing(self, added, said):
        run = begun({"a": ()})

        with pytest.raises(ValueError, match=said):
            run.handle(added)
        run.validate()
        assert len(run.log) == 1
        assert handle(run, ExecutionDecided("a", REUSE)) == [
            RecordExecution("a", Status.REUSED, REUSE.reasons),
            FinishRun(Status.SUCCEEDED),
        ]

    @pytest.mark.parametrize("ask", [RunState.status, RunState.phase, RunState.awaited])
    def test_nothing_is_known_of_an_execution_of_another_run(self, ask):
        with pytest.raises(ValueError, match="no execution `x`"):
            ask(RunState("r1"), "x")


class TestSuperseded:
    """Executions that newer ones replace."""

    def test_one_that_has_not_started_is_cancelled_with_what_needs_it(self):
        run = begun({"old": (), "behind": ("old",)})

        assert handle(run, ExecutionsAdded(new({"new": ()}), ("old",))) == [
            RecordExecution("old", Status.CANCELLED, ()),
            RecordExecution("behind", Status.SKIPPED, (Reason("upstream:old", None, "cancelled"),)),
            DecideExecution("new"),
        ]
        assert finished(handle(run, ExecutionDecided("new", REUSE))) is Status.SUCCEEDED

    def test_one_that_runs_is_stopped(self):
        run = begun({"old": ()}, old=3)
        start(run, "old")

        assert handle(run, ExecutionsAdded(new({"new": ()}), ("old",))) == [StopAttempt("old"), DecideExecution("new")]
        assert handle(run, ExecutionAttemptEnded("old", Status.FAILED, BROKEN)) == [
            ReleaseClaim("old"),
            RecordExecution("old", Status.CANCELLED, ()),
        ]
        assert finished(handle(run, ExecutionDecided("new", REUSE))) is Status.SUCCEEDED

    def test_one_that_has_failed_fails_the_run_no_more(self):
        run = begun({"bad": (), "z": ()})
        start(run, "bad")
        handle(run, ExecutionAttemptEnded("bad", Status.FAILED, BROKEN), ExecutionsAdded(new({"new": ()}), ("bad",)))

        assert finished(handle(run, ExecutionDecided("z", REUSE), ExecutionDecided("new", REUSE))) is Status.SUCCEEDED
        assert run.status("bad") is Status.FAILED

    def test_the_new_one_starts_when_the_attempt_of_the_old_one_has_ended(self):
        """Both write the same files. A version in between, which never started, does not matter."""
        run = begun({"old": ()})
        start(run, "old")
        handle(run, ExecutionsAdded((NewExecution("between", "s", replaces="old"),), ("old",)))
        handle(run, ExecutionsAdded((NewExecution("new", "s", replaces="between"),), ("between",)))
        note = NoteBlocked("new", "an older version of this step is being stopped")

        assert handle(run, ExecutionDecided("new", RUN)) == [note]
        assert handle(run, TimePassed(), ExecutionDecided("new", RUN)) == [DecideExecution("new")]
        handle(run, ExecutionAttemptEnded("old", Status.CANCELLED, BROKEN), TimePassed())
        assert handle(run, ExecutionDecided("new", RUN)) == [ClaimKey("new")]
        other = NoteBlocked("new", "another run is computing this result")
        assert handle(run, ClaimRefused("new", "r2")) == [other]

    def test_an_older_result_is_used_at_once(self):
        run = begun({"old": ()})
        start(run, "old")
        handle(run, ExecutionsAdded((NewExecution("new", "s", replaces="old"),), ("old",)))

        assert recorded(handle(run, ExecutionDecided("new", REUSE))) == {"new": Status.REUSED}

    def test_what_needs_a_superseded_result_has_it(self):
        run = begun({"old": (), "z": ()})
        handle(run, ExecutionDecided("old", REUSE))

        assert handle(run, ExecutionsAdded(new({"new": (), "reader": ("old",)}), ("old",))) == [
            DecideExecution("new"),
            DecideExecution("reader"),
        ]


class TestSize:
    """Large runs, and runs that last."""

    def test_the_log_is_every_stimulus_in_order_without_idle_ticks(self):
        run = begun({"a": ()})
        start(run, "a")
        handle(run, TimePassed())

        assert list(run.log) == [
            ExecutionsAdded(new({"a": ()})),
            ExecutionDecided("a", RUN),
            KeyClaimed("a"),
            DecisionChecked("a", RUN),
            ExecutionStarted("a"),
        ]

    @pytest.mark.parametrize("chain", [False, True], ids=["wide", "chain"])
    @pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "at once"])
    def test_ten_thousand_executions_end_and_the_log_stays_short(self, *, chain, bulk):
        run = RunState("r1")
        executions = [NewExecution(f"{n}", "s", (f"{n - 1}",) if chain and n else ()) for n in range(10_000)]
        run.handle(RunHeld())
        for added in [tuple(executions)] if bulk else [(each,) for each in executions]:
            run.handle(ExecutionsAdded(added))
        for each in executions:
            for stimulus in (
                ExecutionDecided(each.id, RUN),
                KeyClaimed(each.id),
                DecisionChecked(each.id, RUN),
                ResultCommitted(each.id),
            ):
                run.handle(stimulus)

        assert finished(handle(run, RunReleased())) is Status.SUCCEEDED
        assert len(run.log) == LOG_LENGTH

    def test_the_failure_of_a_long_chain_skips_all_of_it(self):
        run = RunState("r1", keep_going=True)
        run.handle(ExecutionsAdded(tuple(NewExecution(f"{n}", "s", (f"{n - 1}",) if n else ()) for n in range(10_000))))
        out = handle(run, ExecutionDecided("0", SKIP))

        assert len(recorded(out)) == 10_000
        assert finished(out) is Status.SUCCEEDED


@dataclasses.dataclass
class World:
    """What a driver knows of one execution: its open question, its claim, its attempts, its record."""

    needs: tuple[str, ...]
    retries: int
    waits_for: str = ""
    claimed: bool = False
    attempts: int = 0
    failures: int = 0
    lost: int = 0
    overtaken: int = 0
    notes: int = 0
    barred: bool = False
    unwanted: bool = False
    superseded: bool = False
    stopped: bool = False
    record: Status | None = None
    reasons: tuple[Reason, ...] = ()


SOME_STEPS = st.lists(st.tuples(st.lists(st.integers(0, 20), max_size=3), st.integers(0, 2)), min_size=1, max_size=4)
UNDER_WAY = ("start", "end")
ASKED = ("decision", "claim", "check", "other", *UNDER_WAY)


class Runs(RuleBasedStateMachine):
    """Random runs that grow, with random fates; each instruction is carried out by a rule, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.worlds: dict[str, World] = {}
        self.finish: Status | None = None
        self.cancelled = False
        self.held = False

    @initialize(keep_going=st.booleans(), attach=st.booleans(), steps=SOME_STEPS, data=st.data())
    def begin(self, data: st.DataObject, *, keep_going: bool, attach: bool, steps: list[tuple[list[int], int]]) -> None:
        """Begin a run with some executions."""
        self.run = RunState("r1", keep_going, attach)
        self.keep_going, self.attach = keep_going, attach
        self.add(data, steps, ())

    def add(self, data: st.DataObject, steps: list[tuple[list[int], int]], superseded: tuple[str, ...]) -> None:
        """Let executions join, in any order, that need older ones or each other."""
        names = list(self.worlds)
        added = []
        for numbers, retries in steps:
            name = f"e{len(names)}"
            needs = tuple({names[number % len(names)] for number in numbers}) if names else ()
            names.append(name)
            added.append(NewExecution(name, f"s{name}", needs, retries))
        stimulus = ExecutionsAdded(tuple(data.draw(st.permutations(added))), superseded)
        if self.finish is not None:
            with pytest.raises(RunOver):
                self.run.handle(stimulus)
            return
        for each in added:
            self.worlds[each.id] = World(each.needs, each.retries)
        for name in superseded:
            world = self.worlds[name]
            world.superseded = True
            world.unwanted = world.unwanted or world.record is None
        self.feed(stimulus)
        for each in added:
            if self.cancelled:
                assert self.worlds[each.id].record is Status.CANCELLED
        for name in superseded:
            world = self.worlds[name]
            assert world.record is not None or world.waits_for in UNDER_WAY

    def feed(self, stimulus: Stimulus) -> None:
        """Hand in a stimulus and do what is told."""
        instructions = self.run.handle(stimulus)
        self.run.validate()
        for instruction in instructions:
            self.carry_out(instruction)

    def carry_out(self, instruction: Instruction) -> None:
        """Note an instruction; it must be possible now."""
        assert self.finish is None, "nothing is told after the end"
        if isinstance(instruction, FinishRun):
            assert not self.held
            self.finish = instruction.status
            return
        world = self.worlds[instruction.execution]
        assert world.record is None, "terminal is final"
        match instruction:
            case DecideExecution():
                assert world.waits_for in ("", "other")
                assert all(self.done(need) for need in world.needs)
                world.waits_for = "decision"
            case ClaimKey():
                assert not world.barred
                world.waits_for = "claim"
            case CheckDecision():
                assert world.claimed
                world.waits_for = "check"
            case ReleaseClaim():
                assert world.claimed, "a claim is released once"
                world.claimed = False
                world.waits_for = ""
            case SubmitAttempt(_, number):
                assert world.claimed
                assert (self.cancelled, world.unwanted, world.barred) == (False, False, False)
                world.attempts += 1
                assert number == world.attempts
                world.waits_for = "start"
            case NoteBlocked():
                world.notes += 1
                assert world.notes == 1
            case StopAttempt():
                assert world.waits_for in UNDER_WAY
                assert not world.stopped
                world.stopped = True
            case RecordExecution(name, status, reasons):
                self.write_down(name, status, reasons)

    def write_down(self, name: str, status: Status, reasons: tuple[Reason, ...]) -> None:
        """Note a record; a failure bars what has not been submitted."""
        world = self.worlds[name]
        assert not world.claimed, "nothing is recorded while it holds its claim"
        world.record, world.reasons, world.waits_for = status, reasons, ""
        if status is Status.FAILED and not self.keep_going:
            for other in self.worlds.values():
                other.barred = True

    def done(self, name: str) -> bool:
        """Say whether an execution has its outputs."""
        return self.worlds[name].record in (Status.SUCCEEDED, Status.REUSED)

    def waiting(self, *kinds: str) -> list[str]:
        """Return the executions that wait for this."""
        return [name for name, world in self.worlds.items() if world.waits_for in kinds]

    def ended(self) -> list[str]:
        """Return the executions that have ended."""
        return [name for name, world in self.worlds.items() if world.record is not None]

    @precondition(lambda self: len(self.worlds) < 15)
    @rule(data=st.data(), steps=SOME_STEPS, replaced=st.lists(st.integers(0, 20), max_size=2))
    def grow(self, data: st.DataObject, steps: list[tuple[list[int], int]], replaced: list[int]) -> None:
        """Let the run grow; some of the new executions replace older ones."""
        names = list(self.worlds)
        self.add(data, steps, tuple({names[number % len(names)] for number in replaced}))

    @precondition(lambda self: self.finish is None)
    @rule(held=st.booleans())
    def hold(self, *, held: bool) -> None:
        """Keep the run open, or let it finish."""
        self.held = held
        self.feed(RunHeld() if held else RunReleased())

    @precondition(lambda self: self.waiting("decision"))
    @rule(data=st.data(), verdict=st.sampled_from([RUN, RUN, RUN, REUSE, OWN, SKIP]))
    def decide(self, data: st.DataObject, verdict: RunVerdict | ReuseVerdict | SkipVerdict) -> None:
        """Find a verdict; a result is taken whatever has failed."""
        name = data.draw(st.sampled_from(self.waiting("decision")))
        self.feed(ExecutionDecided(name, verdict))
        expected = {REUSE: Status.REUSED, OWN: Status.SUCCEEDED, SKIP: Status.SKIPPED}
        world = self.worlds[name]
        assert world.record is (Status.SKIPPED if verdict is RUN and world.barred else expected.get(verdict))

    @precondition(lambda self: self.waiting("claim"))
    @rule(data=st.data(), held_by=st.sampled_from(["nobody", "nobody", "r1", "r2", None]))
    def claim(self, data: st.DataObject, held_by: str | None) -> None:
        """Take the key, or find that somebody holds it."""
        name = data.draw(st.sampled_from(self.waiting("claim")))
        world = self.worlds[name]
        if held_by == "nobody":
            world.claimed = True
            self.feed(KeyClaimed(name))
        else:
            world.waits_for = "other"
            self.feed(ClaimRefused(name, held_by))
            assert world.notes == 1
            assert self.run.awaited(name) <= {"r2"}
            assert held_by != "r2" or self.run.awaited(name) == {"r2"}

    @precondition(lambda self: self.waiting("check"))
    @rule(
        data=st.data(),
        verdict=st.sampled_from([RUN, RUN, RUN, REUSE]),
        elsewhere=st.sampled_from([None, None, Status.FAILED, Status.CANCELLED, Status.LOST]),
    )
    def check(self, data: st.DataObject, verdict: RunVerdict | ReuseVerdict, elsewhere: Status | None) -> None:
        """Find the verdict again under the claim."""
        name = data.draw(st.sampled_from(self.waiting("check")))
        self.feed(DecisionChecked(name, verdict, AwaitedAttemptEnded(elsewhere, BROKEN) if elsewhere else None))
        world = self.worlds[name]
        if verdict is REUSE:
            assert world.record is Status.REUSED
        elif self.attach and elsewhere in (Status.FAILED, Status.CANCELLED):
            assert world.record is elsewhere
        else:
            assert world.record is (Status.SKIPPED if world.barred else None)

    @precondition(lambda self: self.waiting("decision", "check"))
    @rule(data=st.data())
    def undelivered(self, data: st.DataObject) -> None:
        """Fail to deliver a result that was found."""
        name = data.draw(st.sampled_from(self.waiting("decision", "check")))
        self.feed(ExecutionAttemptEnded(name, Status.FAILED, BROKEN, final=True))
        assert self.worlds[name].record is Status.FAILED

    @rule()
    def tick(self) -> None:
        """Let time pass: all that is blocked is decided again."""
        blocked = self.waiting("other")
        self.feed(TimePassed())
        assert set(blocked) <= set(self.waiting("decision"))

    @precondition(lambda self: self.waiting("start"))
    @rule(data=st.data())
    def started(self, data: st.DataObject) -> None:
        """Begin an attempt."""
        name = data.draw(st.sampled_from(self.waiting("start")))
        self.worlds[name].waits_for = "end"
        self.feed(ExecutionStarted(name))

    @precondition(lambda self: self.waiting(*UNDER_WAY))
    @rule(data=st.data())
    def committed(self, data: st.DataObject) -> None:
        """Let an attempt succeed; the commit frees its claim."""
        name = data.draw(st.sampled_from(self.waiting(*UNDER_WAY)))
        self.worlds[name].claimed = False
        self.feed(ResultCommitted(name))
        assert self.worlds[name].record is Status.SUCCEEDED

    @precondition(lambda self: self.waiting(*UNDER_WAY))
    @rule(data=st.data())
    def overtaken(self, data: st.DataObject) -> None:
        """Let a commit come too late."""
        name = data.draw(st.sampled_from(self.waiting(*UNDER_WAY)))
        world = self.worlds[name]
        world.overtaken += 1
        self.feed(CommitOvertaken(name))
        assert not world.claimed
        if world.record is None:
            assert self.run.phase(name) is Phase.BLOCKED
            assert world.overtaken <= LOST_TRIES
            world.waits_for = "other"
        else:
            assert world.record is (Status.CANCELLED if self.cancelled or world.unwanted else Status.FAILED)

    @precondition(lambda self: self.waiting(*UNDER_WAY))
    @rule(data=st.data(), status=st.sampled_from([Status.FAILED, Status.LOST, Status.CANCELLED]), final=st.booleans())
    def attempt_ended(self, data: st.DataObject, status: Status, *, final: bool) -> None:
        """Let an attempt come to nothing."""
        name = data.draw(st.sampled_from(self.waiting(*UNDER_WAY)))
        world = self.worlds[name]
        world.lost += status is Status.LOST
        world.failures += status is Status.FAILED
        before = world.attempts
        unwanted, barred = self.cancelled or world.unwanted, world.barred
        self.feed(ExecutionAttemptEnded(name, status, BROKEN, final))
        again = world.lost <= LOST_TRIES if status is Status.LOST else world.failures <= world.retries
        again = again and not (final or unwanted or barred or status is Status.CANCELLED)
        assert (world.attempts > before) == again
        if not again:
            assert world.record is (Status.CANCELLED if unwanted or status is Status.CANCELLED else Status.FAILED)

    @precondition(lambda self: not self.cancelled)
    @rule()
    def cancel(self) -> None:
        """Somebody asks the run to stop."""
        under_way = set(self.waiting(*UNDER_WAY))
        over = self.finish is not None
        self.cancelled = True
        self.feed(RunCancelRequested())
        assert set(self.waiting(*ASKED)) == under_way
        assert not (over and under_way)

    @precondition(lambda self: len(self.ended()) < len(self.worlds))
    @rule(data=st.data())
    def cancel_execution(self, data: st.DataObject) -> None:
        """Somebody asks one execution to stop; it is not tried again, and ends as cancelled unless it succeeds."""
        name = data.draw(st.sampled_from(sorted(self.worlds.keys() - set(self.ended()))))
        runs = name in self.waiting(*UNDER_WAY)
        self.worlds[name].unwanted = True
        self.feed(ExecutionCancelRequested(name))
        assert (self.worlds[name].record is None) == runs
        if not runs:
            assert self.worlds[name].record is Status.CANCELLED

    @precondition(lambda self: self.ended())
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """Tell of an execution that has ended, which changes nothing; a claim that it still got is given back."""
        name = data.draw(st.sampled_from(self.ended()))

        assert self.run.handle(ResultCommitted(name)) == []
        assert self.run.handle(ExecutionAttemptEnded(name, Status.LOST, BROKEN)) == []
        assert self.run.handle(KeyClaimed(name)) == [ReleaseClaim(name)]

    @precondition(lambda self: self.waiting(*ASKED))
    @rule(data=st.data())
    def impossible(self, data: st.DataObject) -> None:
        """Answer what was not asked, which is refused."""
        name = data.draw(st.sampled_from(self.waiting(*ASKED)))
        answers = {
            "decision": ExecutionDecided(name, RUN),
            "claim": KeyClaimed(name),
            "check": DecisionChecked(name, RUN),
        }
        for question, answer in answers.items():
            if question != self.worlds[name].waits_for:
                with pytest.raises(ValueError, match="cannot be"):
                    self.run.handle(answer)

    @invariant()
    def open_questions_or_the_end(self) -> None:
        """See that a run that is not over waits for something: it cannot hang."""
        if self.worlds:
            self.run.validate()
            assert (bool(self.waiting(*ASKED)) or (self.held and self.finish is None)) == (self.finish is None)

    @invariant()
    def statuses_follow_the_rules(self) -> None:
        """See that what needs an execution without success does not run, and that what is skipped says why."""
        for name, world in self.worlds.items():
            assert world.record is self.run.status(name)
            assert world.claimed == (world.waits_for in ("check", *UNDER_WAY))
            if world.attempts:
                assert all(self.done(need) for need in world.needs)
            if world.record is Status.SKIPPED:
                assert world.reasons

    @invariant()
    def the_end_is_true(self) -> None:
        """See that the run's status follows from those of the executions that nothing has replaced."""
        if self.finish is None:
            return
        assert len(self.ended()) == len(self.worlds)
        records = {world.record for world in self.worlds.values() if not world.superseded}
        if self.finish is Status.SUCCEEDED:
            assert records <= {Status.SUCCEEDED, Status.REUSED, Status.SKIPPED}
        if self.finish is Status.CANCELLED:
            assert Status.CANCELLED in records
        else:
            assert (self.finish in (Status.FAILED, Status.PARTIAL)) == (Status.FAILED in records)
            assert (self.finish is Status.PARTIAL) <= self.keep_going


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
