"""The job of an attempt as its kernel reads it: ``job.json``, and the sources of local modules.

Many steps of a run share local modules, so each source is stored once in the run's directory, and the job refers to it.
The environment's values are never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbpipe.codec import decode, encode_sparse
from nbpipe.data.atomic_file import create_file
from nbpipe.data.regular_file import read_regular
from nbpipe.data.run_texts import FOLDER, RunTexts
from nbpipe.model import DefinitionSource, FrozenModule, Job, JobInput, JobOutput

NAME = "job.json"


@dataclass(frozen=True, slots=True)
class ModuleReference:
    """A local module: ``path`` is the author's file, ``stored`` its source at submit, relative to the attempt."""

    name: str
    path: str
    stored: str
    is_package: bool = False


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a kernel, and later a debugger, needs to know about a step; ``ours`` are the folders that nbpipe owns."""

    attempt: str
    run: str
    step: str
    inputs: tuple[JobInput, ...] = ()
    outputs: tuple[JobOutput, ...] = ()
    modules: tuple[ModuleReference, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[DefinitionSource, ...] = ()
    imports: tuple[str, ...] = ()
    experiment: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()


def write_job(job: Job) -> Path:
    """Write a job into its attempt's directory and return the file."""
    directory = Path(job.directory)
    texts = RunTexts(directory.parents[1])
    content = JobFile(
        attempt=job.attempt, run=job.run, step=job.step, inputs=job.inputs, outputs=job.outputs,
        modules=tuple(_stored(module, texts) for module in job.modules), definitions=job.definitions,
        sources=job.sources, imports=job.imports, experiment=job.experiment, parameters=job.parameters,
        roots=job.roots, site=job.site,
        ours=(job.store, str(directory.parents[2])),
    )  # fmt: skip
    path = directory / NAME
    # Read only by this attempt's kernel, so it need not survive a power cut.
    create_file(path, encode_sparse(content).encode(), durable=False)
    return path


def read_job(directory: Path) -> JobFile:
    """Return the job in an attempt's directory; raise OSError or ValueError if it cannot be read."""
    return decode(read_regular(directory / NAME), JobFile)


def module_source(directory: Path, module: ModuleReference) -> str:
    """Return the source of a module of the attempt in ``directory`` at submit; raise OSError if it is missing."""
    return RunTexts(directory.parents[1]).get(Path(module.stored).name)


def _stored(module: FrozenModule, texts: RunTexts) -> ModuleReference:
    return ModuleReference(module.name, module.path, f"../../{FOLDER}/{texts.put(module.source)}", module.is_package)
