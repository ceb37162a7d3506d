"""What papermill's ``--log-output``, ``--stdout-file`` and ``--stderr-file`` get of the steps' output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from papermill.log import logger

_OPTIONS = ("log_output", "stdout_file", "stderr_file")


@dataclass(frozen=True, slots=True)
class OutputLog:
    """Papermill's options about output, as it passes them to an engine."""

    options: Mapping[str, Any]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> OutputLog:
        """Return the log for an engine's options."""
        return cls({name: options[name] for name in _OPTIONS if options.get(name)})

    def tell(self, outputs: Iterable[Any]) -> None:
        """Log a step's outputs as papermill logs those of other cells."""
        for output in outputs if self.options else ():
            if output.output_type == "stream":
                self._tell_stream(output.name, "".join(output.text))
            elif "log_output" in self.options and "text/plain" in output.get("data", {}):
                logger.info("".join(output.data["text/plain"]))

    def _tell_stream(self, name: str, text: str) -> None:
        if "log_output" in self.options:
            (logger.warning if name == "stderr" else logger.info)(text)
        file = self.options.get(f"{name}_file")
        if file is not None:
            file.write(text)
            file.flush()
