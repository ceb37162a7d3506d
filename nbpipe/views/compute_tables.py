"""Compute targets as tables: plain lines no wider than the terminal, and JSON objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbpipe.model.compute import ComputeTarget, TargetDescription
from nbpipe.views.terminal_text import fit, one_line
from nbpipe.views.text_tables import Row, lines
from nbpipe.views.wording import duration, size

_LIST_HEADER: Row = ("name", "use", "cores", "memory", "GPUs", "")
_TEST_HEADER: Row = ("name", "result", "time", "")


def target_lines(targets: Iterable[TargetDescription], columns: int) -> list[str]:
    """Return compute targets as plain lines."""
    rows = [
        (each.target.name, each.use, str(each.target.cpu), size(each.target.memory), gpus(each.target),
         "default" if each.is_default else "")
        for each in targets
    ]  # fmt: skip
    return lines(_LIST_HEADER, rows, columns)


def target_details(described: TargetDescription, columns: int) -> list[str]:
    """Return one compute target as plain lines."""
    target = described.target
    shown = {
        "target": f"{target.name} (default)" if described.is_default else target.name, "use": described.use,
        "cores": str(target.cpu), "memory": size(target.memory), "GPUs": gpus(target),
        "declared": f"[compute.{target.name}] in {described.file}" if described.file else "by nbpipe itself",
    }  # fmt: skip
    return [fit(f"{name:<10}{one_line(value)}", columns) for name, value in shown.items()]


def target_test_lines(tests: Iterable[tuple[TargetDescription, float, str]], columns: int) -> list[str]:
    """Return the outcomes of trying compute targets as plain lines: their seconds, or the errors."""
    rows = [
        (each.target.name, "failed" if error else "ok", duration(seconds), one_line(error) if error else _has(each))
        for each, seconds, error in tests
    ]
    return lines(_TEST_HEADER, rows, columns)


def target_object(described: TargetDescription) -> dict[str, Any]:
    """Return a compute target for other programs."""
    target = described.target
    return {
        "name": target.name, "use": described.use, "default": described.is_default, "cpu": target.cpu,
        "memory": target.memory, "gpus": list(target.devices), "simulated": target.simulated,
        "file": described.file or None,
    }  # fmt: skip


def gpus(target: ComputeTarget) -> str:
    """Return the GPUs of a target in words."""
    if not target.devices:
        return "none"
    return f"{len(target.devices)} simulated" if target.simulated else ", ".join(target.devices)


def _has(described: TargetDescription) -> str:
    target = described.target
    return f"{target.cpu} cores, {size(target.memory)}, GPUs: {gpus(target)}"
