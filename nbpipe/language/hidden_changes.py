"""What a notebook run from top to bottom in one kernel would show a step, and its pipeline does not.

The notebook is read once in its order, as one kernel would execute it: what a cell or a step changes in between, and a
later step reads without being handed it, is a warning or an error of the reader.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter

from nbpipe.errors import BadPipeline, Refused, SourceLocation
from nbpipe.language.ast_nodes import every_node
from nbpipe.language.callables import Callables
from nbpipe.language.carried_functions import carried_globals
from nbpipe.language.change_warnings import ChangeEvent, PipelineText, change_warning
from nbpipe.language.definitions import AnalysedDefinition, OrdinaryCell, SharedDefinitions
from nbpipe.language.name_analysis import name_usage
from nbpipe.language.name_state import NameState
from nbpipe.language.normal_form import normal_form_of
from nbpipe.language.object_effects import NOTHING, CallEffects, Origin, Origins
from nbpipe.language.object_flow import ObjectFlow, call_effects, imported_roots
from nbpipe.language.process_state import FOLDER
from nbpipe.language.shared_inputs import (
    SharedInputs,
    change_of_one,
    compared_by_identity,
    comparison,
    shared_inputs,
)
from nbpipe.language.source_text import lines_of
from nbpipe.language.step_analysis import StepAnalysis
from nbpipe.model import Input, Parameter, PipelineWarning, Step, StepOutput

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MANY_PARTS = ("os", "sys")
_BUILTINS = frozenset(dir(builtins))
_NUMBERS = ("bool", "int", "float", "str")


@dataclass(frozen=True, slots=True)
class ChangedElsewhere:
    """The findings, by step: ``reported`` are the places of inputs about which nothing else needs to be reported."""

    errors: tuple[Refused, ...]
    warnings: Mapping[str, tuple[PipelineWarning, ...]]
    reported: Mapping[str, frozenset[SourceLocation]]


@dataclass(frozen=True, slots=True)
class _Own:
    """What the cells of a step read so far have bound, by name, and how many changes there were until then."""

    count: int = 0
    names: Mapping[str, Origins] = field(default_factory=dict)


# Names, each with what bound it last and the origins of what it held when its step was over.
_Globals = dict[str, tuple[ChangeEvent | None, Origins]]


@dataclass(slots=True)
class _Walk:
    """The state of the kernel after the cells read so far: what names hold, and what has changed since."""

    shared: SharedDefinitions
    analyses: Mapping[str, StepAnalysis]
    steps: Mapping[str, Step]
    makers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    state: NameState = field(default_factory=lambda: NameState({}))
    callables: Callables = field(default_factory=Callables)
    events: dict[Origin, list[ChangeEvent]] = field(default_factory=dict)
    bound: dict[str, ChangeEvent] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    holds: dict[Origin, Origins] = field(default_factory=dict)
    roots: dict[str, Origins] = field(default_factory=dict)
    own: dict[str, _Own] = field(default_factory=dict)
    count: int = 0
    findings: dict[tuple[str, str, int], dict[str, None]] = field(default_factory=dict)
    reported: dict[tuple[str, str, int], ChangeEvent] = field(default_factory=dict)
    errors: dict[tuple[str, str], Refused] = field(default_factory=dict)
    touched: dict[str, set[str]] = field(default_factory=dict)
    carried: dict[tuple[str, str], _Globals] = field(default_factory=dict)

    @property
    def pipeline(self) -> PipelineText:
        """Return what warnings say about the notebook besides the change."""
        return PipelineText(self.steps, self.shared)

    # The notebook in its order

    def ordinary(self, cell: OrdinaryCell) -> None:
        loose = {id(statement) for statement in cell.loose}
        for statement in cell.statements:
            flow = ObjectFlow(self.callables, self.state, place=str(cell.number), shown=cell.statements[-1])
            flow.run([statement])
            shares = id(statement) not in loose
            if not cell.whole:
                self._log(flow, "", cell.number, cell.lines, defines=shares)
            if shares:
                for name, _ in flow.rebinds:
                    value = getattr(statement, "value", None)
                    # Numbers and texts cannot be changed in place.
                    fixed = isinstance(value, ast.Constant | ast.UnaryOp)
                    known = self.state.names[name]
                    self.roots[name] = known if isinstance(statement, ast.Import | ast.ImportFrom) else NOTHING
                    self._hold(name, NOTHING if fixed else known | {("definition", name)})

    def _hold(self, name: str, origins: Origins) -> None:
        """Bind a name to what later steps get under this origin."""
        self.state.names[name] = origins
        kind = self.state.kinds.get(name)
        if kind is not None:
            # What is only selected from other objects is not of their kind.
            own = [each for each in origins if each[0] == "made" or each[1].rpartition(".")[2] == name]
            self.callables.kinds.update(dict.fromkeys(own, kind))

    def piece(self, step: Step, at: int) -> None:
        """Read one cell of a step."""
        for item in step.inputs:
            self._check_input(step, item)
        if at == 0:
            self._check_definitions(step)
            for item in step.inputs:
                self._hand_in(step, item)
        together = self._shared_inputs(step)
        seeded = {origin[1] for origin in self.events if origin[0] == "random"}
        body = self.analyses[step.name].trees[at].body
        # A continuation may stand above the cell that it continues.
        if step.name in self.own:
            self._check_own(step, body)
        flow = ObjectFlow(self.callables, self.state, place=f"{step.name}.{at}", shown=body[-1] if body else None)
        flow.run(body)
        for library in sorted(flow.draws & seeded):
            self._found(step, f"random:{library}", self.events["random", library])
        piece = step.pieces[at]
        lines = lines_of(piece.source) if flow.changes or flow.rebinds else ()
        self._log(flow, step.name, piece.cell, lines, defines=False)
        self._check_process(step, body)
        for pair in together:
            self._check_shared(step, piece.cell, pair, flow, body)
        self._check_carried(step)
        if at == len(step.pieces) - 1:
            self._finish(step, flow)
            return
        bound = {name for name, _ in flow.rebinds} | self.own.get(step.name, _Own()).names.keys()
        self.own[step.name] = _Own(self.count, {name: self.state.names.get(name, NOTHING) for name in bound})

    def _hand_in(self, step: Step, item: Input) -> None:
        maker = self.maker(step, item)
        if maker is None:
            self.state.names[item.name] = frozenset([("input", f"{step.name}.{item.name}")])
            return
        origin = ("output", ".".join(maker))
        # An alias that the plain run has, too, goes on.
        if origin not in self.state.names.get(item.name, NOTHING):
            self.state.names[item.name] = frozenset([origin])
            self.state.forget(item.name)
            if origin in self.callables.kinds:
                self.state.kinds[item.name] = self.callables.kinds[origin]

    def _finish(self, step: Step, flow: ObjectFlow) -> None:
        self.done[step.name] = self.count
        for name_of_output, names in carried_globals(step, self.analyses[step.name].trees).items():
            self.carried[step.name, name_of_output] = {
                name: (self.bound.get(name), self.state.names.get(name, NOTHING)) for name in sorted(names)
            }
        for output in step.outputs:
            origin = ("output", f"{step.name}.{output.name}")
            own = self.state.names.get(output.name, NOTHING)
            self.holds[origin] = own | self.state.parts.get(output.name, NOTHING)
            self._hold(output.name, own | {origin})
            node = next((node for name, node in reversed(flow.rebinds) if name == output.name), ast.Pass())
            self.bound[output.name] = ChangeEvent(step.name, step.pieces[-1].cell, node, verb="rebinds")

    def _log(self, flow: ObjectFlow, step: str, cell: int, lines: Sequence[str], *, defines: bool) -> None:
        for change in flow.changes:
            # Steps below get a setting that seeds them.
            if change.restores or (defines and change.origin[0] == "random"):
                self.events.pop(change.origin, None)
                continue
            number = getattr(change.node, "lineno", 0)
            text = lines[number - 1].strip()[:80] if 0 < number <= len(lines) else ""
            verb = "seeds" if change.origin[0] == "random" else "changes" if change.known else "may change"
            self.count += 1
            event = ChangeEvent(step, cell, change.node, text, verb, defines, self.count, change.certain)
            self.events.setdefault(change.origin, []).append(event)
            if step:
                self.touched.setdefault(step, set()).add(change.origin[1])
        for name, node in flow.rebinds:
            number = getattr(node, "lineno", 0)
            text = lines[number - 1].strip()[:80] if 0 < number <= len(lines) else ""
            event = ChangeEvent(step, cell, node, text, "rebinds", defines)
            self.bound[name] = event

    # What a step reads

    def maker(self, step: Step, item: Input) -> tuple[str, str] | None:
        """Return the step and the output that an input comes from, if the declarations say so unambiguously."""
        source = item.source
        if not isinstance(source, StepOutput):
            return None
        if source.step is not None:
            maker = self.steps.get(source.step)
            return (maker.name, source.output) if maker and maker.output(source.output) else None
        makers = [name for name in self.makers.get(source.output, ()) if name != step.name]
        return (makers[0], source.output) if len(makers) == 1 else None

    def _check_input(self, step: Step, item: Input) -> None:
        maker = self.maker(step, item)
        if maker is None or maker[0] not in self.done:
            return
        origin, done = ("output", ".".join(maker)), self.done[maker[0]]
        events = [
            event for each in (origin, *sorted(self.holds.get(origin, NOTHING))) for event in self.events.get(each, ())
            if event.number > done and not self._is_chosen(item, event)
        ]  # fmt: skip
        last = self.bound.get(maker[1])
        if last is not None and last.step != maker[0] and not self._is_chosen(item, last):
            events.append(last)
        self._found(step, ":".join(origin), events)

    def _is_chosen(self, item: Input, event: ChangeEvent) -> bool:
        """Return whether the declaration names its producer, of several steps that have this output."""
        source = item.source
        if not isinstance(source, StepOutput) or source.step is None or not event.step:
            return False
        return self.steps[event.step].output(source.output) is not None

    def _check_own(self, step: Step, body: Sequence[ast.stmt]) -> None:
        """Check what a cell of a step reads that cells above it have bound: other cells may stand between them."""
        own, used = self.own.get(step.name, _Own()), name_usage(body)
        read = used.needs | ({output.name for output in step.outputs} - used.binds)
        for name in sorted(read & own.names.keys()):
            events = [event for origin in sorted(own.names[name]) for event in self.events.get(origin, ())
                      if event.number > own.count]  # fmt: skip
            last = self.bound.get(name)
            if last is not None and last.step != step.name:
                events.append(last)
            self._found(step, f"own:{name}", events)

    def _shared_inputs(self, step: Step) -> list[SharedInputs]:
        """Return the inputs that are one object in one kernel, or share one, but come from different steps."""
        makers = {item.name: maker for item in step.inputs if (maker := self.maker(step, item)) is not None}
        if len(makers) < 2:
            return []
        state = self.state
        held = {name: state.names.get(name, NOTHING) | state.parts.get(name, NOTHING) for name in makers}
        return shared_inputs(makers, held)

    def _check_shared(
        self, step: Step, cell: int, pair: SharedInputs, flow: ObjectFlow, body: Sequence[ast.stmt]
    ) -> None:
        node = change_of_one(pair, flow.changes, self.analyses[step.name].identifiers)
        verb = "changes one of them" if node is not None else "compares objects by identity"
        node = node or comparison(pair, body, by_identity=self._has_identities)
        if node is not None:
            what = ":".join(("shared", *pair.names, *pair.first[1], *pair.second[1]))
            self._report(what, step, ChangeEvent(step.name, cell, node, verb=verb))

    @property
    def _has_identities(self) -> bool:
        """Return whether the notebook has a class whose instances are equal only to themselves."""
        return any(map(compared_by_identity, self.callables.classes))

    def _check_carried(self, step: Step) -> None:
        """Check the variables that functions among the inputs read: in one kernel they have their latest values."""
        makers = [maker for item in step.inputs if (maker := self.maker(step, item)) in self.carried]
        for maker in filter(None, makers):
            for name, (last, origins) in self.carried[maker].items():
                events = [event for origin in sorted(origins) for event in self.events.get(origin, ())
                          if event.number > self.done[maker[0]]]  # fmt: skip
                now = self.bound.get(name)
                events += [now] if now is not None and now is not last else []
                for event in events:
                    self._report(f"carried:{':'.join((*maker, name))}", step, event)

    def _check_definitions(self, step: Step) -> None:
        code = self.analyses[step.name].code
        for name in code.parameters:
            events = list(self.events.get(("parameter", name), ()))
            if name in self.bound:
                events.append(self.bound[name])
            self._found(step, f"parameter:{name}", events)
        inputs = {item.name for item in step.inputs}
        reached = {name: item for item in code.definitions for name in item.names if name not in inputs}
        for name in sorted(reached):
            items = self.shared.by_name.get(name)
            events = [event for event in self.events.get(("definition", name), ())
                      if not (event.defines and _is_named(event.node, reached))]  # fmt: skip
            last = self.bound.get(name)
            if items and last is not None and not last.defines and not _is_same(last.node, items):
                events.append(last)
            if items and items[0].definition.is_import:
                # What ordinary cells set in modules are settings, which are told apart.
                roots = self.roots.get(name, NOTHING)
                events = [event for root in sorted(roots) for event in self.events.get(root, ())
                          if not event.defines and self._uses(step, root[1], event)]  # fmt: skip
            if items and events:
                self._definition_found(step, name, items[0], events)

    def _check_process(self, step: Step, body: Sequence[ast.stmt]) -> None:
        """Check what one process has once: its folder, its built-in names, and modules that the step imports itself."""
        own = self.touched.get(step.name, set())
        for origin in [each for each in self.events if each[0] == "process"]:
            if origin == FOLDER or origin[1] not in own:
                self._found(step, ":".join(origin), self.events[origin])
        changed = {root for kind, root in self.events if kind == "module"}
        rebound = self.bound.keys() & _BUILTINS & self.analyses[step.name].identifiers
        if not changed and not rebound:
            return
        nodes = [node for statement in body for node in every_node(statement)]
        roots = {
            root for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for root in imported_roots(node)
        }
        for root in sorted(roots):
            events = [each for each in self.events.get(("module", root), ())
                      if not each.defines and self._uses(step, root, each)]  # fmt: skip
            self._found(step, f"module:{root}", events)
        stored = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        own = stored.union(item.name for item in step.inputs)
        read = {node.id for node in nodes if isinstance(node, ast.Name) and node.id in rebound} - own
        for name in sorted(read):
            if not self.bound[name].defines:
                self._found(step, f"builtin:{name}", [self.bound[name]])

    def _uses(self, step: Step, module: str, event: ChangeEvent) -> bool:
        """Return whether a step uses what another one changes in a module, of those modules that have many parts."""
        if module not in _MANY_PARTS:
            return True
        changed = next((part for part in ast.walk(event.node) if isinstance(part, ast.Attribute)
                        and isinstance(part.value, ast.Name) and part.value.id in _MANY_PARTS), None)  # fmt: skip
        if changed is None:
            return True
        code = self.analyses[step.name]
        attributes = {part.attr for tree in code.trees for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
        attributes.update(*(item.identifiers for name in code.code.definitions for own in name.names
                            for item in self.shared.by_name.get(own, ())))  # fmt: skip
        read = changed.attr.replace("set", "get")
        return not attributes.isdisjoint((changed.attr, read)) or (changed.attr == "environ" and "getenv" in attributes)

    def _definition_found(self, step: Step, name: str, item: AnalysedDefinition, events: Sequence[ChangeEvent]) -> None:
        others = [event for event in events if event.step != step.name]
        if not others:
            return
        is_certain = any(event.certain for event in others)
        if not is_certain or not item.constant or not self._is_read_directly(step, name):
            self._found(step, f"definition:{name}", others)
            return
        event = others[-1]
        line = getattr(event.node, "lineno", None)
        where = f"cell {event.cell}" + (f", line {line}" if line else "") + (f": {event.text}" if event.text else "")
        who = f"step `{event.step}` changes it in {where}" if event.step else f"it is changed in {where}"
        message = f"`{name}` is defined in cell {item.definition.cell}, and {who}; `{step.name}` reads it"
        hint = (
            f"Each step gets definitions as they are written. Declare `-o {name}` in `{event.step}` and "
            f"`-i {name}` in `{step.name}`." if event.step else
            "A step gets definitions as they are written. Compute the value in a step and declare it as an "
            "output, or mark the whole cell with `#| shared`."
        )  # fmt: skip
        self.errors.setdefault((step.name, name), BadPipeline(message, hint, step.place))

    def _is_read_directly(self, step: Step, name: str) -> bool:
        """Return whether anything else reads a constant than the functions that change it, as with a cache."""
        for tree in self.analyses[step.name].trees:
            if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree)):
                return True
        readers = [
            called for item in self.analyses[step.name].code.definitions for own in item.names
            for called in self.shared.by_name.get(own, ()) if name in called.now | called.later | called.quiet
        ]  # fmt: skip
        return any(not self._changes(reader, name) for reader in readers)

    def _changes(self, item: AnalysedDefinition, name: str) -> bool:
        effects: Iterator[CallEffects] = (
            call_effects(self.callables, function, owner)
            for own in item.definition.names for function, owner in self.callables.functions_of(own)
        )  # fmt: skip
        return any(name in effect.rebinds or ("name", name) in effect.changes for effect in effects)

    def _found(self, step: Step, what: str, events: Sequence[ChangeEvent]) -> None:
        for event in events:
            if event.step != step.name:
                self._report(what, step, event)

    def _report(self, what: str, reader: Step, event: ChangeEvent) -> None:
        key = (what, event.step, event.cell)
        self.findings.setdefault(key, {})[reader.name] = None
        self.reported.setdefault(key, event)


def changed_elsewhere(
    order: Mapping[int, int],
    analyses: Mapping[str, StepAnalysis],
    shared: SharedDefinitions,
    parameters: Sequence[Parameter],
) -> ChangedElsewhere:
    """Return what steps would see changed if the notebook were run from top to bottom in one kernel.

    ``order`` are the positions of the cells by their numbers.
    """
    steps = {name: analysis.step for name, analysis in analyses.items()}
    walk = _Walk(shared, analyses, steps)
    for step in steps.values():
        for output in step.outputs:
            walk.makers[output.name].append(step.name)
    for cell in shared.cells:
        for statement in cell.statements:
            if isinstance(statement, _FUNCTIONS):
                walk.callables.define(statement)
    for item in parameters:
        walk.state.names[item.name] = NOTHING if item.kind in _NUMBERS else frozenset([("parameter", item.name)])
    for _, read in sorted(_readings(walk, order), key=itemgetter(0)):
        # Code that is nested too deeply is reported where it is compiled.
        with suppress(RecursionError):
            read()
    warnings: dict[str, list[PipelineWarning]] = defaultdict(list)
    for key, readers in walk.findings.items():
        warnings.setdefault(next(iter(readers)), []).append(
            change_warning(walk.pipeline, key[0], list(readers), walk.reported[key])
        )
    return ChangedElsewhere(
        tuple(walk.errors.values()),
        {name: tuple(each) for name, each in warnings.items()},
        {name: _reported(walk, step) for name, step in steps.items()},
    )


def _readings(walk: _Walk, order: Mapping[int, int]) -> Iterator[tuple[int, Callable[[], None]]]:
    """Yield what reads each cell, with the cell's position."""
    for cell in walk.shared.cells:
        yield order[cell.number], partial(walk.ordinary, cell)
    for step in walk.steps.values():
        for at, piece in enumerate(step.pieces[: len(walk.analyses[step.name].trees)]):
            yield order[piece.cell], partial(walk.piece, step, at)


def _reported(walk: _Walk, step: Step) -> frozenset[SourceLocation]:
    """Return the places of inputs that a step does not change, or whose change is told with its readers."""
    makers = {item.place: ".".join(maker) for item in step.inputs if (maker := walk.maker(step, item))}
    reported = {what.partition(":")[2] for what, changer, _ in walk.findings if changer == step.name}
    touched = walk.touched.get(step.name, set())
    return frozenset(place for place, source in makers.items() if source in reported or source not in touched)


def _is_named(node: ast.AST, reached: Collection[str]) -> bool:
    """Return whether a change is made by a definition that the step gets as well."""
    return isinstance(node, _FUNCTIONS) and node.name in reached


def _is_same(node: ast.AST, items: Sequence[AnalysedDefinition]) -> bool:
    """Return whether a statement binds what a definition binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return any(item.definition.is_import for item in items)
    return isinstance(node, _FUNCTIONS) and normal_form_of([node]).normal in {item.definition.normal for item in items}
