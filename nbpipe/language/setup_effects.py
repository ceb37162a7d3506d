"""Statements of set-up cells with an effect that no step gets: what is told about them."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nbpipe.errors import SourceLocation
from nbpipe.language.mutation_analysis import changed_in_place
from nbpipe.language.name_analysis import magic_texts, name_usage
from nbpipe.language.qualified_names import QualifiedNames, root_of
from nbpipe.model import PipelineWarning

# Calls into these, and calls of these methods, look at something; what they set is in the table of settings.
_EXPLORED = frozenset(
    {"numpy", "pandas", "matplotlib", "pylab", "seaborn", "plotly", "altair", "scipy", "sklearn", "statsmodels", "math",
     "statistics", "IPython", "pprint", "platform", "inspect", "time", "datetime", "calendar", "json", "re", "textwrap",
     "string", "itertools", "functools", "collections", "typing", "tabulate", "rich", "missingno", "ydata_profiling"}
)  # fmt: skip
_LOOKING = frozenset(
    {"show", "head", "tail", "info", "describe", "plot", "hist", "items", "keys", "values", "get", "getcwd", "listdir",
     "is_available", "device_count", "get_device_name", "collect", "debug", "warning", "error", "critical", "exception",
     "log", "warn", "exists", "is_file", "is_dir", "glob", "iterdir", "stat", "read_text", "getenv", "cpu_count",
     "walk", "scandir", "getsize", "isfile", "isdir", "get_option", "describe_option", "getLogger", "getpid", "summary"}
)  # fmt: skip
# What a function with such a name does is no exploration, even if the table of settings does not have it.
_SETTING_WORDS = ("set_", "register", "enable", "disable", "config", "init_", "use_", "seed")
_MAGICS = frozenset({"cd", "run"})
_CURE = "Begin the cell with `#| shared` if steps need it, or move it to a cell of its own."
_BRING = "Write a literal or a parameter for `{0}`, or begin both its cell and this one with `#| shared`."
_FREE = frozenset({"__name__", *dir(builtins)})


@dataclass(frozen=True, slots=True)
class UnsharedEffect:
    """A statement that no step gets, by its cell and line; ``missing`` is a name it reads that steps do not have."""

    cell: int
    line: int
    text: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class EffectFinder:
    """Finds statements that change what definitions stand for or call into them.

    ``is_known`` tells definitions, ``local`` are variables of the code, ``within`` the functions that it belongs to.
    """

    names: QualifiedNames
    is_known: Callable[[str], bool]
    local: frozenset[str] = _FREE
    within: frozenset[str] = frozenset()

    def find(self, statement: ast.stmt) -> ast.stmt | None:
        """Return the first statement with an effect on what steps use, looking into branches and loops."""
        variables = name_usage([statement]).binds if isinstance(statement, ast.For) else frozenset[str]()
        finder = replace(self, local=self.local | variables) if variables else self
        return next(finder.effects(statement), None)

    def effects(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        """Yield the statements with an effect in a statement."""
        if isinstance(statement, ast.If | ast.For | ast.While | ast.Try):
            for each in ast.iter_child_nodes(statement):
                blocks = each.body if isinstance(each, ast.ExceptHandler) else [each]
                for inner in blocks:
                    if isinstance(inner, ast.stmt):
                        yield from self.effects(inner)
        elif self._changes(statement) or self._acts(statement):
            yield statement

    def _changes(self, statement: ast.stmt) -> bool:
        """Return whether it assigns to, or deletes, an attribute or item of a definition that is no constant."""
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign | ast.Delete):
            targets = statement.targets
        elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
            targets = [statement.target]
        roots = [root_of(target) for target in targets if isinstance(target, ast.Attribute | ast.Subscript)]
        return any(self.is_known(root) and root not in self.names.values for root in roots)

    def _acts(self, statement: ast.stmt) -> bool:
        """Return whether it calls a function for its effect, with nothing that only exploration knows."""
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call):
            return False
        if texts := magic_texts(call):
            return texts[0] in _MAGICS
        root = root_of(call.func)
        if isinstance(call.func, ast.Name) and root in self.names.functions:
            return self._function_acts(root)
        if isinstance(call.func, ast.Attribute) and call.func.attr in _LOOKING:
            return False
        if root in self.names.values and changed_in_place(statement):
            # A step that reads a changed constant is refused.
            return False
        if not self.is_known(root) or root in self.names.classes or self._explores(call):
            return False
        return all(self.is_known(name) or name in self.local for name in name_usage([statement]).early)

    def _explores(self, call: ast.Call) -> bool:
        full = self.names.of(call.func)
        sets = full.rpartition(".")[2].startswith(_SETTING_WORDS)
        return full.partition(".")[0] in _EXPLORED and not sets

    def _function_acts(self, name: str) -> bool:
        """Return whether a function of the notebook changes more than its own variables."""
        function = self.names.functions[name]
        if name in self.within:
            return False
        arguments = function.args
        parameters = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        own = name_usage(function.body).binds | parameters
        inner = EffectFinder(
            self.names, lambda each: self.is_known(each) and each not in own, self.local | own, self.within | {name}
        )
        changed = {each for statement in function.body for each in changed_in_place(statement)}
        declares = any(isinstance(node, ast.Global) for node in ast.walk(function))
        return declares or any(map(inner.is_known, changed)) or any(map(inner.find, function.body))


def effect_warnings(
    effects: Mapping[int, Iterable[UnsharedEffect]], drawn: Collection[int]
) -> tuple[PipelineWarning, ...]:
    """Return one warning for each cell with effects from which steps draw definitions."""
    warnings = []
    for cell, of_cell in effects.items():
        if cell not in drawn and not any(effect.missing for effect in of_cell):
            continue
        first, *others = sorted(of_cell, key=lambda effect: (not effect.missing, effect.line))
        why = "although steps use definitions beside it"
        why = f"because steps do not have `{first.missing}`" if first.missing else why
        more = f" and {len(others)} more statement{'s' if len(others) > 1 else ''} of its cell" if others else ""
        warnings.append(
            PipelineWarning(
                "unshared-effect",
                f"no step gets `{first.text}`{more}, {why}",
                _BRING.format(first.missing) if first.missing else _CURE,
                SourceLocation(cell, first.line),
            )
        )
    return tuple(warnings)
