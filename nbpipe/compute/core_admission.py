"""Which attempts may start on the cores of one machine, and which wait for others to end."""

from __future__ import annotations

from nbpipe.model import Job


class CoreAdmission:
    """Admits attempts in the order in which they came, so that one that needs several cores is not passed for ever.

    While every attempt needs one core, all are admitted at once: the threads of the cluster then limit how many run.
    Not thread-safe.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._waiting: dict[str, Job] = {}
        self._admitted: dict[str, int] = {}

    @property
    def attempts(self) -> list[str]:
        """Return the attempts that have cores, then those that wait for them, in order."""
        return [*self._admitted, *self._waiting]

    def add(self, job: Job) -> None:
        """Let an attempt wait for its turn."""
        self._waiting[job.attempt] = job

    def admit(self) -> list[Job]:
        """Return the attempts that may start now, in order; they have their cores until they are removed."""
        admitted = []
        while self._waiting:
            job = next(iter(self._waiting.values()))
            if not self._has_cores_for(job):
                break
            del self._waiting[job.attempt]
            self._admitted[job.attempt] = self._needed(job)
            admitted.append(job)
        return admitted

    def remove(self, attempt: str) -> Job | None:
        """Remove an attempt that has ended or is not to start; return the job of one that was still waiting."""
        self._admitted.pop(attempt, None)
        return self._waiting.pop(attempt, None)

    def clear(self) -> list[Job]:
        """Remove all attempts, and return the jobs of those that were still waiting."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._admitted.clear()
        return waiting

    def _has_cores_for(self, job: Job) -> bool:
        needed = [*self._admitted.values(), self._needed(job)]
        return max(needed) == 1 or sum(needed) <= self._cores

    def _needed(self, job: Job) -> int:
        # The machine may have fewer cores than the one on which the step was planned.
        return min(job.cpu, self._cores)
