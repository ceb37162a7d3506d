"""The output of the command line: lines and notes, or one JSON object."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbpipe.cli.printed_text import encodable, print_lines, printable
from nbpipe.errors import NbpipeError, Refusals
from nbpipe.model import PipelineWarning
from nbpipe.views import json_output
from nbpipe.views.terminal_text import harmless_json
from nbpipe.views.wording import warning_line


@dataclass(slots=True)
class TerminalOutput:
    """Standard output and error of one command."""

    as_json: bool

    @property
    def columns(self) -> int:
        """Return the output width; files and pipes get long lines."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200

    def json(self, value: Mapping[str, Any]) -> None:
        """Print a JSON object on one line."""
        text = harmless_json(json.dumps(value, ensure_ascii=False))
        print(text if text == encodable(text, sys.stdout) else json.dumps(value), flush=True)

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines on standard output."""
        print_lines(lines)

    def note(self, text: str) -> None:
        """Print a message on standard error."""
        print(printable(text, sys.stderr), file=sys.stderr, flush=True)

    def warnings(self, warnings: Iterable[PipelineWarning]) -> None:
        """Print warnings."""
        for warned in warnings:
            self.note(f"warning: {warning_line(warned)}")

    def refused(self, error: NbpipeError) -> int:
        """Print an error, and return the exit code."""
        if self.as_json:
            self.json(json_output.errors_object(error))
        return self.errors(error.errors if isinstance(error, Refusals) else (error,))

    def errors(self, errors: Sequence[NbpipeError]) -> int:
        """Print errors, and return the exit code."""
        for error in errors:
            self.note(f"error: {error}")
        return errors[0].exit_code if errors else 0
