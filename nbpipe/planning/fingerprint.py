"""The reuse key: named component digests, each with a summary for people, and one digest over them all.

There is a component for everything that can change a step's result, and for nothing else: not for the step's name and
place, other cells, comments, retries or timeouts (docs/reuse.md).
"""

from __future__ import annotations

import ast
import dataclasses
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any

from blake3 import blake3

from nbpipe.codec import encode_sparse
from nbpipe.model import (
    Artifact,
    ComponentKind,
    Definition,
    FrozenModule,
    KeyComponent,
    Output,
    PinnedFiles,
    PinnedKind,
    Step,
    StepCode,
    UnreadFiles,
    component_name,
)
from nbpipe.model.datasets import PinnedDataset, RecipeKind
from nbpipe.planning.canonical_encoding import encode, sequence

SCHEMA = 1
# The normal form of code depends on its version, and on the syntax trees of the Python that parses it.
NORMALISER = f"1 {sys.version_info[0]}.{sys.version_info[1]}"
_RAW = "raw\n"
_SHOWN = 60
_DEFINING = ("FunctionDef(", "AsyncFunctionDef(", "ClassDef(")
_About = ComponentKind | tuple[ComponentKind, str]
_ASSIGNING = ("Assign(", "AnnAssign(")


@dataclass(frozen=True, slots=True)
class PinnedInputs:
    """The inputs of a step besides its code and its upstream data, pinned at submit.

    ``python`` names the kernel's interpreter; ``variables`` are environment variables (None: unset); ``files`` the
    declared file inputs by input name; ``hashes`` the files of ``hash`` by pattern. ``packages`` are all installed
    distributions if the policy is strict, else None: then only those count that an attempt has imported. ``options``
    are additional options of the kernel's command line, ``datasets`` the versions that inputs are bound to. ``unread``
    are the inputs whose content is not known yet, by input name: without it the components are not complete.
    """

    python: str
    values: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, PinnedFiles] = field(default_factory=dict)
    hashes: Mapping[str, PinnedFiles] = field(default_factory=dict)
    modules: tuple[FrozenModule, ...] = ()
    packages: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()
    datasets: Mapping[str, PinnedDataset] = field(default_factory=dict)
    unread: Mapping[str, UnreadFiles] = field(default_factory=dict)


def fixed_components(step: Step, code: StepCode, pinned: PinnedInputs) -> tuple[KeyComponent, ...]:
    """Return the components that are known before any other step has run."""
    formats = {item.name: item.format for item in step.inputs}
    values, files, hashes = pinned.values, sorted(pinned.files.items()), sorted(pinned.hashes.items())
    salt = step.options.salt
    return (
        _code(
            ComponentKind.CODE,
            code.normal,
            code.raw,
            _lines(step),
            "\n".join(piece.source for piece in step.pieces),
        ),
        *map(_definition, code.definitions),
        *_order(code.definitions),
        *map(_module, pinned.modules),
        *(_component((ComponentKind.PARAMETER, name), values[name], _shown(values[name])) for name in code.parameters),
        *(_file(name, content, formats.get(name)) for name, content in files),
        *(_dataset(name, pinned, formats.get(name)) for name, pinned in sorted(pinned.datasets.items())),
        _outputs(step.outputs),
        *((_SHOWS,) if step.options.shows else ()),
        _python(pinned.python),
        *((_options(pinned.options),) if pinned.options else ()),
        *((_packages(pinned.packages),) if pinned.packages is not None else ()),
        *(_variable(name, value) for name, value in sorted(pinned.variables.items())),
        *((_component(ComponentKind.SALT, salt, _shown(salt)),) if salt else ()),
        *(_component((ComponentKind.HASH, name), item.digest, _size(item.bytes, item.digest)) for name, item in hashes),
    )


