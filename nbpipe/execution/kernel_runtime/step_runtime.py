"""The runtime of a step in its kernel: the one-step notebook calls it to load inputs and to save outputs.

This file is shipped to steps' kernels as source, so it imports only the standard library and what is shipped
beside it. It reads ``job.json`` in the attempt's directory and writes ``staging/``, ``error.json`` and, last and only
on success, ``outputs.json``. Rerun in plain Jupyter, it writes to a temporary folder and leaves the attempt unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import stat
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from nbpipe.data import dataset_tables, formats, postmortem, shared_objects
from nbpipe.data.atomic_file import write_file
from nbpipe.data.notebook_classes import share_classes
from nbpipe.data.notebook_definitions import HERE, Source, main_namespace
from nbpipe.errors import FormatUnavailable, NbpipeError
from nbpipe.execution.kernel_runtime import frozen_modules, private_inputs, step_api, tqdm_hook
from nbpipe.execution.kernel_runtime.builtins_guard import keep_builtins
from nbpipe.execution.kernel_runtime.input_watch import InputWatch
from nbpipe.execution.kernel_runtime.traceback_filter import filter_tracebacks
from nbpipe.execution.observation import step_observer

# Files in an attempt's directory that exist once the attempt has ended.
_ENDED = ("outputs.json", "manifest.json", "error.json", "notebook.ipynb")
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, ImportError, pickle.PickleError)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND

Stamps = Mapping[str, tuple[int, int, int]]


@dataclass(slots=True)
class _Step:
    """The step of this kernel: its inputs, and where it saves its outputs."""

    folder: Path
    staging: Path
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    stamps: Mapping[str, Stamps]
    guarded: tuple[tuple[str, str], ...]
    definitions: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    knows_definitions: bool = False
    exit_call: str = ""
    had_children: bool = False
    notes: list[str] = field(default_factory=list)
    watch: InputWatch = field(default_factory=InputWatch)
    together: dict[str, dict[int, Any]] = field(default_factory=dict)


_HERE: dict[str, _Step] = {}
_HOOKS: dict[str, Any] = {}


def begin(job_path: str) -> None:
    """Prepare the kernel for the step: frozen modules, read-only inputs, folders for outputs."""
    # Before the author can replace it.
    _HOOKS.setdefault("stdout", sys.stdout)
    job = _read_job(Path(job_path))
    job |= {"inputs": _with_formats(job, "inputs"), "outputs": _with_formats(job, "outputs")}
    modules = _read_modules(job, Path(job_path).parent)
    folder, staging = _places(Path(job_path).parent)
    job["inputs"] = private_inputs.with_copies(job["inputs"], staging)
    # Before inputs are read-only: one of them may hold the attempt's directory.
    step_api.enter(_context(job), folder if folder == Path(job_path).parent else None)
    shared = [item for item in job["inputs"] if not item.get("private")]
    paths = [(path, item["name"]) for item in shared for path in item["paths"]]
    guarded = {(spelling, name) for path, name in paths for spelling in (os.path.realpath(path), _unfollowed(path))}
    stamps = {item["name"]: _stamps(item["paths"]) for item in shared}
    for output in job["outputs"]:
        (staging / output["name"]).mkdir(0o700, parents=True, exist_ok=True)
    inputs, outputs, definitions = job["inputs"], job["outputs"], job.get("definitions", {})
    sources = tuple(_source(each) for each in job.get("sources", ()))
    _HERE["step"] = _Step(folder, staging, inputs, outputs, stamps, tuple(guarded), definitions, sources)
    frozen_modules.serve(modules)
    _HOOKS["modules"] = [item["path"] for item in modules]
    if "guard" not in _HOOKS:
        _HOOKS["guard"] = _guard
        sys.addaudithook(_guard)
        tqdm_hook.watch(step_api.progress)
    _watch_shell()
    step_observer.begin(job, str(folder), [spelling for spelling, _ in guarded])


def _source(item: Mapping[str, Any]) -> Source:
    return tuple(item["names"]), item["text"], tuple(item.get("needs", ()))


def _context(job: Mapping[str, Any]) -> step_api.RunContext:
    inputs = {item["name"]: [Path(path) for path in item["paths"]] for item in job["inputs"]}
    shown = {name: paths[0] if len(paths) == 1 else paths for name, paths in inputs.items()}
    experiment, parameters = job.get("experiment", ""), job.get("parameters", {})
    datasets = {item["name"]: item["dataset"] for item in job["inputs"] if item.get("dataset")}
    run, step, attempt = (job.get(name, "") for name in ("run", "step", "attempt"))
    return step_api.RunContext(
        active=True, run=run, experiment=experiment, step=step, attempt=attempt, inputs=shown, parameters=parameters,
        datasets=datasets,
    )  # fmt: skip


def load(name: str) -> Any:
    """Return an input: its value, its Path, or for a glob the list of its values or Paths."""
    item = next((item for item in _step().inputs if item["name"] == name), None)
    if item is None:
        raise NameError(f"the step has no input `{name}`")
    _know_definitions()
    paths = [Path(path) for path in item["paths"]]
    if item.get("table"):
        return _read_table(item, paths)
    producer = item.get("producer")
    together = _step().together.setdefault(producer, {}) if producer else None
    read = paths if item["format"] is None else [_read(name, item["format"], path, together) for path in paths]
    return read if item["kind"] in ("paths", "values") else read[0]


def _know_definitions() -> None:
    """Take the definitions as they are before inputs, and the step's own code, may bind their names to other values."""
    step = _step()
    if not step.knows_definitions:
        share_classes(main_namespace(), step.definitions, step.sources)
        HERE.expect_inputs(item["name"] for item in step.inputs)
        step.knows_definitions = True


