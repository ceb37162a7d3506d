"""Tab completion of ``%%step``, ``#| key:`` lines and ``%nbpipe``, for all front ends of the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from nbpipe.errors import NbpipeError
from nbpipe.language.completion import CompletionNames, complete
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.resolve.workspace_layout import datastores_near
from nbpipe.verbs.completion import complete_line

_LOOKED_AT = 2_000
_NAME = "nbpipe_matcher"
_QUOTED = frozenset(" ,'\"")


def offer(shell: InteractiveShell, session: KernelSession) -> None:
    """Add nbpipe's matcher to IPython's completer."""
    shell.Completer.custom_matchers.append(_matcher(session))


def offer_no_more(shell: InteractiveShell) -> None:
    """Remove nbpipe's matcher from IPython's completer."""
    others = [matcher for matcher in shell.Completer.custom_matchers if getattr(matcher, "__name__", "") != _NAME]
    shell.Completer.custom_matchers[:] = others


def _matcher(session: KernelSession) -> Callable[[CompletionContext], Any]:
    @context_matcher()  # type: ignore[untyped-decorator]
    def nbpipe_matcher(context: CompletionContext) -> Any:
        source = context.full_text
        if "step" not in source and "%nbpipe" not in source:
            return _nothing()
        place = (source, context.cursor_line, context.cursor_position, completion_names(session))
        offered = complete_line(*place) or complete(*place)
        if offered is None:
            return _nothing()
        words = [SimpleCompletion(text=word, type="nbpipe") for word in offered.words]
        return SimpleMatcherResult(completions=words, matched_fragment=offered.fragment, suppress=True, ordered=True)

    matcher: Callable[[CompletionContext], Any] = nbpipe_matcher
    return matcher


def completion_names(session: KernelSession) -> CompletionNames:
    """Return the names to complete in this kernel; only paths if its cells cannot be parsed."""
    paths, datastores = partial(_paths, session.base), datastores_near(session.base)
    datasets = _datasets(session)
    try:
        reading = session.reading()
    except NbpipeError:
        return CompletionNames(paths=paths, datastores=datastores, datasets=datasets)
    steps = {step.name: tuple(output.name for output in step.outputs) for step in reading.steps}
    parameters = tuple(parameter.name for parameter in reading.parameters)
    return CompletionNames(steps, parameters, paths, datastores, datasets)


def _datasets(session: KernelSession) -> tuple[str, ...]:
    """Return the names of the datasets; none if there is no workspace, or none that can be read."""
    try:
        return session.readable.dataset_names() if session.has_workspace else ()
    except NbpipeError:
        return ()


def _paths(base: Path, prefix: str) -> list[str]:
    """Return the files and folders that begin with a prefix, without names that would need quotes."""
    folder, slash, name = prefix.rpartition("/")
    try:
        with os.scandir(base / (folder + slash)) as listing:
            entries = [(entry.name, entry.is_dir()) for entry in islice(listing, _LOOKED_AT)]
    except OSError:
        return []
    fitting = sorted(entry for entry in entries if entry[0].startswith(name) and not (_QUOTED & set(entry[0])))
    return [f"{folder}{slash}{entry}{'/' * is_dir}" for entry, is_dir in fitting if name or not entry.startswith(".")]


def _nothing() -> Any:
    return SimpleMatcherResult(completions=[], suppress=False)
