"""The tree of all errors that nbpipe raises; they survive pickle and JSON.

::

    NbpipeError
    ├── Refused                      exit 2: nothing ran
    │   ├── NotebookUnreadable       the file is missing, or is not a readable notebook
    │   ├── BadDirective             a declaration does not follow the grammar
    │   ├── BadCode                  a cell's Python cannot be compiled
    │   ├── BadParameter             a parameter's declaration or value is invalid
    │   ├── BadPipeline              steps do not fit together (cycle, unknown input, …)
    │   ├── UndeclaredName           the code uses a name that is never defined
    │   ├── FileBetweenSteps         a step reads a file that another one writes, and no declaration says so
    │   ├── FileMissing              a declared file or folder does not exist
    │   ├── FormatUnavailable        the library for an output's format is missing
    │   ├── EnvironmentUnavailable   the notebook's kernel is not available
    │   ├── DatastoreUnavailable     the library for a datastore, or a credential, is missing
    │   ├── AddressRefused           an address of the web that inputs may not be read from
    │   ├── BadData                  files that cannot be read as the table that they are said to be
    │   ├── UnknownDataset           there is no such dataset, version or label
    │   ├── ObjectExists             an object in a datastore would be overwritten
    │   ├── WorkspaceUntrusted       the workspace is not this user's own, and was not accepted
    │   ├── NotSupportedYet          part of the language, but not implemented yet
    │   └── BadUsage                 a verb was called with invalid arguments
    ├── Refusals                     exit 2: several of the above, raised together
    ├── OutOfReach                   exit 3: store, workspace or cluster
    │   ├── HistoryOutOfReach        the run store cannot be opened or written
    │   │   └── HistoryDamaged       the run store's file is damaged
    │   ├── StoreOutOfReach          a datastore cannot be read or written
    │   │   ├── ObjectMissing        an object is not in its datastore
    │   │   ├── ObjectChanged        an object in a datastore is no longer the one that was read
    │   │   ├── DataGone             a file of a dataset's version does not exist any more
    │   │   └── DataChanged          a file of a dataset's version is not what was registered
    │   └── ClusterOutOfReach        the compute target cannot be started or was lost
    └── StepFailed                   exit 1: raised in a notebook so that it stops

A failing cell is not an exception here: it is a :class:`nbpipe.model.Failure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A position in the notebook: cell, line and column are counted from 1, line and column inside the cell."""

    cell: int | None = None
    line: int | None = None
    column: int | None = None
    step: str | None = None

    def describe(self) -> str:
        """Return the location in words, e.g. ``cell 3 (step train), line 2``."""
        if self.cell is None:
            return f"step {self.step}" if self.step else ""
        text = f"cell {self.cell}" + (f" (step {self.step})" if self.step else "")
        if self.line is not None:
            text += f", line {self.line}"
        if self.column is not None:
            text += f", column {self.column}"
        return text


NO_LOCATION = SourceLocation()


class NbpipeError(Exception):
    """The base of all errors: ``message`` says what is wrong, ``hint`` what to do."""

    code: ClassVar[str] = "nbpipe"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "", place: SourceLocation = NO_LOCATION) -> None:
        super().__init__(message, hint, place)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        where = self.place.describe()
        text = f"{where}: {self.message}" if where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text

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
    def from_json(payload: Mapping[str, Any]) -> NbpipeError:
        """Return an error that another process has sent as JSON."""
        kinds: list[type[NbpipeError]] = [Refused, OutOfReach, HistoryOutOfReach, StoreOutOfReach]
        every = [kind for above in kinds for kind in (above, *above.__subclasses__())]
        kind = next((kind for kind in every if kind.code == payload["code"]), NbpipeError)
        return kind(
            payload["message"],
            payload["hint"],
            SourceLocation(payload["cell"], payload["line"], payload["column"], payload.get("step")),
        )


class Refused(NbpipeError):
    """Invalid input, found before anything ran."""

    code = "refused"
    exit_code = 2


class NotebookUnreadable(Refused):
    """The file is missing, or is not a notebook."""

    code = "notebook-unreadable"


class BadDirective(Refused):
    """A declaration that does not follow the grammar."""

    code = "bad-directive"


class BadCode(Refused):
    """Python that does not compile."""

    code = "bad-code"


