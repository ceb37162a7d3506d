"""What each cell of a plain notebook does: what it reads, binds and changes, what it shares, what keeps it as it is."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nbpipe.errors import BadPipeline
from nbpipe.language.callables import Callables
from nbpipe.language.definitions import AnalysedDefinition, SharedDefinitions
from nbpipe.language.file_references import assigned_paths, file_references
from nbpipe.language.mutation_analysis import changed_in_place, outside_functions
from nbpipe.language.name_analysis import NameUsage, magic_texts, name_usage
from nbpipe.language.name_state import NameState
from nbpipe.language.object_effects import NOTHING, Origins
from nbpipe.language.object_flow import ObjectFlow
from nbpipe.language.qualified_names import root_of
from nbpipe.proposal.suspected_changes import GENERATORS, sharing, suspected_changes

# Pseudo-names for what steps cannot hand on: the state of a library's random numbers, and files.
RANDOM = "random numbers of "
FILE = "file "
_MOVABLE_MAGICS = frozenset({"matplotlib", "config", "load_ext", "reload_ext", "autoreload", "precision"})
_KEPT_MAGICS = frozenset({"time", "timeit"})
_DYNAMIC = frozenset({"exec", "eval", "globals", "locals"})
_ASKING = frozenset({"input", "raw_input", "getpass"})
_PLOTTING = frozenset({"matplotlib", "pylab", "seaborn", "plotly", "altair", "bokeh", "folium", "IPython", "graphviz"})
# What these return exists only in the kernel that called them.
_FLEETING = frozenset(
    {"iter", "zip", "map", "filter", "enumerate", "reversed", "open", "connect", "cursor", "urlopen", "Thread", "Lock",
     "Pool", "Popen", "socket", "Session", "tqdm", "reader", "writer", "subplots", "subplot", "figure", "gca", "gcf",
     "add_subplot", "add_axes", "axes", "twinx", "plot", "scatter", "imshow", "hist", "bar", "barh", "errorbar",
     "contour", "contourf", "pcolormesh", "plot_surface", "quiver", "streamplot", "colorbar", "legend", "text",
     "annotate", "FuncAnimation"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CellTraits:
    """One cell as a possible step.

    ``moved`` are the statements that go to a cell of their own above it, ``code`` are the others. ``fleeting`` names
    cannot be outputs. ``results`` are the names that the code binds, in order. ``resets`` are random numbers that a
    cell of settings seeds. ``entangled`` names are changed together, because their objects contain each other;
    ``drawn`` are generators of random numbers.
    """

    number: int
    moved: tuple[ast.stmt, ...] = ()
    code: tuple[ast.stmt, ...] = ()
    reads: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    fleeting: frozenset[str] = frozenset()
    results: tuple[str, ...] = ()
    obstacle: str = ""
    plots: bool = False
    calls: bool = False
    resets: frozenset[str] = frozenset()
    entangled: frozenset[str] = frozenset()
    drawn: frozenset[str] = frozenset()

    @property
    def writes(self) -> frozenset[str]:
        """Return the names that mean something else after the cell."""
        return self.binds | self.changes


@dataclass(frozen=True, slots=True)
class _Effects:
    """The names whose objects code changes, those of them that it changes together, and the random numbers it uses.

    ``random`` tells whether it continues them; only random numbers that the notebook seeds count.
    """

    changes: frozenset[str]
    entangled: frozenset[str]
    random: Mapping[str, bool]


@dataclass(slots=True)
class TraitReader:
    """Reads cells in the notebook's order, as one kernel would execute them."""

    shared: SharedDefinitions
    callables: Callables = field(default_factory=Callables)
    names: dict[str, Origins] = field(default_factory=dict)
    parts: dict[str, Origins] = field(default_factory=dict)
    seeded: set[str] = field(default_factory=set)
    generators: set[str] = field(default_factory=set)
    fleeting: set[str] = field(default_factory=set)
    paths: dict[str, str] = field(default_factory=dict)
    keeps: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _used: Counter[str] = field(default_factory=Counter)
    _spoiled: dict[str, bool] = field(default_factory=dict)

    def read_all(self) -> dict[int, CellTraits]:
        """Return the traits of all cells that could be parsed, by number."""
        for cell in self.shared.cells:
            usage = name_usage(cell.statements)
            self._used.update(usage.early | usage.later | usage.unsure | usage.mentioned)
            for statement in cell.statements:
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    self.callables.define(statement)
        return {cell.number: self._cell(cell.number, cell.statements, cell.loose) for cell in self.shared.cells}

    def is_definition(self, name: str) -> bool:
        """Return whether steps can get a name as a definition."""
        if name not in self._spoiled:
            # For definitions that need each other.
            self._spoiled[name] = False
            try:
                items = self.shared.find(name)
                self._spoiled[name] = not items or any(map(self._is_computed, items))
            except BadPipeline:
                self._spoiled[name] = True
        return not self._spoiled[name]

    def _is_computed(self, item: AnalysedDefinition) -> bool:
        """Return whether a value is built from what cells compute or change."""
        if not item.constant and not item.definition.is_value:
            return False
        return any(
            not self.is_definition(name) if name in self.shared.by_name else name in self.shared.explored
            for name in item.now | item.later
        )

    # One cell

    def _cell(self, number: int, statements: Sequence[ast.stmt], loose: Sequence[ast.stmt]) -> CellTraits:
        moved, code, obstacle = self._split(statements, {id(each) for each in loose})
        seeded = self._follow(moved, number).random
        if not code:
            return CellTraits(number, tuple(moved), resets=frozenset(seeded))
        usage = name_usage(code)
        # Definitions that cannot be moved out are values of the step.
        self._spoiled |= dict.fromkeys(usage.binds & self.shared.by_name.keys(), True)
        reads = self._closed(usage.early | (usage.later - usage.binds) | usage.unsure)
        obstacle = obstacle or self._obstacle(code, usage)
        self._note(code)
        effects = self._follow(code, number)
        written, opened = self._files(statements, code, usage)
        binds = usage.binds | usage.assigned | effects.random.keys() | written
        reads |= {name for name, continued in effects.random.items() if continued} | opened
        results = _results(code)
        fleeting = frozenset(name for name in binds if name in self.fleeting)
        return CellTraits(
            number, tuple(moved), tuple(code), frozenset(reads - self._own_definitions(moved)), frozenset(binds),
            effects.changes - binds, fleeting, results, obstacle, self._plots(code),
            any(isinstance(node, ast.Call) for each in code for node in ast.walk(each)),
            entangled=effects.entangled,
            drawn=frozenset(self.generators & (usage.early | usage.later | usage.unsure)),
        )  # fmt: skip

    def _obstacle(self, code: Sequence[ast.stmt], usage: NameUsage) -> str:
        """Return why nbpipe cannot know what code does, or why it cannot run in a step."""
        own = {**self.shared.names.functions, **self.shared.names.classes}
        used = [own[name] for name in sorted(usage.early | usage.later) if name in own]
        called = {root_of(node) for node in _calls([*code, *used])} - self.shared.by_name.keys()
        if called & _DYNAMIC:
            return "its code is not all in its text (exec, eval, globals, locals)"
        if called & _ASKING:
            return "it asks at the keyboard, which no step can"
        return "it has an import of all names" if usage.stars else ""

    def _files(
        self, statements: Sequence[ast.stmt], code: Sequence[ast.stmt], usage: NameUsage
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return the files that the code writes and reads, itself or in functions that it uses, as pseudo-names."""
        self.paths = assigned_paths(statements, self.paths)
        functions = self.shared.names.functions
        used = [functions[name] for name in sorted(usage.early | usage.later) if name in functions]
        found = file_references([*code, *used], self.paths)
        written = frozenset(FILE + each.path for each in found if each.writes)
        return written, frozenset(FILE + each.path for each in found if not each.writes) - written

    def _own_definitions(self, moved: Iterable[ast.stmt]) -> frozenset[str]:
        return name_usage(moved).binds

    def _split(self, statements: Sequence[ast.stmt], loose: set[int]) -> tuple[list[ast.stmt], list[ast.stmt], str]:
        """Return the statements to share, the others, and what keeps the cell from being a step."""
        obstacle = ""
        staying = [each for each in statements if id(each) in loose or not self._is_shared(each)]
        magics = [each for each in staying if _magic(each)]
        for each in magics:
            word = _magic(each)
            if word in _MOVABLE_MAGICS:
                staying.remove(each)
            elif word not in _KEPT_MAGICS:
                obstacle = obstacle or f"it runs `{word}`"
        if not any(not isinstance(each, ast.Expr) or not isinstance(each.value, ast.Constant) for each in staying):
            return list(statements), [], ""
        own = name_usage(staying).binds
        while True:
            held = [each for each in statements if each not in staying and not self._moves(each, own, statements)]
            if not held:
                break
            staying += held
            own = name_usage(staying).binds
        code = [each for each in statements if each in staying]
        return [each for each in statements if each not in code], code, obstacle

    def _is_shared(self, statement: ast.stmt) -> bool:
        """Return whether what a definition or setting binds is the same everywhere in the notebook."""
        names = name_usage([statement]).binds
        return all(name == "*" or self.is_definition(name) for name in names)

    def _moves(self, statement: ast.stmt, own: frozenset[str], statements: Sequence[ast.stmt]) -> bool:
        """Return whether a definition can stand above the rest of its cell, and is of use there."""
        if len(statements) == 1:
            return True
        usage = name_usage([statement])
        is_function = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        # What a function needs when it is called need not be there when it is defined.
        needed = usage.early if is_function else usage.needs | usage.unsure
        if any(name in self.names and not self.is_definition(name) for name in needed):
            return False
        if usage.binds & own or needed & own or not _stands_alone(statement, statements):
            return False
        if is_function or not usage.binds:
            return not _seeds(statement)
        here = name_usage(statements)
        elsewhere = {name for name in usage.binds if self._used[name] > 0 and not _only_here(name, here, self._used)}
        in_definitions = any(
            name in name_usage([each]).needs for each in statements
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for name in usage.binds
        )  # fmt: skip
        return bool(elsewhere) or in_definitions or usage.stars

    def _closed(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names that are read, and those that the definitions among them need in turn."""
        todo, seen = list(names), set[str]()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.shared.by_name and self.is_definition(name):
                for item in self.shared.by_name[name]:
                    todo += item.now | item.later | item.quiet
        return frozenset(name for name in seen if name not in self.shared.by_name or not self.is_definition(name))

    # What the cell does to objects

    def _follow(self, code: Sequence[ast.stmt], number: int) -> _Effects:
        """Return what the code does to objects that earlier cells have made, and to random numbers."""
        flow = ObjectFlow(self.callables, NameState(self.names, parts=self.parts))
        flow.run(code)
        used = name_usage(code)
        imports = self.shared.names.imports
        suspected = suspected_changes(code, imports, dict(self.shared.names.functions))
        generators = self.generators & (used.early | used.later | used.unsure)
        origins = {change.origin for change in flow.changes if change.origin[0] == "value"}
        origins = origins.union(*(self.names.get(name, NOTHING) for name in (*suspected, *generators)))
        changed = {name for statement in code for name in changed_in_place(statement) if self.keeps.get(name)}
        roots = {name for name in (*suspected, *generators, *changed) if name not in imports}
        alike = [self._entangled([name for name in self.names if origin in self.names[name]]) for origin in origins]
        alike += [self._entangled([name]) for name in roots]
        seeds = {change.origin[1] for change in flow.changes if change.origin[0] == "random"}
        random = {**dict.fromkeys(seeds, False), **dict.fromkeys(flow.draws & self.seeded, True)}
        self.seeded |= seeds
        for name in used.binds:
            self.names[name] = self.names.get(name, NOTHING) | {("value", f"{name}.{number}")}
        return _Effects(
            frozenset[str]().union(*alike),
            frozenset[str]().union(*(names for names in alike if len(names) > 1)),
            {RANDOM + library: continued for library, continued in random.items()},
        )

    def _entangled(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names and all whose objects contain theirs or are contained in them: optimizer and model."""
        todo, seen = list(names), set[str]()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += [*self.keeps.get(name, ()), *(other for other, kept in self.keeps.items() if name in kept)]
        return frozenset(name for name in seen if name in self.names and not self.is_definition(name))

    def _note(self, code: Sequence[ast.stmt]) -> None:
        """Remember what is special about the objects that the code binds."""
        for node in (node for statement in code for node in outside_functions(statement)):
            if isinstance(node, ast.For | ast.With | ast.withitem | ast.Assign):
                self._note_binding(node)

    def _note_binding(self, node: ast.AST) -> None:
        value = getattr(node, "value", None)
        targets = getattr(node, "targets", [])
        if isinstance(node, ast.withitem):
            value, targets = node.context_expr, [node.optional_vars] if node.optional_vars else []
        names = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        if not names or value is None:
            return
        called = root_of(value.func) if isinstance(value, ast.Call) else ""
        called = value.func.attr if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else called
        fleeting = called in _FLEETING or isinstance(value, ast.GeneratorExp)
        definitions = [name for name in self.shared.by_name if self.is_definition(name)]
        for name in names:
            (self.fleeting.add if fleeting else self.fleeting.discard)(name)
            (self.generators.add if called in GENERATORS else self.generators.discard)(name)
            kept = sharing(value, self.shared.names.imports, definitions, self.shared.names.classes)
            self.keeps[name] = set(kept) - {name}

    def _plots(self, code: Sequence[ast.stmt]) -> bool:
        imports = self.shared.names.imports
        return any(
            imports.get(root_of(node), root_of(node)).partition(".")[0] in _PLOTTING
            or (isinstance(node, ast.Attribute) and node.attr in ("plot", "hist", "boxplot", "savefig"))
            for node in _calls(code)
        )  # fmt: skip


def is_state(name: str) -> bool:
    """Return whether this is a pseudo-name, which no step can have as an input or output."""
    return name.startswith((RANDOM, FILE))


def _calls(code: Sequence[ast.stmt]) -> list[ast.expr]:
    return [node.func for each in code for node in ast.walk(each) if isinstance(node, ast.Call)]


def _magic(statement: ast.stmt) -> str:
    """Return the word of a magic or shell line that is, or is in, a statement; empty if there is none."""
    for node in ast.walk(statement):
        texts = magic_texts(node)
        if texts:
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            return texts[0] if name.startswith("run_") else f"!{texts[0]}"
    return ""


def _seeds(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Attribute) and "seed" in node.attr for node in ast.walk(statement))


def _stands_alone(statement: ast.stmt, statements: Sequence[ast.stmt]) -> bool:
    """Return whether no other statement shares a line with it."""
    return all(
        other is statement or other.lineno > (statement.end_lineno or 0) or (other.end_lineno or 0) < statement.lineno
        for other in statements
    )


def _only_here(name: str, here: NameUsage, used: Mapping[str, int]) -> bool:
    return used[name] <= (name in here.early | here.later | here.unsure)


def _results(code: Sequence[ast.stmt]) -> tuple[str, ...]:
    """Return the names that top-level assignments of the code bind, in order."""
    names: dict[str, None] = {}
    for statement in code:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign | ast.AugAssign):
            targets = [statement.target]
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                if isinstance(part, ast.Name):
                    names.pop(part.id, None)
                    names[part.id] = None
    return tuple(names)
