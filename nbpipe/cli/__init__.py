"""The command line: ``nbpipe VERB NOTEBOOK``."""

from __future__ import annotations

from nbpipe.cli import tools
from nbpipe.cli.verbs import cli, main

__all__ = ["cli", "main", "tools"]
