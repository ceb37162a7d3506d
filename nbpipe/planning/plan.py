"""Verdicts: whether each step runs, is reused or is skipped, and why. Plan and run use the same function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field

from nbpipe.language.conditions import holds
from nbpipe.model import (
    Artifact,
    CachedResult,
    ComponentKind,
    ComponentName,
    DependsVerdict,
    ExecutionRecord,
    KeyComponent,
    Reason,
    ReusePolicy,
    ReuseVerdict,
    RunVerdict,
    SkipVerdict,
    Step,
    StepOutput,
    UnreadFiles,
    Verdict,
    component_name,
)
from nbpipe.model.amounts import size_text
from nbpipe.planning.fingerprint import PinnedInputs, fixed_components, key_of, raw_key_of, upstream_component
from nbpipe.planning.graph import PipelineGraph

_CODE = frozenset({ComponentKind.CODE, ComponentKind.DEFINITION})

LookupResult = CachedResult | tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ResultIndex:
    """Access to the history: ``lookup`` returns a verified result, or the reasons why there is none.

    ``known`` returns those static keys that any result has; ``newest`` a step's newest valid result; ``latest`` the
    record to compare with; ``wrong`` what is wrong with the results in such a record, ``display_problem`` with what a
    result displayed. ``refresh`` discards what was cached about the notebook's environment, ``renew`` the results that
    were withdrawn since they were found.
    """

    lookup: Callable[[str], LookupResult]
    known: Callable[[Collection[str]], Collection[str]]
    newest: Callable[[str], CachedResult | None]
    latest: Callable[[str], ExecutionRecord | None]
    wrong: Callable[[ExecutionRecord], tuple[Reason, ...]] = lambda _record: ()
    refresh: Callable[[], None] = lambda: None
    display_problem: Callable[[CachedResult], Reason | None] = lambda _hit: None
    renew: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class StepDecision:
    """A verdict and its basis; ``key`` is None while inputs are not known.

    ``fed`` are the names of the components that come from other steps.
    """

    step: str
    verdict: Verdict
    components: tuple[KeyComponent, ...] = ()
    key: str | None = None
    fed: frozenset[str] = frozenset()

    @property
    def static_key(self) -> str | None:
        """Return the key over the components that do not come from other steps; None while inputs are not known."""
        return None if self.key is None else key_of(self._fixed)

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Return the keys under which a result can be reused, each with its static key: by normal form, and as written.

        Empty while inputs are not known.
        """
        if self.key is None:
            return ()
        fixed = self._fixed
        return (self.key, key_of(fixed)), (raw_key_of(self.components), raw_key_of(fixed))

    @property
    def _fixed(self) -> list[KeyComponent]:
        return [item for item in self.components if item.name not in self.fed]


Upstream = Mapping[StepOutput, Artifact]


