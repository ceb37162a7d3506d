"""Results that vanished after they were planned with: they are withdrawn, and made again in the same run.

A plan believes a datastore about an output for a while, and somebody may delete it there before a step reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nbpipe.model import Failure, FailureKind, Status
from nbpipe.run.carried_run import CarriedRun
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.requested_steps import RequestedSteps


@dataclass(slots=True)
class LostInputs:
    """Finds out which results an attempt could not read because they are gone, and asks for them again.

    A step's result is made again once in a run.
    """

    carried: CarriedRun
    _withdrawn: dict[str, str] = field(default_factory=dict)
    _readers: list[ExecutionState] = field(default_factory=list)

    def withdraw(self, reader: ExecutionState, failure: Failure) -> Failure:
        """Withdraw the results that an attempt could not read if they are gone; return its failure, which says so."""
        if failure.kind is not FailureKind.INPUT:
            return failure
        for need in reader.record.needs:
            producer = self.carried.table.by_id[need]
            gone = next((each for each in producer.record.artifacts if self.carried.is_gone(each)), None)
            if gone is not None:
                where = f"output `{gone.name}` of step `{producer.step}`"
                said = f"{where} is no longer in the datastore `{gone.reference.store}`"
                self._withdraw(producer, said)
                if self._withdrawn.setdefault(producer.step, producer.id) == producer.id:
                    self._readers.append(reader)
                    said = f"{said}: the step runs again, and `{reader.step}` after it"
                return replace(failure, ename="InputGone", evalue=said, message=said)
        return failure

    def _withdraw(self, producer: ExecutionState, why: str) -> None:
        history = self.carried.history
        (record,) = history.executions.get([producer.id])
        made = history.attempts.of_execution(producer.id)
        ids = [each.id for each in made if each.status is Status.SUCCEEDED]
        ids += [record.origin.attempt] if record.origin is not None else []
        for attempt in ids:
            history.results.quarantine(attempt, why, self.carried.clock())
        producer.offered = False

    def take(self) -> list[RequestedSteps]:
        """Return what is to be requested again, after the attempts' ends were recorded: lost results and all after."""
        readers, self._readers = self._readers, []
        again: list[RequestedSteps] = []
        for reader in readers:
            increment, table = reader.increment, self.carried.table
            if table.current[reader.step] is not reader or not self._may_go_on():
                continue
            increment.planner.past.renew()
            lost = {table.by_id[need].step for need in reader.record.needs} & self._withdrawn.keys()
            ended = {step for step, state in table.current.items() if state.record.status is Status.SKIPPED}
            requested = frozenset({reader.step, *lost, *(ended & increment.selected)})
            again.append(replace(increment, requested=requested))
        return again

    def _may_go_on(self) -> bool:
        """Return whether no step has failed for another reason, unless the run goes on after failures."""
        readers = set(self._withdrawn)
        failed = [each for each in self.carried.table.current.values() if each.record.status is Status.FAILED]
        return self.carried.state.keep_going or all(self._needs_any(each, readers) for each in failed)

    def _needs_any(self, state: ExecutionState, steps: set[str]) -> bool:
        return any(self.carried.table.by_id[need].step in steps for need in state.record.needs)
