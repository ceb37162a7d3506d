"""The command line: ``nbpipe VERB NOTEBOOK``."""

from __future__ import annotations

from nbpipe.cli.verbs import cli, main

__all__ = ["cli", "main"]
