"""One live claim per key, and each later claim's token is higher: checked against a model of three lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_history import begin, everyone, nobody

from nbpipe.history.claims import Claim, ClaimedByOther
from nbpipe.history.store import History

KEYS = st.sampled_from(["k", "l"])
OWNERS = st.sampled_from(["a", "b", "c"])


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / "history.db") as opened:
        yield opened


def test_a_live_claim_keeps_everybody_out_its_owner_too(history):
    begin(history, "x", owner="a")
    claim = history.claims.claim("k", owner="a", now=0.0, lease=30.0, alive=everyone)

    assert claim == Claim("k", "a", claim.token)
    assert history.claims.claim("k", owner="b", now=29.0, lease=30.0, alive=everyone) == ClaimedByOther("a", "x")
    assert history.claims.claim("k", owner="a", now=29.0, lease=30.0, alive=everyone) == ClaimedByOther("a", "x")
    assert isinstance(history.claims.claim("l", owner="b", now=29.0, lease=30.0, alive=everyone), Claim)


def test_who_holds_without_a_run_is_named_all_the_same(history):
    history.claims.claim("k", owner="a", now=0.0, lease=30.0, alive=everyone)

    assert history.claims.claim("k", owner="b", now=1.0, lease=30.0, alive=everyone) == ClaimedByOther("a", None)


def test_the_dead_are_succeeded_at_once(history):
    first = history.claims.claim("k", owner="a", now=0.0, lease=1e9, alive=everyone)
    asked: list[str] = []
    second = history.claims.claim("k", owner="b", now=1.0, lease=30.0, alive=lambda owner: bool(asked.append(owner)))

    assert asked == ["a"]
    assert isinstance(second, Claim)
    assert second.token > first.token


def test_whoever_comes_between_the_question_and_the_answer_is_asked_about_as_well(history):
    """The answer "dead" holds for the claim that was seen, not for the one that is there by then."""
    history.claims.claim("k", owner="dead", now=0.0, lease=1e9, alive=everyone)

    def alive(owner: str) -> bool:
        if owner == "dead":
            assert isinstance(history.claims.claim("k", owner="quick", now=1.0, lease=30.0, alive=nobody), Claim)
        return owner == "quick"

    assert history.claims.claim("k", owner="slow", now=1.0, lease=30.0, alive=alive) == ClaimedByOther("quick", None)


def test_an_expired_claim_is_anybodys_and_nobody_is_asked(history):
    history.claims.claim("k", owner="a", now=0.0, lease=30.0, alive=everyone)

    assert isinstance(history.claims.claim("k", owner="a", now=30.0, lease=30.0, alive=everyone), Claim)


class ClaimsModel(RuleBasedStateMachine):
    """Any order of claims, renewals, releases, deaths and passing time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.history = History.open(Path(self.folder.name) / "history.db")
        self.now = 0.0
        self.dead: set[str] = set()
        self.held: dict[str, tuple[Claim, float]] = {}
        self.given: list[Claim] = []

    @rule(key=KEYS, owner=OWNERS)
    def claim(self, key: str, owner: str) -> None:
        present = self.held.get(key)
        free = (
            present is None or present[1] <= self.now or (present[0].owner != owner and present[0].owner in self.dead)
        )

        got = self.history.claims.claim(
            key, owner=owner, now=self.now, lease=10.0, alive=lambda other: other not in self.dead
        )

        if not free:
            assert got == ClaimedByOther(present[0].owner)
            return
        assert isinstance(got, Claim)
        assert all(got.token > earlier.token for earlier in self.given)
        self.held[key] = (got, self.now + 10.0)
        self.given.append(got)

    @rule(owner=OWNERS)
    def renew(self, owner: str) -> None:
        mine = {key: claim for key, (claim, _) in self.held.items() if claim.owner == owner}

        assert self.history.claims.renew(owner, now=self.now, lease=10.0) == set(mine)

        self.held.update({key: (claim, self.now + 10.0) for key, claim in mine.items()})

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Releasing a claim that was taken over changes nothing."""
        claim = data.draw(st.sampled_from(self.given))
        self.history.claims.release(claim)
        if self.held.get(claim.key, (None,))[0] == claim:
            del self.held[claim.key]

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(owner=OWNERS)
    def die_or_come_back(self, owner: str) -> None:
        self.dead ^= {owner}

    @invariant()
    def the_database_holds_what_the_model_holds(self) -> None:
        with self.history.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT key, owner, token, expires FROM claims").all()
        assert {Claim(*row[:3]): row[3] for row in rows} == dict(self.held.values())

    def teardown(self) -> None:
        self.history.close()
        self.folder.cleanup()


TestClaimsModel = ClaimsModel.TestCase
TestClaimsModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
