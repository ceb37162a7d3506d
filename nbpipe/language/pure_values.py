"""Which expressions only build a value from constants and definitions, the same in every process and at any time."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbpipe.language.qualified_names import QualifiedNames

# What these return depends on their arguments alone. `()` stands for what a constructor returns, when that is called.
_CONSTRUCTORS = {
    "collections": "namedtuple namedtuple() OrderedDict Counter defaultdict deque ChainMap",
    "copy": "copy deepcopy",
    "dataclasses": "field make_dataclass make_dataclass()",
    "datetime": "timedelta date datetime time timezone",
    "datetime.date": "fromisoformat fromisocalendar fromordinal",
    "datetime.datetime": "fromisoformat strptime combine",
    "datetime.time": "fromisoformat",
    "decimal": "Decimal Context getcontext",
    "enum": "Enum Enum() IntEnum IntEnum() StrEnum StrEnum() Flag Flag() IntFlag IntFlag() auto",
    "fractions": "Fraction",
    "functools": "partial partialmethod reduce cmp_to_key",
    "ipaddress": "ip_address ip_network IPv4Address IPv4Network",
    "itertools": "accumulate chain chain.from_iterable combinations islice pairwise permutations product repeat",
    "json": "dumps loads",
    "logging": "getLogger",
    "matplotlib.colors": "ListedColormap to_hex to_rgb to_rgba",
    "numpy": "arange array asarray deg2rad dtype exp eye full geomspace identity linspace log logspace ones radians"
    " sqrt zeros bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64",
    "operator": "attrgetter attrgetter() itemgetter itemgetter() methodcaller",
    "os.path": "basename dirname join normpath relpath split splitext",
    "pandas": "CategoricalDtype DataFrame Index Interval Series Timedelta",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath",
    "re": "compile escape findall split sub",
    "statistics": "NormalDist fmean mean median pstdev stdev",
    "string": "Template",
    "struct": "Struct",
    "textwrap": "dedent",
    "torch": "Size device",
    "types": "MappingProxyType SimpleNamespace",
    "typing": "NamedTuple NamedTuple() NewType NewType() ParamSpec TypeVar TypedDict cast",
    "urllib.parse": "quote quote_plus urlencode urljoin urlparse urlsplit",
    "uuid": "UUID",
    "zoneinfo": "ZoneInfo",
}
_PURE = frozenset(f"{module}.{name}" for module, names in _CONSTRUCTORS.items() for name in names.split())
_PURE_MODULES = ("math.", "cmath.", "colorsys.")
_PURE_BUILTINS = frozenset(
    {
        "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "chr", "complex", "dict", "divmod",
        "enumerate", "filter", "float", "format", "frozenset", "hex", "int", "isinstance", "issubclass", "len", "list",
        "map", "max", "memoryview", "min", "object", "oct", "ord", "pow", "range", "repr", "reversed", "round", "set",
        "slice", "sorted", "str", "sum", "tuple", "type", "zip",
    }
)  # fmt: skip
_PURE_METHODS = frozenset(
    {
        *(name for kind in (str, bytes, tuple, frozenset, int, float) for name in dir(kind) if name[0] != "_"),
        *("get", "items", "keys", "values", "copy", "union", "intersection", "difference", "most_common", "group"),
        *("joinpath", "with_suffix", "with_name", "with_stem", "relative_to", "as_posix", "is_absolute", "match"),
        *("quantize", "limit_denominator", "isoformat", "strftime", "date", "timetuple", "total_seconds", "toordinal"),
        *("weekday", "isoweekday", "astype", "reshape", "tolist", "fullmatch", "search", "findall", "sub", "getChild"),
    }
)  # fmt: skip
# They are used up by the first that reads them.
_ITERATORS = frozenset({"enumerate", "filter", "map", "reversed", "zip"})
_CALLING = frozenset({"filter", "map", "max", "min", "sorted", "functools.reduce"})
_SAME_EVERYWHERE = (
    "os.path", "os.sep", "os.linesep", "os.pathsep", "os.environ", "os.name", "os.curdir", "os.devnull",
    "sys.path", "sys.maxsize", "sys.float_info", "sys.version_info", "sys.byteorder", "sys.platform", "sys.version",
)  # fmt: skip
_VALUE_CLASSES = frozenset({"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "NamedTuple", "TypedDict"})
_MAKING = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__"})
_PLAIN = (
    ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Slice,
    ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BUILTIN_NAMES = frozenset({*dir(builtins), "__name__"})


@dataclass(frozen=True, slots=True)
class PureValues:
    """Judges expressions; ``is_known`` tells definitions and parameters, ``bound`` are other names of the notebook."""

    names: QualifiedNames
    is_known: Callable[[str], bool]
    bound: frozenset[str] = frozenset()

    def only_builds(self, value: ast.expr) -> bool:
        """Return whether an assigned value only is built; an iterator is not, because reading it changes it."""
        if isinstance(value, ast.Lambda):
            return all(self._is_pure(default, frozenset()) for default in _defaults(value.args))
        one_shot = isinstance(value, ast.GeneratorExp) or (isinstance(value, ast.Call) and self._gives_iterator(value))
        return not one_shot and self._is_pure(value, frozenset())

    def tried_imports(self, statement: ast.Try) -> tuple[str, ...]:
        """Return the names that ``try: import … except ImportError: …`` binds; none if it does anything else."""
        statements = [*statement.body, *statement.orelse, *statement.finalbody]
        handled = [each for handler in statement.handlers for each in handler.body]
        if not statement.handlers or not any(isinstance(each, ast.Import | ast.ImportFrom) for each in statement.body):
            return ()
        names = {name for each in [*statements, *handled] for name in _bound_by(each)}
        inner = PureValues(self.names, lambda name: self.is_known(name) or name in names, self.bound - names)
        fine = all(inner._defines(each) for each in statements)
        fine = fine and all(inner._defines(each) or inner._reports(each) for each in handled)
        return tuple(sorted(names)) if fine else ()

    def _defines(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            return bool(_bound_by(statement)) and self.only_builds(statement.value)
        return isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Pass)

    def _reports(self, statement: ast.stmt) -> bool:
        """Return whether it says that an import failed, or raises."""
        call = statement.value if isinstance(statement, ast.Expr) else None
        is_message = isinstance(call, ast.Call) and (
            (isinstance(call.func, ast.Name) and call.func.id == "print") or self.names.of(call.func) == "warnings.warn"
        )
        return is_message or isinstance(statement, ast.Raise)

    def _gives_iterator(self, call: ast.Call) -> bool:
        name = call.func.id if isinstance(call.func, ast.Name) else self.names.of(call.func)
        return name in _ITERATORS or self.names.of(call.func).startswith("itertools.")

    def _is_pure(self, node: ast.AST, local: frozenset[str]) -> bool:
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name):
            return node.id in local or self.is_known(node.id) or self._is_builtin(node.id)
        if isinstance(node, ast.Attribute):
            return self._is_pure_attribute(node, local)
        if isinstance(node, ast.Subscript):
            hidden = self.names.of(node.value).startswith(("os.", "sys."))
            return not hidden and self._are_pure((node.value, node.slice), local)
        if isinstance(node, ast.Call):
            return self._is_pure_call(node, local)
        if isinstance(node, ast.Lambda):
            inner = local | {argument.arg for argument in node.args.posonlyargs + node.args.args + node.args.kwonlyargs}
            return self._are_pure(_defaults(node.args), local) and self._is_pure(node.body, inner)
        if isinstance(node, _COMPREHENSIONS):
            return self._is_pure_comprehension(node, local)
        return isinstance(node, _PLAIN) and self._are_pure(ast.iter_child_nodes(node), local)

    def _are_pure(self, nodes: Iterable[ast.AST], local: frozenset[str]) -> bool:
        return all(self._is_pure(node, local) for node in nodes)

    def _is_builtin(self, name: str) -> bool:
        return name in _BUILTIN_NAMES and name not in self.bound

    def _is_pure_attribute(self, node: ast.Attribute, local: frozenset[str]) -> bool:
        full = self.names.of(node)
        if full.startswith(("os.", "sys.")) and not full.startswith(_SAME_EVERYWHERE):
            return False
        return self._is_pure(node.value, local)

    def _is_pure_comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, local: frozenset[str]
    ) -> bool:
        inner = local
        for generator in node.generators:
            if generator.is_async or not self._is_pure(generator.iter, inner):
                return False
            inner |= {part.id for part in ast.walk(generator.target) if isinstance(part, ast.Name)}
            if not self._are_pure(generator.ifs, inner):
                return False
        elements = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        return self._are_pure(elements, inner)

    def _is_pure_call(self, call: ast.Call, local: frozenset[str]) -> bool:
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        if not self._constructs(call.func, local) or not self._are_pure(arguments, local):
            return False
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        called = [each.id for each in arguments if isinstance(each, ast.Name)]
        calls = name in _CALLING or self.names.of(call.func) in _CALLING
        return not calls or not any(each in self.names.functions for each in called)

    def _constructs(self, function: ast.expr, local: frozenset[str]) -> bool:
        """Return whether calling this only builds a value."""
        full = self.names.of(function)
        if full in _PURE or full.startswith(_PURE_MODULES):
            return True
        if isinstance(function, ast.Name):
            if function.id in self.names.classes:
                return self._is_value_class(self.names.classes[function.id])
            return function.id in _PURE_BUILTINS and self._is_builtin(function.id) and function.id not in local
        if not isinstance(function, ast.Attribute):
            return False
        owner = function.value
        if isinstance(owner, ast.Name) and owner.id in ("dict", "str", "bytes", "int", "float"):
            return self._is_builtin(owner.id)
        # A function of a module is listed, or it is not known.
        imported = full and "()" not in full
        return not imported and function.attr in _PURE_METHODS and self._is_pure(owner, local)

    def _is_value_class(self, kind: ast.ClassDef) -> bool:
        """Return whether making an instance runs no code of the author's."""
        decorators = [each.func if isinstance(each, ast.Call) else each for each in kind.decorator_list]
        data = any(self.names.of(each) == "dataclasses.dataclass" for each in decorators)
        named = any(self.names.of(base).rpartition(".")[2] in _VALUE_CLASSES for base in kind.bases)
        own = {each.name for each in kind.body if isinstance(each, ast.FunctionDef)}
        return own.isdisjoint(_MAKING) and (named or (data and not kind.bases))


def _bound_by(statement: ast.stmt) -> list[str]:
    """Return the names that a simple definition binds; none for anything else."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
        return [name for name in names if name != "*"]
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]
