"""A kernel's interpreter is found without loading Jupyter's clients; its environment is what is declared, exactly."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.compute.environments import find_interpreter, kernel_environment, key_environment
from nbpipe.errors import EnvironmentUnavailable, NotSupportedYet

# What every kernel has, whatever the author's environment: no device, one thread, one order of sets.
FIXED = {
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
}
_NAMES = st.sampled_from(["PATH", "HOME", "LANG", "LC_ALL", "LC_TIME", "TZ", "DATA_DIR", "TOKEN", "PYTHONPATH"])


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Install kernels where Jupyter looks first."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))

    def install(name: str, *argv: str, language: str = "python", **more: Any) -> Path:
        folder = tmp_path / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(
            json.dumps({"argv": argv, "language": language, "display_name": name, **more})
        )
        return folder

    return install


@pytest.mark.parametrize("name", [None, "python3"])
def test_no_name_and_python3_are_this_interpreter(name):
    found = find_interpreter(name)
    assert found.kernel[0] == sys.executable
    assert "{connection_file}" in found.kernel
    assert found.version == platform.python_version()
    assert found.platform == f"{sys.platform}-{platform.machine()}"


def test_a_kernel_that_names_plain_python_is_this_interpreter(jupyter):
    jupyter("mine", "python3", "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log={resource_dir}")
    found = find_interpreter("mine")
    assert found.kernel[0] == sys.executable
    assert found.kernel[-1].endswith("kernels/mine")
    assert found.version == platform.python_version()


def test_names_are_found_as_jupyter_finds_them_whatever_their_case(jupyter):
    jupyter("Mine", "python", "-m", "ipykernel_launcher", "-f", "{connection_file}")
    assert find_interpreter("mine").kernel[0] == sys.executable


def test_an_unknown_kernel_is_refused_with_those_that_exist(jupyter):
    jupyter("torch", "python", "-m", "ipykernel_launcher", "-f", "{connection_file}")
    with pytest.raises(EnvironmentUnavailable, match="`tensor` is not installed") as caught:
        find_interpreter("tensor")
    assert "python3, torch" in caught.value.hint


def test_other_languages_are_not_supported_yet(jupyter):
    jupyter("ir", "R", "--slave", language="R")
    with pytest.raises(NotSupportedYet, match="`ir` runs R, not Python"):
        find_interpreter("ir")


def test_an_interpreter_without_ipykernel_is_refused_with_the_cure(jupyter, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    jupyter("bare", python, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    with pytest.raises(EnvironmentUnavailable, match="does not have it") as caught:
        find_interpreter("bare")
    assert caught.value.hint == f"Install it: {python} -m pip install ipykernel"


def test_another_interpreter_is_asked_for_its_version(jupyter, tmp_path):
    """A wrapper stands for another interpreter: whatever starts before ``-m`` is what is asked."""
    program = tmp_path / "wrapped python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    jupyter("wrapped", str(program), "-m", "ipykernel_launcher", "-f", "{connection_file}")
    found = find_interpreter("wrapped")
    assert found.kernel[0] == str(program)
    assert found.version == platform.python_version()


@pytest.mark.parametrize("module", ["json", "platform"])
def test_another_interpreter_is_asked_without_what_lies_in_the_current_folder(jupyter, tmp_path, monkeypatch, module):
    program = tmp_path / "elsewhere"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / f"{module}.py").write_text("open('evil', 'w')\n")
    monkeypatch.chdir(stranger)
    jupyter("elsewhere", str(program), "-m", "ipykernel_launcher", "-f", "{connection_file}")
    assert find_interpreter("elsewhere").path[0] == ""
    assert not (stranger / "evil").exists()


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_an_interpreter_that_cannot_answer_is_refused(jupyter, program):
    jupyter("gone", program, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    with pytest.raises(EnvironmentUnavailable, match=program):
        find_interpreter("gone")


PLAIN = ("-m", "ipykernel_launcher", "-f", "{connection_file}")


@pytest.mark.parametrize(
    "words, options",
    [
        (PLAIN, ()),
        (("-Xfrozen_modules=off", *PLAIN), ()),
        (("-O", *PLAIN), ("-O",)),
        (("-W", "ignore", "-Xfrozen_modules=off", "-Xdev", *PLAIN), ("-W", "ignore", "-Xdev")),
        ((*PLAIN, "--matplotlib=inline"), ("-m", "ipykernel_launcher", "--matplotlib=inline")),
        ((*PLAIN, "--log={resource_dir}"), ("-m", "ipykernel_launcher", "--log={resource_dir}")),
        (("-m", "ipykernel", *PLAIN[2:]), ("-m", "ipykernel", *PLAIN[2:])),
    ],
)
def test_what_a_command_line_has_beyond_a_plain_one_is_known(jupyter, words, options):
    jupyter("mine", sys.executable, *words)
    found = find_interpreter("mine")
    assert found.options == options
    assert found.version == platform.python_version()


@pytest.mark.parametrize(
    "text, more",
    [
        ('exec {python} "$@"', PLAIN),
        ('exec "$@"', (sys.executable, *PLAIN)),
        ("exec {python} -m ipykernel_launcher -f $1", ("{connection_file}",)),
        ("{python} -c pass\nexec {python} -m ipykernel_launcher -f $1", ("{connection_file}",)),
    ],
)
def test_a_wrapper_is_asked_for_what_it_wraps_and_its_content_counts(jupyter, tmp_path, text, more):
    def wrapped(name: str, note: str) -> Any:
        program = tmp_path / f"start-{name}"
        program.write_text(f"#!/bin/sh\n# {note}\n{text.format(python=sys.executable)}\n")
        program.chmod(0o755)
        jupyter(name, str(program), *more)
        return find_interpreter(name)

    one, same, other = wrapped("one", "x"), wrapped("same", "x"), wrapped("other", "y")
    assert one.kernel == (str(tmp_path / "start-one"), *more)
    assert (one.version, one.implementation) == (platform.python_version(), platform.python_implementation())
    assert str(tmp_path) not in "".join(one.path)
    assert one.options == same.options != other.options
    assert one.options[0] == "wrapper"


@pytest.mark.parametrize("words", [("env", "LEVEL=1"), ("nice", "-n", "1")])
def test_a_program_that_starts_the_interpreter_counts(jupyter, words):
    jupyter("mine", *words, sys.executable, *PLAIN)
    found = find_interpreter("mine")
    assert found.options == ("wrapper", words[0], *words[1:], sys.executable)
    assert found.version == platform.python_version()


def test_a_wrapper_that_starts_no_kernel_is_refused(jupyter, tmp_path):
    program = tmp_path / "start"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    jupyter("mine", str(program), "{connection_file}")
    with pytest.raises(EnvironmentUnavailable, match="starts no ipykernel"):
        find_interpreter("mine")


@pytest.mark.parametrize("mode, by_message", [("message", True), ("signal", False), (None, False)])
def test_how_a_kernel_is_interrupted_is_known(jupyter, mode, by_message):
    jupyter("mine", sys.executable, *PLAIN, **({"interrupt_mode": mode} if mode else {}))
    assert find_interpreter("mine").by_message is by_message


def test_a_kernels_own_variables_are_set_as_jupyter_sets_them(jupyter):
    own = {"PYTHONPATH": "/more:${HOME}/lib", "PATH": "/mine:${PATH}", "LEVEL": "${MODE}", "OMP_NUM_THREADS": "4"}
    jupyter("mine", sys.executable, *PLAIN, env=own)
    found = find_interpreter("mine")
    assert "/more" in found.path, "where it looks for modules"
    environ = {"PATH": "/bin", "HOME": "/h", "MODE": "fast", "LEVEL": "none"}
    made = kernel_environment(environ, ["LEVEL"], found.env)
    assert made == {
        **FIXED,
        "PATH": "/mine:/bin",
        "HOME": "/h",
        "PYTHONPATH": "/more:/h/lib",
        "LEVEL": "fast",
        "OMP_NUM_THREADS": "4",
    }
    assert key_environment(environ, [], found.env) == {
        "LANG": None,
        "TZ": None,
        **own,
        "LEVEL": "fast",
    }


@pytest.mark.parametrize(
    "told",
    [
        "{",
        "[]",
        "{}",
        '{"argv": []}',
        '{"argv": [1]}',
        '{"argv": ["x"], "env": [1]}',
        '{"argv": ["x"], "env": {"A": 1}}',
    ],
)
def test_a_damaged_kernel_is_refused_naming_its_file(jupyter, told):
    (jupyter("broken", "python") / "kernel.json").write_text(told)
    with pytest.raises(EnvironmentUnavailable, match=r"kernel\.json"):
        find_interpreter("broken")


def test_only_what_is_declared_reaches_a_kernel():
    environ = {
        "PATH": "/bin",
        "HOME": "/h",
        "LANG": "C",
        "LC_TIME": "de",
        "AWS_SECRET": "x",
        "PYTHONPATH": "/p",
        "D": "1",
    }
    assert kernel_environment(environ, ["D", "MISSING"]) == {
        "PATH": "/bin",
        "HOME": "/h",
        "LANG": "C",
        "LC_TIME": "de",
        "D": "1",
        **FIXED,
    }


def test_unset_is_a_value_of_the_key():
    assert key_environment({"LC_ALL": "C", "PATH": "/bin"}, ["D"]) == {
        "LANG": None,
        "LC_ALL": "C",
        "TZ": None,
        "D": None,
    }


def test_a_fixed_variable_that_is_declared_is_the_authors():
    """Who declares it has it in the key, and may have it as set."""
    assert kernel_environment({"OMP_NUM_THREADS": "4"}, ["OMP_NUM_THREADS"])["OMP_NUM_THREADS"] == "4"
    assert kernel_environment({"OMP_NUM_THREADS": "4"}, [])["OMP_NUM_THREADS"] == "1"


@given(st.dictionaries(_NAMES, st.text(max_size=3)), st.lists(_NAMES, max_size=3))
def test_what_is_in_the_key_is_delivered(environ, names):
    """Every variable of the key that is set reaches the kernel with just that value."""
    delivered = kernel_environment(environ, names)
    key = key_environment(environ, names)
    assert all(delivered[name] == value for name, value in key.items() if value is not None)
    assert set(delivered) - set(FIXED) <= set(environ)


def test_nothing_heavy_is_loaded():
    """A plan names the interpreter without paying for Jupyter's clients or Dask."""
    asked = (
        "import sys, nbpipe.compute.environments as e, nbpipe.compute.targets; "
        "e.find_interpreter(None); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"distributed", "dask", "papermill", "jupyter_client", "zmq", "nbformat", "IPython", "ipykernel"}
    assert not heavy & set(loaded)
