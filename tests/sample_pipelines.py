"""Pipelines for tests of planning and of runs: cells read as a notebook's, without a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from stored import artifact_of

from nbpipe.errors import Refused
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Artifact, CachedResult, Cell, ExecutionRecord, KeyComponent, Reason, ResultOrigin, Status
from nbpipe.planning.fingerprint import PinnedInputs
from nbpipe.planning.graph import PipelineGraph, build_graph
from nbpipe.planning.plan import LookupResult, Planner, ResultIndex, StepDecision, plan_steps

PARAMETERS = frozenset({"parameters"})


def cells(*sources: str, parameters: str = "") -> tuple[Cell, ...]:
    """Get code cells numbered from 1, the parameters first if there are any."""
    listed = [Cell(1, parameters, tags=PARAMETERS)] if parameters else []
    return (*listed, *(Cell(len(listed) + place, source) for place, source in enumerate(sources, 1)))


def no_datastores() -> NoReturn:
    """Fail: these notebooks have no inputs in datastores."""
    raise AssertionError("it asks for a datastore")


def unseen(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing of a transfer."""
    return nullcontext(lambda _count: None)


def linked(
    *sources: str, parameters: str = "", values: Mapping[str, Any] | None = None
) -> tuple[PipelineGraph, list[Refused]]:
    """Get the graph of these cells and what is wrong with it."""
    reading = parse_cells(cells(*sources, parameters=parameters))
    settled = {item.name: item.default for item in reading.parameters} | dict(values or {})
    graph, errors = build_graph(reading, settled, "python3")
    return graph, [*reading.errors, *errors]


def graph_of(*sources: str, parameters: str = "") -> PipelineGraph:
    """Get the graph of cells that fit together."""
    graph, errors = linked(*sources, parameters=parameters)
    assert errors == []
    return graph


def artifact(name: str, content: str = "1", *, format: str = "json", basename: str | None = None) -> Artifact:
    """Get an artifact of this content."""
    return artifact_of(name, format, f"blake3:{content}", len(content), basename=basename or "")


def hit(key: str, step: str, *outputs: Artifact, run: str = "r1") -> CachedResult:
    """Get a result that may be reused."""
    return CachedResult(key, f"{run}-{step}", ResultOrigin(run, step), 2.5, f"/runs/{step}.ipynb", outputs)


@dataclasses.dataclass(slots=True)
class Memory:
    """A history in memory: results by key, records by step; ``carry_out`` fills it as a run would."""

    offered: dict[str, CachedResult] = dataclasses.field(default_factory=dict)
    static: set[str] = dataclasses.field(default_factory=set)
    records: dict[str, ExecutionRecord] = dataclasses.field(default_factory=dict)
    lookups: list[str] = dataclasses.field(default_factory=list)

    def past(self) -> ResultIndex:
        """Get what a planner asks."""
        return ResultIndex(self._lookup, self._known, self._newest, self.records.get)

    def _lookup(self, key: str) -> LookupResult:
        self.lookups.append(key)
        return self.offered.get(key, ())

    def _known(self, keys: Collection[str]) -> set[str]:
        return self.static & set(keys)

    def _newest(self, step: str) -> CachedResult | None:
        record = self.records.get(step)
        return hit(record.key or "", step, *record.artifacts) if record else None

    def put(self, decision: StepDecision, *outputs: Artifact, run: str = "r1", offered: bool = True) -> None:
        """Keep a step's result."""
        record = ExecutionRecord(
            f"{run}-{decision.step}", run, decision.step, 0, Status.SUCCEEDED, attempts=1, seconds=2.5,
            reasons=decision.verdict.reasons, components=decision.components, key=decision.key, artifacts=outputs,
        )  # fmt: skip
        self.records[decision.step] = record
        if offered and decision.key and decision.static_key:
            self.offered[decision.key] = hit(decision.key, decision.step, *outputs, run=run)
            self.static.add(decision.static_key)


Content = Callable[[str, str], str]


def same(step: str, output: str) -> str:
    """Get a content that depends on nothing but the output's name."""
    return f"{step}.{output}"


@dataclasses.dataclass(slots=True)
class Notebook:
    """Cells with a history: planned and carried out step by step, each time as they are written then."""

    sources: list[str]
    parameters: str = ""
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    forced: tuple[str, ...] = ()
    memory: Memory = dataclasses.field(default_factory=Memory)
    python: str = "CPython 3.11.7 linux"

    def planner(self) -> Planner:
        """Get a planner for the cells as they are."""
        graph = graph_of(*self.sources, parameters=self.parameters)
        settled = {item.name: item.default for item in graph.pipeline.parameters} | self.values
        around = {name: PinnedInputs(self.python, settled) for name in graph.steps}
        return Planner(graph, around, self.memory.past(), self.forced)

    def plan(self, *steps: str) -> dict[str, StepDecision]:
        """Plan the steps, all if none is named."""
        planner = self.planner()
        return plan_steps(planner, steps or tuple(planner.graph.steps))

    def words(self, *steps: str) -> dict[str, str]:
        """Get the plan's verdicts as words."""
        return {name: word(decision) for name, decision in self.plan(*steps).items()}

    def carry_out(self, content: Content = same) -> dict[str, str]:
        """Decide each step when its inputs are known, keep what runs, and get the verdicts as words."""
        planner = self.planner()
        upstream: dict[Any, Artifact] = {}
        found: dict[str, str] = {}
        for name in planner.graph.order:
            if any(found[need] == "skip" for need in planner.graph.pipeline.needs[name]):
                found[name] = "skip"
                continue
            decision = planner.decide(name, upstream)
            found[name] = word(decision)
            for made in self._made(planner.graph, decision, content):
                upstream |= dict.fromkeys(_sources(planner.graph, name, made.name), made)
        return found

    def _made(self, graph: PipelineGraph, decision: StepDecision, content: Content) -> Iterable[Artifact]:
        reused = getattr(decision.verdict, "hit", None)
        if reused is not None:
            return tuple(reused.artifacts)
        if word(decision) != "run":
            return ()
        step = graph.steps[decision.step]
        outputs = tuple(artifact(item.name, content(step.name, item.name)) for item in step.outputs)
        self.memory.put(decision, *outputs)
        return outputs


def _sources(graph: PipelineGraph, step: str, output: str) -> list[Any]:
    feeds = (source for of_step in graph.feeds.values() for source in of_step.values())
    return [source for source in feeds if source.step == step and source.output == output]


def word(decision: StepDecision) -> str:
    """Get a verdict as LANGUAGE's word."""
    return type(decision.verdict).__name__.removesuffix("Verdict").lower()


def reasons(decision: StepDecision) -> dict[str, Reason]:
    """Get a verdict's reasons by component."""
    return {reason.component: reason for reason in decision.verdict.reasons}


def component(components: Iterable[KeyComponent], name: str) -> KeyComponent:
    """Get the one component of that name."""
    (found,) = [item for item in components if item.name == name]
    return found
