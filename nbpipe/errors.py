"""The one error tree: everything nbpipe refuses or cannot reach, as values that survive pickle and JSON.

::

    NbpipeError
    ├── Refused                      exit 2: nothing ran
    │   ├── NotebookUnreadable       the file is no notebook, or not one we can read
    │   ├── BadDirective             a declaration does not follow the grammar
    │   ├── BadCode                  a cell's Python cannot be compiled
    │   ├── BadParameter             a parameter's declaration or value
    │   ├── BadPipeline              steps do not fit together (cycle, unknown input, …)
    │   ├── UndeclaredName           the code reads what nobody gives it
    │   ├── FileMissing              a declared file or folder is not there
    │   ├── FormatUnavailable        an output's format lacks its library
    │   ├── EnvironmentUnavailable   the notebook's kernel cannot be had
    │   ├── WorkspaceUntrusted       the workspace is not this user's own, and was not accepted
    │   ├── NotSupportedYet          understood, but not built yet
    │   └── BadUsage                 a verb was called with what it cannot take
    ├── Refusals                     exit 2: several of the above, told together
    ├── OutOfReach                   exit 3: store, workspace or cluster
    │   ├── HistoryOutOfReach        the run store cannot be opened or written
    │   │   └── HistoryDamaged       the run store's file is damaged
    │   ├── StoreOutOfReach          a datastore cannot be read or written
    │   └── ClusterOutOfReach        the compute target cannot be started or was lost
    └── StepFailed                   exit 1: raised where a notebook must stop

A failing cell is not an exception here: it is a :class:`nbpipe.model.Failure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where in the notebook: cell counted from 1, line and column counted from 1 inside the cell."""

    cell: int | None = None
    line: int | None = None
    column: int | None = None
    step: str | None = None

    def words(self) -> str:
        """Return the place as a person would say it, e.g. ``cell 3 (step train), line 2``."""
        if self.cell is None:
            return f"step {self.step}" if self.step else ""
        said = f"cell {self.cell}" + (f" (step {self.step})" if self.step else "")
        if self.line is not None:
            said += f", line {self.line}"
        if self.column is not None:
            said += f", column {self.column}"
        return said


NO_LOCATION = SourceLocation()


class NbpipeError(Exception):
    """What was asked, what was found and, in ``hint``, what to do."""

    code: ClassVar[str] = "nbpipe"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "", place: SourceLocation = NO_LOCATION) -> None:
        super().__init__(message, hint, place)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        where = self.place.words()
        said = f"{where}: {self.message}" if where else self.message
        return f"{said}\n  {self.hint}" if self.hint else said

    def to_json(self) -> dict[str, Any]:
        """Return the error as a JSON object."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "cell": self.place.cell,
            "line": self.place.line,
            "column": self.place.column,
        }

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> NbpipeError:
        """Return an error back that another process has told as JSON."""
        kinds: list[type[NbpipeError]] = [Refused, OutOfReach, HistoryOutOfReach]
        every = [kind for above in kinds for kind in (above, *above.__subclasses__())]
        kind = next((kind for kind in every if kind.code == told["code"]), NbpipeError)
        return kind(
            told["message"], told["hint"], SourceLocation(told["cell"], told["line"], told["column"], told.get("step"))
        )


class Refused(NbpipeError):
    """Bad input, found before anything ran."""

    code = "refused"
    exit_code = 2


class NotebookUnreadable(Refused):
    """The file is missing, or is not a notebook."""

    code = "notebook-unreadable"


class BadDirective(Refused):
    """A declaration that the grammar does not take."""

    code = "bad-directive"


class BadCode(Refused):
    """Python that does not compile."""

    code = "bad-code"


class BadParameter(Refused):
    """A parameter's declaration, name, type or value."""

    code = "bad-parameter"


class BadPipeline(Refused):
    """Steps that do not fit together."""

    code = "bad-pipeline"


class UndeclaredName(Refused):
    """A name that the code reads and that nothing gives it; ``add`` is the input that would, where there is one."""

    code = "undeclared-name"

    def __init__(self, message: str, hint: str = "", place: SourceLocation = NO_LOCATION, *, add: str = "") -> None:
        super().__init__(message, hint, place)
        self.add = add


class FileMissing(Refused):
    """A declared file, folder or pattern that matches nothing."""

    code = "file-missing"


class FormatUnavailable(Refused):
    """A format whose library is not installed."""

    code = "format-unavailable"


class EnvironmentUnavailable(Refused):
    """A kernel or interpreter that cannot be had."""

    code = "environment-unavailable"


class WorkspaceUntrusted(Refused):
    """A workspace that nbpipe did not make for this user, and that this user has not accepted."""

    code = "workspace-untrusted"


class NotSupportedYet(Refused):
    """Part of the language that is understood but not built."""

    code = "not-supported-yet"


class BadUsage(Refused):
    """A verb, an option or a name that the verb cannot take."""

    code = "bad-usage"


class Refusals(NbpipeError):
    """Several refusals at once, so that one look at the notebook mends them all."""

    code = "refused"
    exit_code = 2

    def __init__(self, errors: tuple[Refused, ...]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors

    def __reduce__(self) -> tuple[type[Refusals], tuple[tuple[Refused, ...]]]:
        return (type(self), (self.errors,))


class OutOfReach(NbpipeError):
    """Something of ours that must be there and is not."""

    code = "out-of-reach"
    exit_code = 3


class HistoryOutOfReach(OutOfReach):
    """The run store cannot be opened, read or written."""

    code = "history-out-of-reach"


class HistoryDamaged(HistoryOutOfReach):
    """The run store's file is not what was written."""

    code = "history-damaged"


class StoreOutOfReach(OutOfReach):
    """A datastore cannot be read or written."""

    code = "store-out-of-reach"


class ClusterOutOfReach(OutOfReach):
    """A compute target cannot be started, or was lost."""

    code = "cluster-out-of-reach"


class StepFailed(NbpipeError):
    """A step's failure, raised in a notebook so that its ending is true."""

    code = "step-failed"
    exit_code = 1


def refuse(errors: list[Refused]) -> None:
    """Raise what was found: nothing, the one error, or all of them together."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Refusals(tuple(errors))
