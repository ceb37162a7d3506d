"""The command line: ``nbpipe VERB NOTEBOOK``."""

from __future__ import annotations

import gc

# A command makes many small values and is soon over: looking for rings among them takes a fifth of its time, and that
# begins with the modules it loads.
gc.set_threshold(100_000, 50, 100)

from nbpipe.cli.command import main  # noqa: E402 - the pause of the collector comes first

__all__ = ["main"]
