"""The interpreters that kernels run, found without loading jupyter_client, and the environments they start with."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jupyter_core.paths import jupyter_path

from nbpipe.data.digests import bytes_digest
from nbpipe.errors import EnvironmentUnavailable, NotSupportedYet
from nbpipe.model.compute import DEVICES

_KERNEL = ("-m", "ipykernel_launcher", "-f", "{connection_file}")
# Written by ipykernel into the kernels that it installs: for debuggers, without effect on results.
_PLAIN_OPTION = "-Xfrozen_modules=off"
_DEFAULT_NAME = "python3"
_NONE: Mapping[str, str] = MappingProxyType({})
_DELIVERED = ("PATH", "HOME", "USER", "TMPDIR")
# A step has one core by default: thread pools that each use all cores would compete.
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")
_ASK_SECONDS = 60
# In one line: some wrappers, as `conda run`, pass no argument on that has several.
# Files in the current folder, which `python -c` looks into first, must not stand in for the modules that it needs.
_ASK = (
    "import sys; path = list(sys.path); sys.path[:] = filter(None, path); "
    "import importlib.util, json, platform; sys.path[:] = path; print(json.dumps({"
    "'version': platform.python_version(), 'implementation': platform.python_implementation(), "
    "'platform': sys.platform + '-' + platform.machine(), "
    "'ipykernel': importlib.util.find_spec('ipykernel') is not None, 'path': sys.path}))"
)
# What a command line that names no module is asked by: the interpreter that it starts for the kernel runs this at its
# start, and ends. It is imported by every Python, also by one that is part of the wrapper.
_SITE_MODULE = "sitecustomize.py"
_SITE = f"""\
import os, sys
words = [word for word in sys.orig_argv[1:] if not word.startswith("-")]
if any("ipykernel" in word for word in words[:1]) and "conda" not in os.path.basename(words[0]):
    here = os.path.dirname(__file__)
    sys.path[:] = [place for place in sys.path if place != here]
    sys.stdout = open(os.path.join(here, "answer"), "w")
    {_ASK}
    sys.stdout.close()
    os._exit(0)
"""
_SCRIPT = b"#!"
_PROGRAMS = ("python", "pypy")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The interpreter of a step's kernel: ``kernel`` is its command line with ``{connection_file}`` in it.

    ``path`` is its import path. ``options`` are additional arguments in the command line, and what stands for the
    program that wraps it, if there is one. ``env`` are the variables of the kernelspec, which may refer to others as
    ``${NAME}``. ``by_message`` says that it is interrupted by a message, and not by a signal.
    """

    kernel: tuple[str, ...]
    version: str
    implementation: str
    platform: str
    path: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    by_message: bool = False


@dataclass(frozen=True, slots=True)
class _Spec:
    """An installed kernel: its folder and the content of its ``kernel.json``."""

    name: str
    folder: Path
    content: Mapping[str, Any]

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the kernel's command line; a plain ``python`` is this interpreter, as in Jupyter."""
        first, *rest = self.content["argv"]
        if re.fullmatch(rf"python({sys.version_info[0]}(\.{sys.version_info[1]})?)?", first):
            first = sys.executable
        places = {"{resource_dir}": str(self.folder), "{prefix}": sys.prefix}
        return tuple(_filled(word, places) for word in (first, *rest))

    @property
    def options(self) -> tuple[str, ...]:
        """Return the additional arguments in the command line, independent of the kernel's folder."""
        words = tuple(self.content["argv"][1:])
        return (*_wrapper(self.argv[0]), *_beyond(words))

    @property
    def by_message(self) -> bool:
        """Return whether the kernel is interrupted by a message."""
        return str(self.content.get("interrupt_mode", "signal")) == "message"

    @property
    def env(self) -> Mapping[str, str]:
        """Return the environment variables of the kernelspec."""
        return self.content.get("env") or _NONE


