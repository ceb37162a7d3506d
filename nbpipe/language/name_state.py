"""What names hold while code is read: where objects came from, what they hold in turn, and of what kind they are."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nbpipe.language.object_effects import NOTHING, Origins
from nbpipe.language.value_kinds import Kind


@dataclass(slots=True)
class NameState:
    """``names`` are the origins of what names hold, ``outside`` returns those of others.

    ``parts`` are the origins of what a name's list or dict holds: a change of that is seen in the list, but not the
    reverse. ``kept`` are those of what an object was made of: methods that change the object may change these, too.
    ``functions`` are the expressions of the functions that a name may stand for: methods, lambdas, partials.
    """

    names: dict[str, Origins]
    outside: Callable[[str], Origins] = lambda _name: NOTHING
    parts: dict[str, Origins] = field(default_factory=dict)
    kept: dict[str, Origins] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    functions: dict[str, tuple[ast.expr, ...]] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)
    _before: dict[str, Origins | None] | None = None

    def origins_of(self, name: str) -> Origins:
        """Return the origins of what a name holds."""
        return self.names[name] if name in self.names and name not in self.globals else self.outside(name)

    def origins_in(self, node: ast.AST) -> Origins:
        """Return the origins of what the list or dict of a name holds."""
        return self.parts.get(node.id, NOTHING) if isinstance(node, ast.Name) else NOTHING

    def put_into(self, name: str, origins: Origins) -> None:
        """Add to what the list or dict of a name holds."""
        if origins:
            self.parts[name] = self.parts.get(name, NOTHING) | origins

    def set(self, name: str, origins: Origins) -> None:
        """Bind a name."""
        if self._before is not None:
            self._before.setdefault(name, self.names.get(name))
        self.names[name] = origins

    def restore(self, name: str, origins: Origins | None) -> None:
        """Bind a name to what it was before, or to nothing."""
        if origins is None:
            self.names.pop(name, None)
        else:
            self.names[name] = origins

    def forget(self, name: str) -> None:
        """Forget what is known of the object that a name holds, apart from where it came from."""
        self.parts.pop(name, None)
        self.kept.pop(name, None)
        self.kinds.pop(name, None)
        self.functions.pop(name, None)

    def branches(self, read: Callable[[Sequence[ast.stmt]], None], *branches: Sequence[ast.stmt]) -> None:
        """Read each branch from the same start; afterwards a name may hold what it does at the end of any branch."""
        ends: list[dict[str, Origins]] = []
        start: dict[str, Origins | None] = {}
        for branch in filter(None, branches):
            outer, self._before = self._before, {}
            read(branch)
            ends.append({name: self.names[name] for name in self._before})
            for name, origins in self._before.items():
                start.setdefault(name, origins)
                self.restore(name, origins)
            self._before = outer
        if not all(branches):
            ends.append({})
        for name, origins in start.items():
            self.set(name, NOTHING.union(*(end.get(name, origins or NOTHING) for end in ends)))
