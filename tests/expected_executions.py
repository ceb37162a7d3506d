"""What a workspace must hold after all that was run and damaged in it, and so what a run must execute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline_models import Pipeline, Step

Signature = tuple[Any, ...]
Stored = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """How often a run must execute what, at least and at most: of equal steps one is enough, whichever comes first."""

    least: Counter[Signature]
    most: Counter[Signature]


@dataclass(slots=True)
class Ledger:
    """Results by what they are made of: ``offered`` tells the objects of each, ``whole`` those that are undamaged."""

    offered: dict[Signature, tuple[Stored, ...]] = field(default_factory=dict)
    early: dict[Signature, Signature] = field(default_factory=dict)
    whole: set[Stored] = field(default_factory=set)

    def plan(self, pipeline: Pipeline, selected: Collection[int], forced: Collection[int]) -> dict[int, str]:
        """Get the verdicts of a plan; a damaged result that it comes across is not offered any more."""
        known = {self.early[signature] for signature in self.offered}
        words: dict[int, str] = {}
        for step in _steps(pipeline, selected):
            fed = {item.source.step for item in step.inputs if hasattr(item.source, "step")}
            if step.uid in pipeline.skipped:
                words[step.uid] = "skip"
            elif step.never or step.uid in forced:
                words[step.uid] = "run"
            elif any(words[uid] != "reuse" for uid in fed):
                words[step.uid] = "depends" if pipeline.signature(step, whole=False) in known else "run"
            else:
                words[step.uid] = "reuse" if self._look_up(pipeline.signature(step)) else "run"
        return words

    def expect(self, pipeline: Pipeline, selected: Collection[int], forced: Collection[int]) -> Expected:
        """Get what a run must execute now."""
        groups: dict[Signature, list[Step]] = {}
        for step in _steps(pipeline, selected):
            if step.uid not in pipeline.skipped:
                groups.setdefault(pipeline.signature(step), []).append(step)
        least: Counter[Signature] = Counter()
        most: Counter[Signature] = Counter()
        for signature, steps in groups.items():
            always = sum(step.never or step.uid in forced for step in steps)
            lacking = not self._is_whole(signature)
            least[signature] = max(always, int(lacking))
            most[signature] = always + (lacking and always < len(steps))
        # A damaged object comes back when another step makes the same, and whether that is in time is chance.
        for signature, steps in groups.items():
            others = [group[0] for other, group in groups.items() if other != signature and most[other]]
            made = {stored for step in others for stored in pipeline.stored(step)}
            if signature in self.offered and set(self.offered[signature]) <= self.whole | made:
                least[signature] = sum(step.never or step.uid in forced for step in steps)
        return Expected(least, most)

    def commit(self, pipeline: Pipeline, executed: Iterable[Step]) -> None:
        """Note what a run has made."""
        for step in executed:
            signature = pipeline.signature(step)
            self.offered[signature] = pipeline.stored(step)
            self.early[signature] = pipeline.signature(step, whole=False)
            self.whole |= set(pipeline.stored(step))

    def _is_whole(self, signature: Signature) -> bool:
        return signature in self.offered and set(self.offered[signature]) <= self.whole

    def _look_up(self, signature: Signature) -> bool:
        if self._is_whole(signature):
            return True
        self.offered.pop(signature, None)
        return False


def _steps(pipeline: Pipeline, selected: Collection[int]) -> list[Step]:
    return [step for step in pipeline.steps if step.uid in selected]