def _beyond(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a command line has beyond a plain one."""
    length = len(_KERNEL)
    at = next((place for place in range(len(words)) if words[place : place + length] == _KERNEL), None)
    if at is None:
        return words
    after = words[at + length :]
    return (*(word for word in words[:at] if word != _PLAIN_OPTION), *((*_KERNEL[:2], *after) if after else ()))


def _wrapper(program: str) -> tuple[str, ...]:
    """Return what identifies a program that wraps the interpreter: a script's content, or a program's name."""
    path = Path(shutil.which(program) or program)
    try:
        content = path.read_bytes() if path.is_file() and _is_script(path) else b""
    except OSError:
        content = b""
    if content:
        return ("wrapper", bytes_digest(content))
    return () if path.name.startswith(_PROGRAMS) else ("wrapper", path.name)


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SCRIPT)) == _SCRIPT


def find_interpreter(kernel_name: str | None) -> Interpreter:
    """Return the interpreter of a notebook's kernel, or this one if the notebook names none."""
    spec = _find(kernel_name) if kernel_name else None
    if spec is None:
        if kernel_name in (None, "", _DEFAULT_NAME):
            return _this((sys.executable, *_KERNEL))
        raise EnvironmentUnavailable(f"the kernel `{kernel_name}` is not installed here", _those_there())
    if str(spec.content.get("language", "")).lower() != "python":
        raise NotSupportedYet(
            f"the kernel `{spec.name}` runs {spec.content.get('language') or 'an unnamed language'}, not Python",
            "Steps in other languages are not supported yet: choose a Python kernel for the notebook.",
        )
    # With additional options or variables, even this interpreter may have another import path.
    as_this = _is_this(spec.argv[0]) and not spec.options and not spec.env
    return replace(_this(spec.argv), by_message=spec.by_message) if as_this else _interpreter_of(spec)


def _this(command: tuple[str, ...]) -> Interpreter:
    if importlib.util.find_spec("ipykernel") is None:
        raise _no_ipykernel(sys.executable)
    where = f"{sys.platform}-{platform.machine()}"
    return Interpreter(command, platform.python_version(), platform.python_implementation(), where, tuple(sys.path))


def _is_this(program: str) -> bool:
    # Links are not resolved: all virtual environments of one Python link to the same file.
    return Path(program) == Path(sys.executable)


def _find(name: str) -> _Spec | None:
    """Return the installed kernel of that name, searching in Jupyter's order: the user's folders first."""
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
    return f"Installed kernels: {', '.join(names)}. Choose one of them in the notebook's metadata."


def _interpreter_of(spec: _Spec) -> Interpreter:
    """Return the interpreter of another kernel by running it."""
    argv = spec.argv
    start, variables = argv, tuple(_substituted(spec.env, os.environ).items())
    if "-m" in argv:
        start = argv[: argv.index("-m")]
        answers = _ask(start, variables)
    else:
        answers = _ask_at_start(argv, variables)
    if isinstance(answers, str):
        raise EnvironmentUnavailable(
            f"the kernel `{spec.name}` cannot be used: `{start[0]}` {answers}",
            f"Install the kernel again, or remove it: {spec.folder}",
        )
    if not answers["ipykernel"]:
        raise _no_ipykernel(start[0])
    described = answers["version"], answers["implementation"], answers["platform"], tuple(answers["path"])
    return Interpreter(argv, *described, spec.options, spec.env, spec.by_message)


@lru_cache(maxsize=64)
def _ask(start: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> Mapping[str, Any] | str:
    """Return an interpreter's description of itself, or the end of a sentence on why it has none."""
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
        return f"is not a working Python ({error})"
    return answers


@lru_cache(maxsize=64)
def _ask_at_start(argv: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> Mapping[str, Any] | str:
    """Return the description of the interpreter that a whole command line starts, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _SITE_MODULE).write_text(_SITE, "utf-8")
        environ = {**os.environ, **dict(variables)}
        environ["PYTHONPATH"] = ":".join(filter(None, (folder, environ.get("PYTHONPATH"))))
        command = [word.replace("{connection_file}", f"{folder}/kernel.json") for word in argv]
        try:
            subprocess.run(
                command, capture_output=True, timeout=_ASK_SECONDS, check=False, env=environ, stdin=subprocess.DEVNULL
            )
            answers: Mapping[str, Any] = json.loads((Path(folder) / "answer").read_text("utf-8"))
        except FileNotFoundError:
            there = shutil.which(argv[0], path=environ.get("PATH")) is not None
            return "starts no ipykernel" if there else "is not there"
        except subprocess.TimeoutExpired:
            return f"started no ipykernel within {_ASK_SECONDS} s"
        except (OSError, ValueError) as error:
            return f"is not a working Python ({error})"
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
    environ: Mapping[str, str], names: Sequence[str], own: Mapping[str, str] = _NONE, *, cores: int = 1
) -> dict[str, str]:
    """Return all environment variables of a step's kernel.

    They are basic variables, the locale, the variables in ``names``, and the kernel's ``own``, which take precedence.
    Libraries start as many threads as the step has ``cores``.
    """
    fixed = {DEVICES: "", "PYTHONHASHSEED": "0", **dict.fromkeys(_POOLS, str(cores))}
    delivered = (*_DELIVERED, *key_environment(environ, names))
    passed = {name: environ[name] for name in delivered if name in environ}
    return fixed | passed | _substituted(own, environ)


def key_environment(
    environ: Mapping[str, str], names: Sequence[str], own: Mapping[str, str] = _NONE
) -> dict[str, str | None]:
    """Return the environment variables that count for reuse; None for one that is not set.

    In a kernel's own variables, references to variables that do not count are not replaced.
    """
    locale = sorted(name for name in environ if name.startswith("LC_"))
    counting = {name: value for name, value in environ.items() if name not in _DELIVERED}
    return {name: environ.get(name) for name in ("LANG", *locale, "TZ", *names)} | _substituted(own, counting)
