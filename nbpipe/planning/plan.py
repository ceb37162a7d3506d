"""Verdicts: for each step whether it runs, is reused or skipped, and why. Plan and run ask the same function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from nbpipe.language.conditions import holds
from nbpipe.model import (
    Artifact,
    Component,
    DependsVerdict,
    Hit,
    Reason,
    Reuse,
    ReuseVerdict,
    RunVerdict,
    SkipVerdict,
    Step,
    StepOutput,
    StepRecord,
    Verdict,
)
from nbpipe.planning.fingerprint import Circumstances, fixed_components, key_of, upstream_component
from nbpipe.planning.graph import Graph

Found = Hit | tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """What history knows, handed in: ``lookup`` gives a verified hit or the reasons why there is none.

    ``known`` says whether any result was ever made from these components; ``newest`` gives a step's newest result that
    still stands; ``latest`` are the records to compare with.
    """

    lookup: Callable[[str], Found]
    known: Callable[[str], bool]
    newest: Callable[[str], Hit | None]
    latest: Mapping[str, StepRecord]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with what it was made from; ``key`` is None while inputs are not known."""

    step: str
    verdict: Verdict
    components: tuple[Component, ...] = ()
    key: str | None = None
    static_key: str | None = None


Upstream = Mapping[StepOutput, Artifact]


@dataclass(slots=True)
class Planner:
    """Decides steps of one graph under given circumstances; what it has computed for a step it keeps."""

    graph: Graph
    circumstances: Mapping[str, Circumstances]
    past: Past
    forced: Collection[str] = ()
    _fixed: dict[str, tuple[Component, ...]] = field(default_factory=dict)

    def decide(self, name: str, upstream: Upstream) -> Decision:
        """Decide one step, given the artifacts of those outputs that are known by now."""
        step = self.graph.pipeline.step(name)
        skipped = self._condition(step)
        if skipped is not None:
            return Decision(name, skipped)
        fixed = self.fixed(name)
        static_key = key_of(fixed)
        feeds = self.graph.feeds[name]
        unknown = [source for source in feeds.values() if source not in upstream]
        if unknown:
            return Decision(name, self._early(step, fixed, static_key, unknown), fixed, None, static_key)
        fed = (upstream_component(item, upstream[source]) for item, source in feeds.items())
        components = (*fixed, *fed)
        key = key_of(components)
        return Decision(name, self._verdict(step, components, key), components, key, static_key)

    def fixed(self, name: str) -> tuple[Component, ...]:
        """Get the components of a step that do not depend on other steps."""
        if name not in self._fixed:
            step = self.graph.pipeline.step(name)
            self._fixed[name] = fixed_components(step, self.graph.pipeline.code[name], self.circumstances[name])
        return self._fixed[name]

    def _condition(self, step: Step) -> SkipVerdict | None:
        text = step.options.when
        if text is None or holds(text, self.circumstances[step.name].values, step.place):
            return None
        return SkipVerdict((Reason("when", None, f"{text} is false"),))

    def _always(self, step: Step) -> Reason | None:
        if step.name in self.forced:
            return Reason("forced", None, "asked for")
        if step.options.reuse is Reuse.NEVER:
            return Reason("policy", None, "reuse: never")
        if not step.outputs and step.options.reuse is not Reuse.KEEP:
            return Reason("result", None, "it has no outputs, and such a step always runs")
        return None

    def _early(
        self, step: Step, fixed: tuple[Component, ...], static_key: str, unknown: Iterable[StepOutput]
    ) -> Verdict:
        always = self._always(step)
        if always:
            return RunVerdict((always,))
        kept = self._kept(step)
        if kept:
            return kept
        known = self._differences(step.name, fixed, whole=False)
        if not self.past.known(static_key):
            return RunVerdict(known or (Reason("first run", None, "no earlier result"),))
        waits = dict.fromkeys(source.step for source in unknown)
        return DependsVerdict(known or tuple(Reason(f"upstream:{name}", None, "not known yet") for name in waits))

    def _verdict(self, step: Step, components: tuple[Component, ...], key: str) -> Verdict:
        always = self._always(step)
        if always:
            return RunVerdict((always,))
        kept = self._kept(step)
        if kept:
            return kept
        found = self.past.lookup(key)
        if isinstance(found, Hit):
            return ReuseVerdict(found, (Reason("unchanged", None, found.origin.run),))
        return RunVerdict(found or self._differences(step.name, components, whole=True))

    def _kept(self, step: Step) -> ReuseVerdict | None:
        if step.options.reuse is not Reuse.KEEP:
            return None
        hit = self.past.newest(step.name)
        if hit is None or not {item.name for item in step.outputs} <= {item.name for item in hit.artifacts}:
            return None
        return ReuseVerdict(hit, (Reason("policy", None, "reuse: keep"),))

    def _differences(self, name: str, components: Iterable[Component], *, whole: bool) -> tuple[Reason, ...]:
        before = self.past.latest.get(name)
        if before is None:
            return (Reason("first run", None, "no earlier result"),)
        inputs = () if whole else {f"input:{item}" for item in self.graph.feeds[name]}
        reasons = differences(before.components, components, leave_out=inputs)
        if reasons or not whole:
            return reasons
        return (Reason("result", before.run, "its last result was not kept for reuse"),)


def differences(
    before: Iterable[Component], now: Iterable[Component], leave_out: Collection[str] = ()
) -> tuple[Reason, ...]:
    """Get a reason for each component that is new, gone or changed."""
    old = {component.name: component for component in before if component.name not in leave_out}
    new = {component.name: component for component in now}
    reasons = []
    for name in dict.fromkeys([*new, *old]):
        was, is_ = old.get(name), new.get(name)
        if was is None or is_ is None or was.digest != is_.digest:
            reasons.append(Reason(name, was.summary if was else None, is_.summary if is_ else None))
    return tuple(reasons)


def plan(planner: Planner, selected: Collection[str]) -> dict[str, Decision]:
    """Decide every selected step in turn; what waits for a step that runs is decided later, or known to run."""
    decisions: dict[str, Decision] = {}
    upstream: dict[StepOutput, Artifact] = {}
    for name in planner.graph.order:
        if name not in selected:
            continue
        skipped = [need for need in planner.graph.pipeline.needs[name] if _is_skipped(decisions.get(need))]
        if skipped:
            reasons = tuple(Reason(f"upstream:{need}", None, "skipped") for need in skipped)
            decisions[name] = Decision(name, SkipVerdict(reasons))
            continue
        decisions[name] = decision = planner.decide(name, upstream)
        if isinstance(decision.verdict, ReuseVerdict):
            for artifact in decision.verdict.hit.artifacts:
                upstream[StepOutput(artifact.name, name)] = artifact
    return {step.name: decisions[step.name] for step in planner.graph.pipeline.steps if step.name in decisions}


def _is_skipped(decision: Decision | None) -> bool:
    return decision is not None and isinstance(decision.verdict, SkipVerdict)