def _read(name: str, format: str, path: Path, together: dict[int, Any] | None) -> Any:
    try:
        value = formats.load(path, format, together)
        _step().watch.loaded(name, format, path, value)
        return value
    except ModuleNotFoundError as error:
        raise ImportError(
            f"input `{name}` is stored as {format}, which needs the package {error.name} in this environment"
        ) from error
    except FormatUnavailable as error:
        raise ImportError(f"input `{name}` cannot be read: {error}") from error
    except _UNREADABLE as error:
        message = f"{type(error).__name__}: {error}"
        raise RuntimeError(f"input `{name}` ({format}, {path}) could not be read: {message}") from error


def _read_table(item: Mapping[str, Any], paths: Sequence[Path]) -> Any:
    """Return a table in files as a pandas DataFrame."""
    name, table = item["name"], item["table"]
    try:
        recipe = dataset_tables.recipe_from(table["recipe"])
        return dataset_tables.load(recipe, table["schema"], table["names"], paths)
    except ModuleNotFoundError as error:
        message = f"input `{name}` is a table, which needs the package {error.name} in this environment"
        raise ImportError(message) from error
    except (*_UNREADABLE, NbpipeError) as error:
        raise RuntimeError(f"input `{name}` ({item['dataset']}) could not be read: {error}") from error


def path(name: str) -> Path:
    """Return the path that the cell writes output ``name`` to; create it if it is a folder."""
    step = _step()
    output = next((output for output in step.outputs if output["name"] == name), None)
    if output is None:
        raise NameError(f"the step has no output `{name}`")
    target = step.staging / name / _basename(output)
    if output["format"] == "dir":
        target.mkdir(exist_ok=True)
    return target