def upstream_component(name: str, artifact: Artifact) -> KeyComponent:
    """Return the component of another step's output: its content and how it is read, never its producer."""
    basename = artifact.basename if artifact.is_path else ""
    summary = f"{artifact.format}, {_size(artifact.bytes, artifact.digest)}"
    return _component((ComponentKind.INPUT, name), [artifact.format, basename, artifact.digest], summary)


def key_of(components: Iterable[KeyComponent]) -> str:
    """Return the digest over all components in any order; comments and layout of code do not count."""
    return _key(sorted([(component.name, component.digest) for component in components]))


def raw_key_of(components: Iterable[KeyComponent]) -> str:
    """Return the second digest over all components, which depends on the code as written.

    It finds a result again when a newer nbpipe or a newer Python changes the normal form.
    """
    return _key(sorted([(component.name, component.raw or component.digest) for component in components]))


def _key(pairs: list[tuple[str, str]]) -> str:
    preimage = sequence([encode("nbpipe-key"), encode(SCHEMA), sequence([_pair(*pair) for pair in pairs])])
    return f"blake3:{blake3(preimage).hexdigest()}"


@lru_cache(maxsize=65536)
def _pair(name: str, digest: str) -> bytes:
    return encode([name, digest])


def _digest(value: Any) -> str:
    return f"blake3:{blake3(encode(value)).hexdigest()}"


def _split(about: _About) -> tuple[ComponentKind, str]:
    return about if isinstance(about, tuple) else (about, "")


def _component(about: _About, value: Any, summary: str, text: str = "") -> KeyComponent:
    kind, subject = _split(about)
    return KeyComponent(component_name(kind, subject), _digest([kind.value, value]), summary, text)


def _code(about: _About, normal: str, raw: str, summary: str, text: str) -> KeyComponent:
    """Return the component of some code, in its normal form and as written."""
    if normal.startswith(_RAW):
        return _component(about, normal, summary, text)
    component = _component(about, [NORMALISER, normal], summary, text)
    written = _digest([_split(about)[0].value, raw if raw.startswith(_RAW) else _RAW + raw])
    return dataclasses.replace(component, raw=written)


def _lines(step: Step) -> str:
    count = sum(len(piece.source.splitlines()) for piece in step.pieces)
    return f"{count} lines"


# Many steps reach the same definitions, modules and variables: each component is computed once.
@lru_cache(maxsize=4096)
def _definition(item: Definition) -> KeyComponent:
    summary = _shown(item.source.strip().splitlines()[0])
    if item.setting:
        return _code((ComponentKind.SETTING, item.setting), item.normal, item.source, summary, item.source)
    name = ",".join(item.names) or "shared cell"
    return _code((ComponentKind.DEFINITION, name), item.normal, item.source, summary, item.source)


def _order(definitions: Iterable[Definition]) -> tuple[KeyComponent, ...]:
    """Return the component of the order of shared cells with side effects: one may undo what another did.

    An import or a value may depend on the settings before it, but not on the imports and values beside it.
    """
    effects: list[Definition] = []
    for item in definitions:
        after_setting = _is_effectless(item) and any(each.setting for each in effects)
        if after_setting or not (_is_effectless(item) or _only_defines(item)):
            effects.append(item)
    runs = [list(run) for _, run in groupby(effects, key=_is_effectless)]
    effects = [item for run in runs for item in (sorted(run, key=_source_of) if _is_effectless(run[0]) else run)]
    if len(effects) < 2:
        return ()
    cells = ", ".join(f"cell {item.cell}" for item in effects)
    component = _component(ComponentKind.SHARED_ORDER, [NORMALISER, *(item.normal for item in effects)], cells)
    return (
        dataclasses.replace(
            component, raw=_digest([ComponentKind.SHARED_ORDER.value, *(item.source for item in effects)])
        ),
    )


def _is_effectless(item: Definition) -> bool:
    return item.is_import or item.is_value


def _source_of(item: Definition) -> str:
    return item.source


