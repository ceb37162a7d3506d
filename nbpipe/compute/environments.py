"""The interpreters that kernels run, found without loading jupyter_client, and the environments they start with."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import string
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jupyter_core.paths import jupyter_path

from nbpipe.errors import EnvironmentUnavailable, NotSupportedYet

_KERNEL = ("-m", "ipykernel_launcher", "-f", "{connection_file}")
# What ipykernel writes into the kernels that it installs: for debuggers, and of no consequence for what runs.
_PLAIN_OPTION = "-Xfrozen_modules=off"
_DEFAULT_NAME = "python3"
_NONE: Mapping[str, str] = MappingProxyType({})
_DELIVERED = ("PATH", "HOME", "USER", "TMPDIR")
# A step has one core unless it asks for more: pools that each take the whole machine get in each other's way.
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")
_ASK_SECONDS = 60
_ASK = """\
import importlib.util, json, platform, sys
print(json.dumps({
    "version": platform.python_version(), "implementation": platform.python_implementation(),
    "platform": sys.platform + "-" + platform.machine(),
    "ipykernel": importlib.util.find_spec("ipykernel") is not None, "path": sys.path,
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What a step's kernel runs: ``kernel`` is its command line with ``{connection_file}`` in it.

    ``path`` is where it looks for modules. ``options`` are the words of the command line that a plain one has not, and
    ``env`` the variables that the kernel sets for itself, with ``${NAME}`` for others in them.
    """

    kernel: tuple[str, ...]
    version: str
    implementation: str
    platform: str
    path: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Spec:
    """An installed kernel: where it lies, and what its ``kernel.json`` says."""

    name: str
    folder: Path
    content: Mapping[str, Any]

    @property
    def argv(self) -> tuple[str, ...]:
        """The kernel's command line; a plain ``python`` is this interpreter, as Jupyter has it."""
        first, *rest = self.content["argv"]
        if re.fullmatch(rf"python({sys.version_info[0]}(\.{sys.version_info[1]})?)?", first):
            first = sys.executable
        places = {"{resource_dir}": str(self.folder), "{prefix}": sys.prefix}
        return tuple(_filled(word, places) for word in (first, *rest))

    @property
    def options(self) -> tuple[str, ...]:
        """What the command line has beyond a plain one, wherever the kernel is installed."""
        words = tuple(self.content["argv"][1:])
        ends = len(_KERNEL)
        at = next((place for place in range(len(words)) if words[place : place + ends] == _KERNEL), None)
        if at is None:
            return words
        after = words[at + ends :]
        return (*(word for word in words[:at] if word != _PLAIN_OPTION), *((*_KERNEL[:2], *after) if after else ()))

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that the kernel sets."""
        return self.content.get("env") or _NONE


def find_interpreter(kernel_name: str | None) -> Interpreter:
    """Return the interpreter of a notebook's kernel: this very one where the notebook names none."""
    spec = _find(kernel_name) if kernel_name else None
    if spec is None:
        if kernel_name in (None, "", _DEFAULT_NAME):
            return _this((sys.executable, *_KERNEL))
        raise EnvironmentUnavailable(f"the kernel `{kernel_name}` is not installed here", _those_there())
    if str(spec.content.get("language", "")).lower() != "python":
        raise NotSupportedYet(
            f"the kernel `{spec.name}` runs {spec.content.get('language') or 'an unnamed language'}, not Python",
            "Steps in other languages are not built yet: choose a Python kernel for the notebook.",
        )
    # With options or variables of its own, even this interpreter may look for modules elsewhere.
    as_this = _is_this(spec.argv[0]) and not spec.options and not spec.env
    return _this(spec.argv) if as_this else _asked(spec)


def _this(command: tuple[str, ...]) -> Interpreter:
    if importlib.util.find_spec("ipykernel") is None:
        raise _no_ipykernel(sys.executable)
    where = f"{sys.platform}-{platform.machine()}"
    return Interpreter(command, platform.python_version(), platform.python_implementation(), where, tuple(sys.path))


def _is_this(program: str) -> bool:
    # Not the files behind links: all virtual environments of one Python share that file.
    return Path(program) == Path(sys.executable)


def _find(name: str) -> _Spec | None:
    """Return the installed kernel of that name; Jupyter looks in the user's folders first, and so does this."""
    return next((_read(folder) for folder in _installed() if folder.name.lower() == name.lower()), None)


def _installed() -> Iterator[Path]:
    """Yield the folders of installed kernels in Jupyter's order."""
    for place in jupyter_path("kernels"):
        for path in sorted(Path(place).glob("*/kernel.json")):
            yield path.parent


def _read(folder: Path) -> _Spec:
    name = folder.name
    try:
        content = json.loads((folder / "kernel.json").read_text("utf-8"))
        if not content["argv"] or not all(isinstance(word, str) for word in content["argv"]):
            fault = "`argv` is not a command line"
        elif not _are_variables(content.get("env") or {}):
            fault = "`env` does not give each variable a text"
        else:
            return _Spec(name, folder, content)
    except (OSError, ValueError) as error:
        fault = str(error)
    except (KeyError, TypeError):
        fault = "`argv` is missing"
    raise EnvironmentUnavailable(f"the kernel `{name}` cannot be used: {folder / 'kernel.json'}: {fault}")


def _are_variables(variables: Any) -> bool:
    return isinstance(variables, dict) and all(isinstance(value, str) for value in variables.values())


def _those_there() -> str:
    names = sorted({_DEFAULT_NAME, *(folder.name for folder in _installed())})
    return f"Kernels that are: {', '.join(names)}. Choose one of them in the notebook's metadata."


def _asked(spec: _Spec) -> Interpreter:
    """Return the interpreter behind another program by asking it."""
    argv = spec.argv
    start = argv[: argv.index("-m")] if "-m" in argv else argv[:1]
    answers = _ask(start, tuple(_substituted(spec.env, os.environ).items()))
    if isinstance(answers, str):
        raise EnvironmentUnavailable(
            f"the kernel `{spec.name}` cannot be used: `{start[0]}` {answers}",
            f"Install the kernel again, or remove it: {spec.folder}",
        )
    if not answers["ipykernel"]:
        raise _no_ipykernel(start[0])
    known = answers["version"], answers["implementation"], answers["platform"], tuple(answers["path"])
    return Interpreter(argv, *known, spec.options, spec.env)


@lru_cache(maxsize=64)
def _ask(start: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> Mapping[str, Any] | str:
    """Return what an interpreter says about itself, or a half-sentence why it says nothing."""
    try:
        environ = {**os.environ, **dict(variables)}
        answer = subprocess.run(
            [*start, "-c", _ASK], capture_output=True, timeout=_ASK_SECONDS, check=True, env=environ
        )
        answers: Mapping[str, Any] = json.loads(answer.stdout)
    except FileNotFoundError:
        return "is not there"
    except subprocess.TimeoutExpired:
        return f"did not answer within {_ASK_SECONDS} s"
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        return f"is no Python that answers ({error})"
    return answers


def _no_ipykernel(program: str) -> EnvironmentUnavailable:
    return EnvironmentUnavailable(
        f"steps need ipykernel, and {program} does not have it", f"Install it: {program} -m pip install ipykernel"
    )


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _substituted(variables: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return a kernel's own variables as Jupyter sets them: with others' values in place of their names."""
    return {name: string.Template(text).safe_substitute(environ) for name, text in variables.items()}


def kernel_environment(
    environ: Mapping[str, str], names: Sequence[str], own: Mapping[str, str] = _NONE
) -> dict[str, str]:
    """Return all environment variables of a step's kernel.

    They are what every program needs, the locale, ``names`` as set, and the kernel's ``own``, which come before others.
    """
    fixed = {"CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0", **dict.fromkeys(_POOLS, "1")}
    delivered = (*_DELIVERED, *key_environment(environ, names))
    given = {name: environ[name] for name in delivered if name in environ}
    return fixed | given | _substituted(own, environ)


def key_environment(
    environ: Mapping[str, str], names: Sequence[str], own: Mapping[str, str] = _NONE
) -> dict[str, str | None]:
    """Return the environment variables that count for reuse; one that is not set is None.

    In a kernel's own variables, what is delivered without counting stays a name.
    """
    locale = sorted(name for name in environ if name.startswith("LC_"))
    counting = {name: value for name, value in environ.items() if name not in _DELIVERED}
    return {name: environ.get(name) for name in ("LANG", *locale, "TZ", *names)} | _substituted(own, counting)
