"""A run that this process carries out, as the parts of its driver share it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nbpipe.history.store import History
from nbpipe.model import Artifact, RunRecord
from nbpipe.planning.instructions import Instruction
from nbpipe.planning.run_state import RunState
from nbpipe.planning.stimuli import Stimulus
from nbpipe.run.execution_state import ExecutionTable
from nbpipe.run.input_transfers import InputTransfers
from nbpipe.run.pending_changes import PendingChanges


@dataclass(slots=True)
class CarriedRun:
    """A run's state machine with its open instructions, its executions, and the changes that are not in its history.

    ``clock`` returns seconds since the epoch. ``watch`` is called whenever the run's log has new entries. ``find_lost``
    returns the name of one of the stored outputs of an attempt that was deleted since it was stored, if one was;
    ``is_gone`` whether an output is missing from its datastore now.
    """

    run: RunRecord
    history: History
    state: RunState
    clock: Callable[[], float]
    watch: Callable[[], None] = lambda: None
    find_lost: Callable[[Sequence[Artifact]], str | None] = lambda _stored: None
    is_gone: Callable[[Artifact], bool] = lambda _output: False
    todo: deque[Instruction] = field(default_factory=deque)
    table: ExecutionTable = field(default_factory=ExecutionTable)
    transfers: InputTransfers = field(default_factory=InputTransfers)
    changes: PendingChanges = field(init=False)

    def __post_init__(self) -> None:
        self.changes = PendingChanges(self.history, self.run.id)

    def feed(self, stimulus: Stimulus) -> None:
        """Tell the state machine what has happened."""
        self.todo.extend(self.state.handle(stimulus))

    def save(self) -> None:
        """Write the changes to the history."""
        if self.changes.write(self.clock()):
            self.watch()