def save(namespace: Mapping[str, Any]) -> None:
    """Save all outputs for the attempt, or raise an error that names the first missing one."""
    step = _step()
    if step.exit_call:
        raise RuntimeError(f"the step called {step.exit_call} before its end, so it has no outputs")
    for item in step.inputs:
        # Changes by child processes are the step's fault. The driver detects files that others changed meanwhile, and
        # uses the result for this run only.
        shared = item["name"] in step.stamps
        if step.had_children and shared and _stamps(item["paths"]) != step.stamps[item["name"]]:
            raise RuntimeError(f"input `{item['name']}` was changed while the step ran: inputs are read-only")
    report = step_observer.report()
    report["packages"] += sorted(formats.writers(output["format"] for output in step.outputs))
    report["changed"] = step.watch.changed([output["name"] for output in step.outputs])
    _write_json(step.folder / "observed.json", report)
    _know_definitions()
    for output in step.outputs:
        _require_output(step, output, namespace)
    saved = _save_all(step, namespace)
    for note in (entry["note"] for entry in saved if entry["note"]):
        _say(note)
    _write_json(step.folder / "outputs.json", {"outputs": saved})


def _step() -> _Step:
    if "step" not in _HERE:
        raise RuntimeError("the step has not started: run the notebook's first cell")
    return _HERE["step"]


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _removed(path) from None
    return job


def _with_formats(job: Mapping[str, Any], named: str) -> tuple[dict[str, Any], ...]:
    """Return a job's inputs or outputs; empty values are missing in its JSON."""
    return tuple({"format": None, **item} for item in job.get(named, ()))


