"""Local modules that are shipped with a step: found beside the notebook, with what they import, and frozen."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import decode_source
from pathlib import Path

from nbpipe.errors import BadCode
from nbpipe.model import FrozenModule

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_IMPORTERS = frozenset({"import_module", "__import__"})


@dataclass(frozen=True, slots=True)
class _ModuleLocation:
    """A module's location: ``file`` is None for a folder without ``__init__.py``; submodules are in ``folders``."""

    file: Path | None
    folders: tuple[Path, ...]


def find_modules(names: Iterable[str], roots: Sequence[Path]) -> tuple[FrozenModule, ...]:
    """Return the local modules that an import of ``names`` reaches, at any depth, sorted by name.

    A module is local when it lies below one of ``roots``; the first root that has it wins, as on Python's import path.
    """
    places = tuple(root.absolute() for root in roots if not _INSTALLED & set(root.absolute().parts))
    located: dict[str, _ModuleLocation | None] = {}
    frozen: dict[str, FrozenModule] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        for part in _with_parents(name):
            if part in located:
                continue
            located[part] = place = _locate(part, places, located)
            if place is not None and place.file is not None:
                module, imported = _freeze(part, place.file)
                frozen[part] = module
                waiting += imported
    return tuple(frozen[name] for name in sorted(frozen))


def shadowed_modules(modules: Iterable[FrozenModule], path: Iterable[str]) -> Iterator[tuple[FrozenModule, Path]]:
    """Yield the local modules that also exist on an interpreter's import path, each with the file or folder there.

    An editable installation is the local module itself, and is none of them.
    """
    folders = [Path(folder) for folder in path if folder]
    for module in modules:
        if "." in module.name:
            continue
        own = Path(module.path).parent if module.is_package else Path(module.path)
        names = (module.name, *(module.name + suffix for suffix in (".py", *EXTENSION_SUFFIXES)))
        others = (folder / name for folder in folders for name in names if _is_module(folder / name))
        other = next((other for other in others if not other.samefile(own)), None)
        if other is not None:
            yield module, other


def _is_module(path: Path) -> bool:
    return path.is_file() or (path / "__init__.py").is_file()


def _with_parents(name: str) -> Iterator[str]:
    """Yield the parent packages of a dotted name, outermost first, and the name itself; nothing if it is invalid."""
    parts = name.split(".")
    # Built-in modules and nbpipe itself never come from the author's folder.
    if parts[0] in sys.builtin_module_names or parts[0] == "nbpipe":
        return
    if all(part.isidentifier() for part in parts):
        yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _locate(name: str, roots: tuple[Path, ...], located: dict[str, _ModuleLocation | None]) -> _ModuleLocation | None:
    parent, _, last = name.rpartition(".")
    above = located.get(parent) if parent else _ModuleLocation(None, roots)
    spaces: list[Path] = []
    for folder in above.folders if above else ():
        if (folder / last / "__init__.py").is_file():
            return _ModuleLocation(folder / last / "__init__.py", (folder / last,))
        if (folder / f"{last}.py").is_file():
            return _ModuleLocation(folder / f"{last}.py", ())
        if (folder / last).is_dir():
            spaces.append(folder / last)
    return _ModuleLocation(None, tuple(spaces)) if spaces else None


def _freeze(name: str, file: Path) -> tuple[FrozenModule, list[str]]:
    package = file.name == "__init__.py"
    try:
        source = decode_source(file.read_bytes())
        tree = ast.parse(source, str(file))
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise BadCode(f"`{file}`{where}: {error.msg}", "Correct the module that the step imports.") from error
    except (ValueError, OSError) as error:
        raise BadCode(
            f"`{file}` cannot be read as Python: {error}", "Check the module that the step imports."
        ) from error
    around = name if package else name.rpartition(".")[0]
    return FrozenModule(name, str(file), source, package), list(_imports(tree, around))


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the dotted names that a module may import, in any branch or function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_imports(node, package)
        elif isinstance(node, ast.Call) and _called(node) in _IMPORTERS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
        elif isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets
        ):
            # `from package import *` imports the submodules that the package names here.
            named = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            yield from (f"{package}.{name}" for name in named if isinstance(name, str))


def _from_imports(node: ast.ImportFrom, package: str) -> Iterator[str]:
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return
    base_parts = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*base_parts, *filter(None, [node.module])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
