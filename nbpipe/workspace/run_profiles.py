"""The profiles of the tables that a run's outputs were registered as, made once the run is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from nbpipe.errors import NbpipeError
from nbpipe.model import ExecutionRecord
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.datasets import Datasets

_LOG = logging.getLogger(__name__)


def make_profiles(
    context: WorkspaceContext, executions: Iterable[ExecutionRecord], cancelled: Callable[[], bool] = lambda: False
) -> None:
    """Make the profiles that are missing, until it is ``cancelled``; one that cannot be made is logged."""
    datasets = Datasets(context)
    outputs = (artifact.dataset for execution in executions for artifact in execution.artifacts)
    for reference in dict.fromkeys(filter(None, outputs)):
        if cancelled():
            return
        try:
            datasets.profile(datasets.find(reference), cancelled)
        except (NbpipeError, OSError) as error:
            _LOG.warning("%s", error)
