"""Which attempts may start on a compute target, which wait for others to end, and why they wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbpipe.model import Job
from nbpipe.model.compute import ComputeTarget, Needs

_CORES, _MEMORY, _GPUS = "cores", "memory", "GPUs"


@dataclass(frozen=True, slots=True)
class _Admitted:
    job: Job
    needs: Needs
    since: float


class Admission:
    """Admits attempts in the order in which they came; one is passed only by those that take nothing it waits for.

    While every attempt needs one core, cores limit nothing here: the threads of the cluster do. ``clock`` returns
    seconds. Not thread-safe.
    """

    def __init__(self, target: ComputeTarget, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._clock = clock
        self._waiting: dict[str, Job] = {}
        self._admitted: dict[str, _Admitted] = {}
        self._used = Needs(0, 0, 0)
        self._wide = 0

    @property
    def attempts(self) -> list[str]:
        """Return the admitted attempts, then those that wait, in order."""
        return [*self._admitted, *self._waiting]

    def add(self, job: Job) -> None:
        """Let an attempt wait for its turn."""
        self._waiting[job.attempt] = job

    def admit(self) -> list[Job]:
        """Return the attempts that may start now, in order; they occupy what they need until they are removed."""
        admitted: list[Job] = []
        awaited: set[str] = set()
        for job in list(self._waiting.values()):
            needs = self._target.possible(job.placement.needs)
            lacking = self._lacking(needs)
            if not lacking and not awaited & _occupied(needs):
                del self._waiting[job.attempt]
                self._occupy(job, needs)
                admitted.append(job)
            awaited |= lacking
            if _CORES in awaited:
                break
        return admitted

    def remove(self, attempt: str) -> Job | None:
        """Remove an attempt that has ended or is not to start; return the job of one that was still waiting."""
        ended = self._admitted.pop(attempt, None)
        if ended is not None:
            self._used = _sum((self._used, Needs(-ended.needs.cpu, -ended.needs.memory, -ended.needs.gpu)))
            self._wide -= ended.needs.cpu > 1
        return self._waiting.pop(attempt, None)

    def clear(self) -> list[Job]:
        """Remove all attempts, and return the jobs of those that were still waiting."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._admitted.clear()
        self._used, self._wide = Needs(0, 0, 0), 0
        return waiting

    def reasons(self) -> dict[str, str]:
        """Return why each waiting attempt waits."""
        reasons: dict[str, str] = {}
        awaited: dict[str, Job] = {}
        for attempt, job in self._waiting.items():
            needs = self._target.possible(job.placement.needs)
            lacking = self._lacking(needs)
            if lacking:
                reasons[attempt] = self._shortage(needs, next(each for each in _ORDER if each in lacking))
            else:
                before = next((awaited[each] for each in _ORDER if each in awaited and each in _occupied(needs)), None)
                if before is not None:
                    reasons[attempt] = f"waiting for its turn after `{before.step}`"
            for each in lacking:
                awaited.setdefault(each, job)
        return reasons

    def _occupy(self, job: Job, needs: Needs) -> None:
        self._admitted[job.attempt] = _Admitted(job, needs, self._clock())
        self._used = _sum((self._used, needs))
        self._wide += needs.cpu > 1

    def _lacking(self, needs: Needs) -> set[str]:
        """Return what there is not enough of now."""
        lacking = set()
        if (self._wide or needs.cpu > 1) and self._used.cpu + needs.cpu > self._target.cpu:
            lacking.add(_CORES)
        if needs.memory and self._used.memory + needs.memory > self._target.memory:
            lacking.add(_MEMORY)
        if needs.gpu and self._used.gpu + needs.gpu > len(self._target.devices):
            lacking.add(_GPUS)
        return lacking

    def _shortage(self, needs: Needs, kind: str) -> str:
        amount, taken, total = _AMOUNTS[kind](needs), _AMOUNTS[kind](self._used), _TOTALS[kind](self._target)
        holders = [each for each in self._admitted.values() if _AMOUNTS[kind](each.needs)]
        return (
            f"waiting for {_spoken(kind, amount)}: {_spoken_share(kind, taken, total)} taken by "
            f"{_listed(self._clock(), holders)}"
        )


_ORDER = (_GPUS, _MEMORY, _CORES)
_AMOUNTS: dict[str, Callable[[Needs], int]] = {
    _CORES: lambda needs: needs.cpu, _MEMORY: lambda needs: needs.memory, _GPUS: lambda needs: needs.gpu,
}  # fmt: skip
_TOTALS: dict[str, Callable[[ComputeTarget], int]] = {
    _CORES: lambda target: target.cpu,
    _MEMORY: lambda target: target.memory,
    _GPUS: lambda target: len(target.devices),
}
_NAMED = 3


def _occupied(needs: Needs) -> set[str]:
    return {kind for kind, amount in _AMOUNTS.items() if amount(needs)}


def _sum(several: Iterable[Needs]) -> Needs:
    cpu, memory, gpu = 0, 0, 0
    for each in several:
        cpu, memory, gpu = cpu + each.cpu, memory + each.memory, gpu + each.gpu
    return Needs(cpu, memory, gpu)


def _spoken(kind: str, amount: int) -> str:
    if kind == _MEMORY:
        return f"{_gibibytes(amount)} GiB of memory"
    return f"{amount} {kind if amount != 1 else kind.removesuffix('s')}"


def _spoken_share(kind: str, taken: int, total: int) -> str:
    # More single cores than there are may have been promised: those beyond them wait for a thread.
    taken = min(taken, total)
    if kind == _MEMORY:
        return f"{_gibibytes(taken)} of {_gibibytes(total)} GiB"
    return f"{taken} of {total}"


def _gibibytes(amount: int) -> str:
    return f"{amount / (1 << 30):.1f}".removesuffix(".0")


def _listed(now: float, holders: list[_Admitted]) -> str:
    oldest_first = sorted(holders, key=lambda each: each.since)
    named = [f"{each.job.step} ({_minutes(now - each.since)})" for each in oldest_first[:_NAMED]]
    more = len(holders) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])


def _minutes(seconds: float) -> str:
    minutes = int(seconds // 60)
    if not minutes:
        return "under 1 min"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