def _read_modules(job: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return a job's modules with their sources, which are stored once for all attempts of a run."""
    modules = []
    for item in job.get("modules", ()):
        path = folder / item["stored"]
        try:
            source = path.read_bytes().decode("utf-8", "surrogatepass")
        except FileNotFoundError:
            raise _removed(path) from None
        modules.append({"is_package": False, **item, "source": source})
    return modules


def _removed(path: Path) -> FileNotFoundError:
    message = "this step's run was removed, so its inputs are no longer known; run the pipeline again"
    return FileNotFoundError(errno.ENOENT, message, str(path))


def _places(folder: Path) -> tuple[Path, Path]:
    """Return the folders for reports and outputs: temporary ones if the attempt has ended and this is a rerun."""
    if not any((folder / name).exists() for name in _ENDED):
        return folder, folder / "staging"
    fresh = Path(tempfile.mkdtemp(prefix="nbpipe-rerun-"))
    _say(f"this attempt has ended and stays as it is; outputs of this rerun go to {fresh}")
    return fresh, fresh / "staging"


def _say(text: str) -> None:
    # Must not fail if the author has closed the kernel's own stream.
    with contextlib.suppress(OSError, ValueError):
        _HOOKS["stdout"].write(f"nbpipe: {text}\n")


# Outputs


def _basename(output: Mapping[str, Any]) -> str:
    suffix = (output["format"] or "").removeprefix("file") if output["format"] != "dir" else ""
    return formats.basename(output["name"], suffix)


def _is_path(output: Mapping[str, Any]) -> bool:
    return output["format"] is not None and formats.is_path(output["format"])


def _require_output(step: _Step, output: Mapping[str, Any], namespace: Mapping[str, Any]) -> None:
    name = output["name"]
    if not _is_path(output):
        if name not in namespace:
            raise NameError(f"output `{name}` was not bound: no statement of the step gave it a value")
        return
    target = step.staging / name / _basename(output)
    expected = "folder" if output["format"] == "dir" else "file"
    if not os.path.lexists(target):
        raise FileNotFoundError(f"output `{name}` was not written: write a {expected} to the path that `{name}` holds")
    if target.is_dir() != (expected == "folder"):
        raise FileNotFoundError(f"output `{name}` was not written as a {expected}: found something else at {target}")
    _require_files(name, target)


def _require_files(name: str, target: Path) -> None:
    """Raise for anything but files and folders: broken links, link loops, sockets and pipes."""
    for file in _files(target, ()):
        if not (file.exists() and stat.S_ISREG(file.stat().st_mode)):
            raise FileNotFoundError(f"output `{name}` holds {file.name!r}, which is neither a file nor a folder")


def _files(target: Path, above: tuple[tuple[int, int], ...]) -> list[Path]:
    if not target.is_dir():
        return [target]
    here = (target.stat().st_dev, target.stat().st_ino)
    if here in above:
        raise OSError(errno.ELOOP, "a folder holds a link that leads back to itself", str(target))
    return [file for entry in sorted(target.iterdir()) for file in _files(entry, (*above, here))]


def _save_all(step: _Step, namespace: Mapping[str, Any]) -> list[dict[str, str]]:
    declared = {output["name"]: output["format"] for output in step.outputs if not _is_path(output)}
    values = {name: namespace[name] for name in declared}
    kept, apart = shared_objects.divided(
        shared_objects.sharings(values, HERE.references()),
        lambda name: formats.can_share(values[name], declared[name]),
    )
    saved = [_save_one(step, output, namespace, kept.get(output["name"])) for output in step.outputs]
    for entry in saved:
        entry["note"] = "; ".join(filter(None, [entry["note"], apart.get(entry["name"], "")]))
    return saved


def _save_one(
    step: _Step, output: Mapping[str, Any], namespace: Mapping[str, Any], together: shared_objects.SharedObjects | None
) -> dict[str, str]:
    name = output["name"]
    if _is_path(output):
        stored_as = "dir" if output["format"] == "dir" else "file"
        return {"name": name, "format": stored_as, "basename": _basename(output), "note": ""}
    saved = formats.save(
        namespace[name], name=name, format=output["format"], folder=step.staging / name, together=together
    )
    return {"name": name, "format": saved.format, "basename": saved.basename, "note": saved.note}


def _write_json(target: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically; not durably, as only this attempt's worker reads it, at once."""
    write_file(target, json.dumps(content).encode(), durable=False)


# Inputs are read-only


def _stamps(paths: Sequence[str]) -> Stamps:
    """Return the size, time and inode of every file of an input."""
    files = [file for path in paths for file in _files(Path(path), ())]
    return {str(file): _stamp(file) for file in files}


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except FileNotFoundError:
        return (-1, -1, -1)
    return status.st_size, status.st_mtime_ns, status.st_ino


# The index of a path in each audited event's arguments and, if any, of the descriptor of the folder it is relative to.
_CHANGES: Mapping[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "shutil.rmtree": ((0, 1),),
}
_CHILDREN = frozenset(
    {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "pty.spawn"}
)
_FOLLOWING = frozenset({"open", "os.truncate", "os.utime"})
_WITH_ALL_BELOW = frozenset({"os.rename", "shutil.rmtree"})


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: raise for changes to a declared input, and record when the step starts processes."""
    watched = _CHANGES.get(event)
    step = _HERE.get("step")
    if step is not None and event in _CHILDREN:
        step.had_children = True
    if watched is None or step is None or not step.guarded:
        return
    if event == "open" and not _opens_to_write(*arguments[1:3]):
        return
    for at, folder_at in watched:
        named = _named(arguments, at, folder_at)
        # Creating a folder that exists already changes nothing.
        if named is not None and not (event == "os.mkdir" and os.path.lexists(named)):
            target = os.path.realpath(named) if event in _FOLLOWING else _unfollowed(named)
            _refuse_inputs(step, target, with_all_below=event in _WITH_ALL_BELOW and at == 0)


def _opens_to_write(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str) and any(letter in mode for letter in "wax+"):
        return True
    return isinstance(flags, int) and bool(flags & _WRITING)


def _named(arguments: tuple[Any, ...], at: int, folder_at: int | None) -> str | None:
    """Return the path that an audited call names; None for a descriptor, which was checked when it was opened."""
    named = arguments[at]
    if not isinstance(named, str | bytes | os.PathLike):
        return None
    folder = arguments[folder_at] if folder_at is not None and folder_at < len(arguments) else -1
    beside = Path(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else Path()
    return str(beside / os.fsdecode(named))


def _unfollowed(named: str) -> str:
    """Return a path with the links in its folder resolved, but not a link at its end."""
    path = Path(named)
    return str(Path(os.path.realpath(path.parent), path.name))


def _refuse_inputs(step: _Step, target: str, *, with_all_below: bool) -> None:
    for guarded, name in step.guarded:
        inside = target == guarded or target.startswith(guarded.rstrip("/") + "/")
        if inside or (with_all_below and guarded.startswith(target.rstrip("/") + "/")):
            message = f"input `{name}` is read-only: write to an output, or to a copy of it"
            raise PermissionError(errno.EACCES, message, target)


# The end of a cell


def _watch_shell() -> None:
    # Not imported: outside of a kernel there is nothing to watch.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or _HOOKS.get("shell") is shell:
        return
    _HOOKS["shell"] = shell
    filter_tracebacks(shell)
    keep_builtins(shell)
    shell.events.register("post_run_cell", _note_definitions)
    shell.events.register("post_run_cell", _record_error)
    shell.events.register("post_run_cell", _show_newest_records)
    # The original would end the kernel only later, while the next cells already run.
    shell.ask_exit = _leave


def _note_definitions(_result: Any) -> None:
    """Take the definitions as soon as the cell with all of them has run."""
    step = _HERE.get("step")
    if step is not None and step.definitions and step.definitions.keys() <= main_namespace().keys():
        _know_definitions()


def _show_newest_records(_result: Any) -> None:
    step_api.show_newest()


def _leave() -> NoReturn:
    _step().exit_call = "quit() or exit()"
    raise SystemExit("the step called quit() or exit()")


def _record_error(result: Any) -> None:
    # What the author has done to the process may prevent it; their error must be seen, not one of this.
    with contextlib.suppress(Exception):
        _write_error(result)


def _write_error(result: Any) -> None:
    """Write ``error.json`` if a cell has raised."""
    error = result.error_before_exec or result.error_in_exec
    step = _HERE.get("step")
    if error is None or step is None:
        return
    if isinstance(error, SystemExit) and not step.exit_call:
        step.exit_call = "sys.exit()"
    shown = "".join(traceback.format_exception_only(error)).strip()
    record = {"ename": _name(error), "evalue": _error_text(error, shown), "line": _line(result, error)}
    _write_json(step.folder / "error.json", record)
    modules = frozenset(_HOOKS.get("modules", ()))
    cells = Path(_cell_name(result)).parent
    known = {*step.definitions, *(item["name"] for item in step.inputs)}
    postmortem.keep_postmortem(error, step.folder, lambda file: file in modules or Path(file).parent == cells, known)


def _name(error: BaseException) -> str:
    """Return the name of an error's class; where that is a private one of Python's, of the class that it extends."""
    kinds = type(error).__mro__
    return next(kind.__name__ for kind in kinds if kind.__module__ != "builtins" or not kind.__name__.startswith("_"))


def _error_text(error: BaseException, shown: str) -> str:
    """Return an error's text as formatted by ``traceback``, which handles errors whose ``str()`` fails."""
    if isinstance(error, SyntaxError):
        return str(error.msg)
    kind, separator, message = shown.partition(": ")
    return message if separator and kind.endswith(type(error).__name__) else ""


def _line(result: Any, error: BaseException) -> int | None:
    """Return the line in the cell that raised: the innermost one in the cell's own code."""
    name = _cell_name(result)
    if isinstance(error, SyntaxError) and (error.filename == name or result.error_before_exec):
        return error.lineno
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == name]
    return lines[-1] if lines else None


def _cell_name(result: Any) -> str:
    info = result.info
    compiler = _HOOKS["shell"].compile
    cell = getattr(info, "transformed_cell", None) or info.raw_cell
    return str(compiler.get_code_name(info.raw_cell, cell, result.execution_count))