class BadParameter(Refused):
    """An invalid declaration, name, type or value of a parameter."""

    code = "bad-parameter"


class BadPipeline(Refused):
    """Steps that do not fit together."""

    code = "bad-pipeline"


class UndeclaredName(Refused):
    """A name that the code uses and nothing defines; ``add`` is the input that would define it, if there is one."""

    code = "undeclared-name"

    def __init__(self, message: str, hint: str = "", place: SourceLocation = NO_LOCATION, *, add: str = "") -> None:
        super().__init__(message, hint, place)
        self.add = add


class FileBetweenSteps(Refused):
    """A file that one step writes and another reads, without a declaration that connects the two.

    ``path`` is the file, ``writer`` and ``reader`` are the steps, if both places are in the text; else they are empty.
    """

    code = "file-between-steps"

    def __init__(
        self, message: str, hint: str = "", place: SourceLocation = NO_LOCATION, *, path: str = "", writer: str = "",
        reader: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message, hint, place)
        self.path = path
        self.writer = writer
        self.reader = reader


class FileMissing(Refused):
    """A declared file, folder or pattern that matches nothing."""

    code = "file-missing"


class FormatUnavailable(Refused):
    """A format whose library is not installed."""

    code = "format-unavailable"


class EnvironmentUnavailable(Refused):
    """A kernel or interpreter that is not available."""

    code = "environment-unavailable"


class DatastoreUnavailable(Refused):
    """A datastore that cannot be opened here: a library or a credential is missing."""

    code = "datastore-unavailable"


class AddressRefused(Refused):
    """An address of the web that inputs may not be read from, by nbpipe's rules or the settings."""

    code = "address-refused"


class BadData(Refused):
    """Files that cannot be read as the table that they are said to be."""

    code = "bad-data"


class UnknownDataset(Refused):
    """A dataset, a version or a label that does not exist."""

    code = "unknown-dataset"


class ObjectExists(Refused):
    """An object in a datastore that would be overwritten."""

    code = "object-exists"


class WorkspaceUntrusted(Refused):
    """A workspace that nbpipe did not make for this user, and that this user has not accepted."""

    code = "workspace-untrusted"


class NotSupportedYet(Refused):
    """A part of the language that is not implemented yet."""

    code = "not-supported-yet"


class BadUsage(Refused):
    """An invalid verb, option or argument."""

    code = "bad-usage"


class Refusals(NbpipeError):
    """Several refusals, raised together so that all of them can be fixed at once."""

    code = "refused"
    exit_code = 2

    def __init__(self, errors: tuple[Refused, ...]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors

    def __reduce__(self) -> tuple[type[Refusals], tuple[tuple[Refused, ...]]]:
        return (type(self), (self.errors,))


class OutOfReach(NbpipeError):
    """A part of nbpipe, such as a store or a cluster, that is not available."""

    code = "out-of-reach"
    exit_code = 3


class HistoryOutOfReach(OutOfReach):
    """The run store cannot be opened, read or written."""

    code = "history-out-of-reach"


class HistoryDamaged(HistoryOutOfReach):
    """The run store's file is damaged."""

    code = "history-damaged"


class StoreOutOfReach(OutOfReach):
    """A datastore cannot be read or written."""

    code = "store-out-of-reach"


class ObjectMissing(StoreOutOfReach):
    """An object that is not in its datastore."""

    code = "object-missing"


class ObjectChanged(StoreOutOfReach):
    """An object in a datastore that is no longer the one that was read."""

    code = "object-changed"


class DataGone(StoreOutOfReach):
    """A file of a dataset's version that does not exist any more."""

    code = "data-gone"


class DataChanged(StoreOutOfReach):
    """A file of a dataset's version that is not what was registered."""

    code = "data-changed"


REPAIR = "Repair the workspace: nbpipe verify --repair"


class ClusterOutOfReach(OutOfReach):
    """A compute target cannot be started, or was lost."""

    code = "cluster-out-of-reach"


class StepFailed(NbpipeError):
    """A step's failure, raised in a notebook so that the cell fails."""

    code = "step-failed"
    exit_code = 1


def refuse(errors: Sequence[Refused]) -> None:
    """Raise the only error itself, or several errors together; do nothing if there are none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Refusals(tuple(errors))