def _only_defines(item: Definition) -> bool:
    """Return whether this is one statement whose order does not matter; line feeds only separate statements."""
    plain = item.normal.startswith(_DEFINING) or (item.normal.startswith(_ASSIGNING) and "Call(" not in item.normal)
    return plain and "\n" not in item.normal


@lru_cache(maxsize=64)
def _python(python: str) -> KeyComponent:
    return _component(ComponentKind.PYTHON, python, python)


@lru_cache(maxsize=64)
def _options(options: tuple[str, ...]) -> KeyComponent:
    """Return the component of a kernel's options; a plain kernel has none."""
    return _component(ComponentKind.KERNEL, list(options), _shown(shlex.join(options)))


@lru_cache(maxsize=64)
def _packages(packages: tuple[str, ...]) -> KeyComponent:
    return _component(
        ComponentKind.PACKAGES,
        list(packages),
        f"{len(packages)} packages",
        "\n".join(packages).replace("==", "\t"),
    )


@lru_cache(maxsize=256)
def _module(module: FrozenModule) -> KeyComponent:
    """Return the component of a local module: its syntax tree, so that comments and layout do not count."""
    try:
        normal = ast.dump(ast.parse(module.source))
    except (SyntaxError, ValueError, RecursionError):
        normal = _RAW + module.source
    summary = f"{len(module.source.splitlines())} lines"
    component = _component(
        (ComponentKind.MODULE, module.name),
        [NORMALISER, normal, module.is_package],
        summary,
        module.source,
    )
    return dataclasses.replace(
        component, raw=_digest([ComponentKind.MODULE.value, _RAW + module.source, module.is_package])
    )


def _file(name: str, content: PinnedFiles, format_: str | None) -> KeyComponent:
    """Return the component of a declared file: its name counts if the step can see it."""
    basenames = (
        [path.rsplit("/", 1)[-1] for path in content.paths]
        if content.kind != PinnedKind.GLOB and format_ is None
        else []
    )
    value = [str(content.kind), format_ or "", basenames, content.digest]
    count = f"{len(content.members)} files, " if content.kind != PinnedKind.FILE else ""
    members = "\n".join(f"{path}\t{size}\t{digest}" for path, size, digest in content.members)
    return _component((ComponentKind.INPUT, name), value, count + _size(content.bytes, content.digest), members)


def _dataset(name: str, pinned: PinnedDataset, format_: str | None) -> KeyComponent:
    """Return the component of a dataset's version: its content and how it is read, never its name and number.

    A value is the same as the step's output that it was registered from.
    """
    content, recipe = pinned.version.content, pinned.version.content.recipe
    kind = format_ or recipe.format or recipe.kind.value
    summary = f"{pinned.version}, {kind}, {_size(content.bytes, content.digest)}"
    if recipe.is_table:
        return _component((ComponentKind.INPUT, name), [encode_sparse(recipe), content.digest], summary)
    basename = pinned.basename if format_ is None and recipe.kind is not RecipeKind.VALUE else ""
    return _component((ComponentKind.INPUT, name), [kind, basename, content.digest], summary)


def _outputs(outputs: Iterable[Output]) -> KeyComponent:
    contract = [[item.name, item.format or ""] for item in outputs]
    return _component(
        ComponentKind.OUTPUTS,
        contract,
        ", ".join(f"{n}:{f}" if f else n for n, f in contract) or "none",
    )


# Only a step that declares it has this component: its result must have the display.
_SHOWS = _component(ComponentKind.SHOWS, "true", "true")


@lru_cache(maxsize=256)
def _variable(name: str, value: str | None) -> KeyComponent:
    """Return the component of an environment variable; only a digest of its value, which may be secret."""
    summary = "unset" if value is None else f"set, {_short(_digest(['value', value]))}"
    return _component((ComponentKind.ENVVAR, name), value, summary)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({_short(_digest(value))})"


def _size(size: int, digest: str) -> str:
    return f"{size:,} bytes, {_short(digest)}"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:8]