@dataclass(slots=True)
class Planner:
    """Decides the steps of one graph under given circumstances, and caches what it computes per step."""

    graph: PipelineGraph
    circumstances: MutableMapping[str, PinnedInputs]
    past: ResultIndex
    forced: Collection[str] = ()
    _fixed: dict[str, tuple[KeyComponent, ...]] = field(default_factory=dict)
    _static: dict[str, str] = field(default_factory=dict)
    _may_have_result: dict[str, bool] = field(default_factory=dict)

    def decide(self, name: str, upstream: Upstream) -> StepDecision:
        """Decide one step, given the artifacts of the outputs that are known so far."""
        step = self.graph.steps[name]
        skipped = self._condition(step)
        if skipped is not None:
            return StepDecision(name, skipped)
        unread = self.circumstances[name].unread
        if unread:
            return StepDecision(name, self._declared(step) or DependsVerdict(_not_read(unread)))
        fixed = self._fixed_components(name)
        feeds = self.graph.feeds[name]
        unknown = [source for source in feeds.values() if source not in upstream]
        if unknown:
            return StepDecision(name, self._early(step, fixed, unknown), fixed)
        fed = [upstream_component(item, upstream[source]) for item, source in feeds.items()]
        components = (*fixed, *fed)
        key = key_of(components)
        return StepDecision(
            name, self._verdict(step, components, key), components, key, frozenset([i.name for i in fed])
        )

    def settle(self, name: str, pinned: PinnedInputs) -> None:
        """Replace a step's circumstances, once the content of all its inputs has been read."""
        self.circumstances[name] = pinned
        self._fixed.pop(name, None)
        self._static.pop(name, None)

    def has_code_of(self, name: str, components: Iterable[KeyComponent]) -> bool:
        """Return whether a record's components have the code and definitions that the step has now.

        That is not known of steps that are not part of the request.
        """
        return name in self.circumstances and _code_digests(self._fixed_components(name)) == _code_digests(components)

    def prefetch_static_keys(self, names: Collection[str]) -> None:
        """Look up once which of these steps can have a result at all; a run, where this changes, does not."""
        keys = {self.static_key(name) for name in names}
        known = self.past.known(keys)
        self._may_have_result |= dict.fromkeys(known, True)
        unknown = {name: key for name in names if (key := self.static_key(name)) not in known}
        raw = {key: raw_key_of(self._fixed_components(name)) for name, key in unknown.items()}
        written = self.past.known(set(raw.values())) if raw else ()
        self._may_have_result |= {key: second in written for key, second in raw.items()}

    def _fixed_components(self, name: str) -> tuple[KeyComponent, ...]:
        """Return the components of a step that do not depend on other steps."""
        if name not in self._fixed:
            step, pinned = self.graph.steps[name], self.circumstances[name]
            self._fixed[name] = fixed_components(step, self.graph.pipeline.code[name], pinned)
        return self._fixed[name]

    def static_key(self, name: str) -> str:
        """Return the key over the components that do not depend on other steps."""
        if name not in self._static:
            self._static[name] = key_of(self._fixed_components(name))
        return self._static[name]

    def _may_exist(self, name: str, fixed: Iterable[KeyComponent]) -> bool:
        static_key = self.static_key(name)
        answer = self._may_have_result.get(static_key)
        return bool(self.past.known([static_key, raw_key_of(fixed)])) if answer is None else answer

    def _condition(self, step: Step) -> SkipVerdict | None:
        text = step.options.when
        if text is None or holds(text, self.circumstances[step.name].values, step.place):
            return None
        return SkipVerdict((Reason.about(ComponentKind.WHEN, f"{text} is false"),))

    def _always(self, step: Step) -> Reason | None:
        if step.name in self.forced:
            return Reason.about(ComponentKind.FORCED, "asked for")
        if step.options.reuse is ReusePolicy.NEVER:
            return Reason.about(ComponentKind.POLICY, "reuse: never")
        if not step.outputs and not step.options.shows and step.options.reuse is not ReusePolicy.KEEP:
            return Reason.about(
                ComponentKind.RESULT, "it has no outputs and no `shows: true`, and such a step always runs"
            )
        return None

    def _declared(self, step: Step) -> Verdict | None:
        """Return the verdict that was requested or declared, independent of the inputs."""
        always = self._always(step)
        return RunVerdict((always,)) if always else self._kept_result(step)

    def _early(self, step: Step, fixed: tuple[KeyComponent, ...], unknown: Iterable[StepOutput]) -> Verdict:
        declared = self._declared(step)
        if declared:
            return declared
        reasons = self._differences(step.name, fixed, with_inputs=False)
        if not self._may_exist(step.name, fixed):
            return RunVerdict(reasons or self._lacking(step.name))
        waits = dict.fromkeys(source.step for source in unknown if source.step is not None)
        return DependsVerdict(reasons or tuple(_upstream(name, "not known yet") for name in waits))

    def _verdict(self, step: Step, components: tuple[KeyComponent, ...], key: str) -> Verdict:
        declared = self._declared(step)
        if declared:
            return declared
        # Every result is recorded with its static key: without a match there is none under the complete key.
        hopeless = self._may_have_result and not self._may_have_result.get(self.static_key(step.name), True)
        result = () if hopeless else self._looked_up(components, key)
        problem = self.past.display_problem(result) if isinstance(result, CachedResult) and step.options.shows else None
        if problem is not None:
            return RunVerdict((problem,))
        if isinstance(result, CachedResult):
            accepted = (Reason.about(ComponentKind.ACCEPTED, result.accepted),) if result.accepted else ()
            return ReuseVerdict(result, accepted or (Reason.about(ComponentKind.UNCHANGED, result.origin.run),))
        return RunVerdict(result or self._differences(step.name, components, with_inputs=True))

    def _looked_up(self, components: tuple[KeyComponent, ...], key: str) -> LookupResult:
        result = self.past.lookup(key)
        if isinstance(result, CachedResult):
            return result
        written = self.past.lookup(raw_key_of(components))
        return written if isinstance(written, CachedResult) else result or written

    def _kept_result(self, step: Step) -> ReuseVerdict | None:
        if step.options.reuse is not ReusePolicy.KEEP:
            return None
        hit = self.past.newest(step.name)
        if hit is None or not {item.name for item in step.outputs} <= {item.name for item in hit.artifacts}:
            return None
        if step.options.shows and self.past.display_problem(hit) is not None:
            return None
        return ReuseVerdict(hit, (Reason.about(ComponentKind.POLICY, "reuse: keep"),))

    def _differences(self, name: str, components: Iterable[KeyComponent], *, with_inputs: bool) -> tuple[Reason, ...]:
        before = self.past.latest(name)
        if before is None:
            return self._lacking(name)
        fed = () if with_inputs else self.graph.feeds[name]
        inputs = {component_name(ComponentKind.INPUT, item) for item in fed}
        reasons = differences(before.components, components, leave_out=inputs)
        return reasons if reasons or not with_inputs else self._lacking(name)

    def _lacking(self, name: str) -> tuple[Reason, ...]:
        """Return why there is no result although nothing changed."""
        before = self.past.latest(name)
        if before is None:
            return (Reason.about(ComponentKind.FIRST_RUN, "no earlier result"),)
        not_kept = Reason.about(ComponentKind.RESULT, "its last result was not kept for reuse", was=before.run)
        return self.past.wrong(before) or (not_kept,)


