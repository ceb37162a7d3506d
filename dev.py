#!/usr/bin/env python3
"""Set up a fresh clone and run its tools, with nothing but Python 3.11 (and its venv) installed.

::

    python3 dev.py quickstart    set up .venv, then run the pipeline of notebooks/quickstart.ipynb
    python3 dev.py test          set up .venv, then run the tests
    python3 dev.py check         set up .venv, then ruff, mypy and the import contracts

Arguments after `quickstart` or `test` are passed on: ``python3 dev.py test -k fingerprint``. Two test files run at a
time; ``-n 0`` runs them one after the other, as ``--pdb`` needs. The setup is repeated only if pyproject.toml, the
interpreter or the path of the clone has changed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

EXTRAS = {"quickstart": "examples", "test": "test", "check": "test"}

COMMANDS = {
    "quickstart": (("-m", "nbpipe", "run", "notebooks/quickstart.ipynb"),),
    # A file's tests stay together: they share its servers.
    "test": (("-m", "pytest", "-n", "2", "--dist", "loadfile"),),
    "check": (
        ("-m", "ruff", "check"),
        ("-m", "ruff", "format", "--check"),
        ("-m", "mypy"),
        ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
    ),
}


def main(arguments: list[str]) -> int:
    """Set up the environment of a command and run it; return the exit code of the first failure."""
    if sys.version_info < (3, 11):
        print(f"nbpipe needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    command_name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command_name not in COMMANDS or (rest and len(COMMANDS[command_name]) > 1):
        print(__doc__, file=sys.stderr)
        return 2
    environment = clean_environment()
    failed = set_up(EXTRAS[command_name], environment)
    for command in COMMANDS[command_name] if not failed else ():
        code = subprocess.call([str(PYTHON), *command, *rest], cwd=ROOT, env=environment)
        failed = failed or code
    return failed


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that affect the interpreter's choice, paths or speed."""
    # Without bytecode every start of every kernel would compile all its libraries again.
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {
        **environment,
        "VIRTUAL_ENV": str(VENV),
        "PATH": f"{PYTHON.parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
    }


def set_up(extra: str, environment: dict[str, str]) -> int:
    """Create .venv with nbpipe and one of its extras, unless it is up to date."""
    stamp = VENV / f"installed-{extra}"
    expected = fingerprint()
    if works(PYTHON) and stamp.exists() and stamp.read_text() == expected:
        return 0
    print(f"Setting up {VENV} with nbpipe[{extra}]: a minute or two, only this once …", file=sys.stderr, flush=True)
    if not works(PYTHON) and (code := subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)])):
        print("Python's venv is missing: on Debian, `apt install python3-venv`.", file=sys.stderr)
        return code
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--editable", f".[{extra}]"]
    if code := subprocess.call(pip, cwd=ROOT, env=environment):
        return code
    stamp.write_text(expected)
    return 0


def works(python: Path) -> bool:
    """Return whether an interpreter exists and starts; a virtual environment breaks when its base Python is removed."""
    return python.exists() and subprocess.call([str(python), "-c", "import pip"], stderr=subprocess.DEVNULL) == 0


def fingerprint() -> str:
    """Return a digest of everything that an installation depends on."""
    content = (ROOT / "pyproject.toml").read_bytes() + f"\n{sys.version}\n{ROOT}".encode()
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
