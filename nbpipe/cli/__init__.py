"""The command line: ``nbpipe VERB NOTEBOOK``."""

from __future__ import annotations

import gc

# A command creates many small objects and soon exits: garbage collection would take a fifth of its time, beginning
# with the modules that it loads.
gc.set_threshold(100_000, 50, 100)

from nbpipe.cli.command import main  # noqa: E402 - the pause of the collector comes first

__all__ = ["main"]
