"""The URLs of stored outputs, for JSON."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import Artifact
from nbpipe.views import json_output


def output_urls(caller: ShellCaller) -> json_output.UrlOf:
    """Return a function from outputs to URLs, which prints each problem once and returns None instead."""
    problems: set[str] = set()

    def url(artifact: Artifact) -> str | None:
        try:
            return caller.workspace.materializer.url(artifact)
        except StoreOutOfReach as error:
            if str(error) not in problems:
                caller.screen.note(f"warning: {error}")
            problems.add(str(error))
            return None

    return url
