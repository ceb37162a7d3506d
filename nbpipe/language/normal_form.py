"""Code in a normal form without layout, and the names in it: found in one walk, as every plan reads every step."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from nbpipe.language.ast_nodes import FIELDS
from nbpipe.language.mutation_analysis import MUTATORS
from nbpipe.language.python_literals import MAX_BITS


@dataclass(frozen=True, slots=True)
class NormalForm:
    """The content of code, independent of its layout.

    ``normal`` is the code without comments, layout and positions, one line per statement; docstrings stay, because code
    can read them. ``identifiers`` are the names and attributes in it, ``modules`` the dotted names of modules that it
    may import at any depth: ``a`` and ``a.b`` for ``from a import b``. If ``touches`` is false, it changes nothing in
    place; if ``simple`` is true, the compiler finds no errors that the parser has not found.
    """

    normal: str
    identifiers: frozenset[str]
    modules: tuple[str, ...]
    touches: bool
    simple: bool


def normal_form_of(body: Iterable[ast.AST]) -> NormalForm:
    """Return the normal form of statements; raise RecursionError if they are nested too deeply."""
    walk = _Walk()
    normal = "\n".join([walk.write(statement) for statement in body])
    touches = walk.touches or not walk.identifiers.isdisjoint(MUTATORS)
    simple = walk.kinds <= _SIMPLE and not walk.doubtful and "__debug__" not in normal
    return NormalForm(normal, frozenset(walk.identifiers), tuple(walk.modules), touches, simple)


class _Walk:
    """Writes nodes as ``ast.dump`` does, in half the time, and collects the names in them."""

    def __init__(self) -> None:
        self.identifiers: set[str] = set()
        self.modules: dict[str, None] = {}
        self.kinds: set[type[ast.AST]] = set()
        self.touches = False
        self.doubtful = False
        self.depth = 0

    def write(self, node: ast.AST) -> str:
        kind = type(node)
        if isinstance(node, ast.Name):
            self.identifiers.add(node.id)
            return f"Name({node.id})"
        if isinstance(node, ast.Constant):
            return f"Constant({node.kind or ''}{_literal(node.value)})"
        self.kinds.add(kind)
        if kind in _NOTED:
            self._note(node)
        outside = self.depth
        if kind in _BLOCKS:
            self.depth += len(node.items) if isinstance(node, ast.With) else 1
            self.doubtful |= self.depth > _DEEPEST
        parts = []
        for name in FIELDS[kind]:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                parts.append(self.write(value))
            elif not value:
                parts.append(repr(value))
            elif isinstance(value, list):
                items = [self.write(item) if isinstance(item, ast.AST) else repr(item) for item in value]
                parts.append(f"[{', '.join(items)}]")
            else:
                parts.append(repr(value))
        self.depth = outside
        return f"{kind.__name__}({', '.join(parts)})"

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            self.identifiers.add(node.attr)
        if isinstance(node, _STORED):
            self.touches |= not isinstance(node.ctx, ast.Load)
        elif isinstance(node, ast.Call):
            names = [keyword.arg for keyword in node.keywords if keyword.arg]
            self.touches |= "inplace" in names
            self.doubtful |= len(names) != len(set(names))
            self._note_import(node)
        elif isinstance(node, ast.AugAssign):
            self.touches = True
        elif isinstance(node, ast.Import):
            self.modules |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*"]
            self.modules |= dict.fromkeys([node.module, *parts])
        elif isinstance(node, ast.arguments):
            self.doubtful |= len(node.posonlyargs + node.args + node.kwonlyargs) > 1 or bool(node.vararg or node.kwarg)
        elif isinstance(node, ast.comprehension):
            self.doubtful |= bool(node.is_async)

    def _note_import(self, call: ast.Call) -> None:
        """Record what ``importlib.import_module("a.b")`` and ``__import__("a.b")`` import."""
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called in _IMPORTERS:
            arguments = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
            texts = [node.value for node in arguments if isinstance(node, ast.Constant)]
            self.modules |= dict.fromkeys(text for text in texts if isinstance(text, str))


_IMPORTERS = frozenset({"import_module", "__import__"})
_STORED = (ast.Attribute, ast.Subscript)
_NOTED = frozenset({*_STORED, ast.Call, ast.AugAssign, ast.Import, ast.ImportFrom, ast.arguments, ast.comprehension})
# The compiler limits how deeply these may be nested, to 20.
_BLOCKS = frozenset({ast.For, ast.While, ast.With})
_DEEPEST = 8
# Compiling takes as long as parsing. In code of these kinds the compiler finds only duplicate arguments, `async` in a
# comprehension, `__debug__`, and blocks that are nested too deeply.
_SIMPLE = frozenset(
    {
        ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Assert, ast.Raise, ast.If, ast.Pass, ast.Import, ast.alias,
        *ast.boolop.__subclasses__(), *ast.operator.__subclasses__(), *ast.unaryop.__subclasses__(),
        *ast.cmpop.__subclasses__(), ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Call, ast.keyword,
        ast.Lambda, ast.arguments, ast.arg, ast.Attribute, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Set,
        ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.JoinedStr,
        ast.FormattedValue, *_BLOCKS, ast.withitem,
    }
)  # fmt: skip


def _literal(value: object) -> str:
    # Python does not write longer integers in decimal (sys.get_int_max_str_digits).
    return hex(value) if type(value) is int and value.bit_length() > MAX_BITS else repr(value)