def differences(
    before: Iterable[KeyComponent], now: Iterable[KeyComponent], leave_out: Collection[str] = ()
) -> tuple[Reason, ...]:
    """Return a reason for each component that was added, removed or changed."""
    old, new = _by_name(before), _by_name(now)
    return tuple(
        Reason(name, _summary(old.get(name)), _summary(new.get(name)))
        for name in dict.fromkeys([*new, *old])
        if name not in leave_out and _digests(old.get(name)) != _digests(new.get(name))
    )


def _not_read(unread: Mapping[str, UnreadFiles]) -> tuple[Reason, ...]:
    return tuple(
        Reason.about(ComponentKind.UNREAD, f"content of {files.text} not read yet ({_size(files.bytes)})", subject=name)
        for name, files in unread.items()
    )


def _size(count: int) -> str:
    return "of unknown size" if count < 0 else size_text(count)


def _code_digests(components: Iterable[KeyComponent]) -> set[tuple[str, str]]:
    return {(item.name, item.digest) for item in components if item.kind in _CODE}


def _by_name(components: Iterable[KeyComponent]) -> dict[ComponentName, list[KeyComponent]]:
    """Group components by name; several may share one, as `import a.b` and `import a.c` do."""
    grouped: dict[ComponentName, list[KeyComponent]] = {}
    for component in components:
        grouped.setdefault(component.name, []).append(component)
    return grouped


def _digests(components: list[KeyComponent] | None) -> list[str]:
    return sorted(component.digest for component in components or ())


def _summary(components: list[KeyComponent] | None) -> str | None:
    return "; ".join(dict.fromkeys(component.summary for component in components)) if components else None


def plan_steps(planner: Planner, selected: Collection[str]) -> dict[str, StepDecision]:
    """Decide every selected step in order; steps after one that runs may depend on its outputs."""
    planner.prefetch_static_keys(selected)
    decisions: dict[str, StepDecision] = {}
    upstream: dict[StepOutput, Artifact] = {}
    for name in planner.graph.order:
        if name not in selected:
            continue
        skipped = [need for need in planner.graph.pipeline.needs[name] if _is_skipped(decisions.get(need))]
        if skipped:
            reasons = tuple(_upstream(need, "skipped") for need in skipped)
            decisions[name] = StepDecision(name, SkipVerdict(reasons))
            continue
        decisions[name] = decision = planner.decide(name, upstream)
        if isinstance(decision.verdict, ReuseVerdict):
            for artifact in decision.verdict.hit.artifacts:
                upstream[StepOutput(artifact.name, name)] = artifact
    return {step.name: decisions[step.name] for step in planner.graph.pipeline.steps if step.name in decisions}


def _upstream(step: str, state: str) -> Reason:
    return Reason.about(ComponentKind.UPSTREAM, state, subject=step)


def _is_skipped(decision: StepDecision | None) -> bool:
    return decision is not None and isinstance(decision.verdict, SkipVerdict)
