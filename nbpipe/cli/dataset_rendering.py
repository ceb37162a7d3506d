"""The output of the verbs about datasets in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.dataset_calls import (
    DatasetChangeResponse,
    DatasetDifferenceResponse,
    DatasetLineageResponse,
    DatasetListResponse,
    DatasetRegisteredResponse,
    DatasetResponse,
)
from nbpipe.views import dataset_tables as tables


def render_list(caller: ShellCaller, response: DatasetListResponse) -> int:
    """Print the newest version of each dataset, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json({"datasets": [tables.version_object(*each) for each in response.datasets]})
    else:
        caller.screen.lines(tables.list_lines(response.datasets, caller.screen.columns, response.now))
    return 0


def render_version(caller: ShellCaller, response: DatasetResponse) -> int:
    """Print a version, and return the exit code."""
    details, screen = response.details, caller.screen
    if screen.as_json:
        members = [tables.member_object(member) for member in details.members]
        profile = None if details.profile is None else tables.profile_object(details.profile)
        changes = None if details.earlier is None else tables.difference_object(details.earlier)
        problem = None if details.problem is None else details.problem.message
        screen.json(
            {**tables.version_object(details.version, details.labels), "run_number": details.run, "files": members,
             "profile": profile, "profile_error": problem, "changes": changes}
        )  # fmt: skip
    else:
        screen.lines(
            tables.version_lines(
                details.version, details.labels, details.members, screen.columns, response.now,
                run=details.run, profile=details.profile, problem=details.problem, earlier=details.earlier,
            )
        )  # fmt: skip
    return 0


def render_registered(caller: ShellCaller, response: DatasetRegisteredResponse) -> int:
    """Print what was registered, and return the exit code."""
    done = response.registered
    if caller.screen.as_json:
        caller.screen.json({**tables.version_object(done.version), "new": done.is_new})
    else:
        caller.screen.lines([tables.registered_line(done.version, is_new=done.is_new, by_size=done.by_size)])
    return 0


def render_difference(caller: ShellCaller, response: DatasetDifferenceResponse) -> int:
    """Print the difference between two versions, and return the exit code."""
    found, screen = response.difference, caller.screen
    if screen.as_json:
        screen.json(tables.difference_object(found))
    else:
        screen.lines(tables.difference_lines(found, screen.columns))
    return 0


def render_lineage(caller: ShellCaller, response: DatasetLineageResponse) -> int:
    """Print what a version was made from, and what from it, and return the exit code."""
    found = response.lineage
    if caller.screen.as_json:
        readers = [{"run": number, "step": step} for number, step in found.readers]
        caller.screen.json(
            {**tables.version_object(found.version), "run_number": found.run, "children": list(found.children),
             "readers": readers}
        )  # fmt: skip
    else:
        caller.screen.lines(tables.lineage_lines(found.version, found.run, found.children, found.readers))
    return 0


def render_change(caller: ShellCaller, response: DatasetChangeResponse) -> int:
    """Print what was done to a version, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json(tables.version_object(response.version))
    else:
        caller.screen.lines([f"{response.version} {response.change}"])
    return 0
