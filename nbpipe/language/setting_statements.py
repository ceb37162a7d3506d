"""Which statements of ordinary cells do nothing but set options of libraries or of the process."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nbpipe.language.mutation_analysis import MUTATORS
from nbpipe.language.name_analysis import magic_texts
from nbpipe.language.qualified_names import QualifiedNames
from nbpipe.language.setting_table import users_of

_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """What a statement sets, and the libraries whose users it concerns."""

    name: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingReader:
    """Recognises settings by the full names of what statements call or assign to; ``more`` extends the table."""

    names: QualifiedNames
    more: Mapping[str, tuple[str, ...]]
    depth: int = _DEPTH

    def read(self, statement: ast.stmt) -> Setting | None:
        """Return what a statement sets, None if it does anything else."""
        settings = self._settings(statement)
        if not settings:
            return None
        names = dict.fromkeys(setting.name for setting in settings)
        return Setting(", ".join(names), tuple(dict.fromkeys(user for setting in settings for user in setting.users)))

    def _settings(self, statement: ast.stmt) -> list[Setting] | None:
        """Return the settings in a statement; None if it does anything else."""
        if isinstance(statement, ast.If | ast.For | ast.Try):
            inner = replace(self, names=self.names.inside([statement]))
            return inner.read_all(each for each in _blocks(statement) if not _is_idle(each))
        if isinstance(statement, ast.With):
            suppresses = all(self.names.of(item.context_expr) == "contextlib.suppress()" for item in statement.items)
            return self.read_all(statement.body) if suppresses else None
        if isinstance(statement, ast.Pass):
            return []
        results = [self._place(place) for place in _places(statement)]
        if isinstance(statement, ast.Expr | ast.Assign) and not results:
            if isinstance(statement.value, ast.Constant):
                return [] if isinstance(statement, ast.Expr) else None
            calls = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
            results = [self._call(call) for call in calls]
        settings = [setting for setting in results if setting is not None]
        return settings if results and len(settings) == len(results) else None

    def read_all(self, statements: Iterable[ast.stmt]) -> list[Setting] | None:
        """Return the settings in statements; None if they do anything else."""
        results = [self._settings(statement) for statement in statements]
        if any(settings is None for settings in results):
            return None
        return [setting for settings in results for setting in settings or ()]

    def _place(self, node: ast.expr) -> Setting | None:
        while isinstance(node, ast.Subscript):
            node = node.value
        return self._named(self.names.of(node))

    def _named(self, name: str) -> Setting | None:
        users = users_of(name, self.more) if name else ()
        return Setting(name, users) if users else None

    def _call(self, node: ast.expr) -> Setting | None:
        if not isinstance(node, ast.Call):
            return None
        if texts := magic_texts(node):
            return self._magic(" ".join(texts))
        if isinstance(node.func, ast.Name) and node.func.id in self.names.functions:
            return self._function(node.func.id)
        if setting := self._named(self.names.of(node.func)):
            return setting
        changes = isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
        return self._place(node.func.value) if changes and isinstance(node.func, ast.Attribute) else None

    def _magic(self, text: str) -> Setting | None:
        words = text.replace("=", " ").replace(".", " ").split()
        sets = len(words) > 1 or words in (["precision"], ["pprint"])
        # Figures are shown inline by default.
        if not sets or words == ["matplotlib", "inline"]:
            return None
        return self._named(f"%{words[0]}") or self._named(f"%{words[0]} {words[1]}")

    def _function(self, name: str) -> Setting | None:
        """Return what a call of the notebook's own function sets, if it does nothing else."""
        function = self.names.functions[name]
        if not self.depth or isinstance(function, ast.AsyncFunctionDef):
            return None
        reader = SettingReader(self.names.inside(function.body), self.more, self.depth - 1)
        settings = reader.read_all(each for each in function.body if not _is_idle(each))
        users = dict.fromkeys(user for setting in settings or () for user in setting.users)
        return Setting(name, tuple(users)) if users else None


def _blocks(statement: ast.If | ast.For | ast.Try) -> Iterator[ast.stmt]:
    yield from [*statement.body, *statement.orelse]
    if isinstance(statement, ast.Try):
        yield from [each for handler in statement.handlers for each in handler.body]
        yield from statement.finalbody


def _places(statement: ast.stmt) -> list[ast.expr]:
    """Return the attributes and items that a statement assigns to or deletes; none if it binds names as well."""
    if isinstance(statement, ast.Assign | ast.Delete):
        targets = statement.targets
    elif isinstance(statement, ast.AugAssign):
        targets = [statement.target]
    else:
        targets = []
    return targets if all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets) else []


def _is_idle(statement: ast.stmt) -> bool:
    """Return whether a statement of a function or branch only imports, returns a value or prints."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Name | ast.Constant)
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
