"""Following an active run until it has ended."""

from __future__ import annotations

import time

from nbpipe.model import RunRecord
from nbpipe.verbs.caller import Caller
from nbpipe.views import text_tables
from nbpipe.workspace.run_watch import watch_run

_PAUSE = 0.2


def follow(caller: Caller, run: RunRecord) -> None:
    """Have the caller show the changes in the run until it has ended."""
    watcher = watch_run(caller.workspace, run.id)
    while True:
        update = watcher.look()
        numbers = caller.workspace.runs.origin_numbers(update.executions)
        caller.show_changes(text_tables.update_lines(update.executions, update.named_attempts, update.outputs, numbers))
        if update.is_over:
            return
        time.sleep(_PAUSE)
        caller.workspace.recover()
