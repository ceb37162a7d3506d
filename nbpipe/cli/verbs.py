"""``nbpipe VERB NOTEBOOK`` in a shell: thin, truthful exit codes, one JSON object with ``--json``."""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from nbpipe import __version__
from nbpipe.cli.output import Screen, origins, replace
from nbpipe.cli.streams import lenient
from nbpipe.data.events import Tail
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.language.notebook import read_notebook
from nbpipe.language.text import nearest
from nbpipe.model import RunRecord, Status, StepRecord
from nbpipe.run.answers import Planned
from nbpipe.run.place import absolute, closed, find_place
from nbpipe.run.situation import Request
from nbpipe.run.submission import Submission, Wishes
from nbpipe.views import table, wire
from nbpipe.views.words import accepted_line
from nbpipe.workspace import LATER_VERBS, Workspace, request_for

_PAUSE = 0.2
EXIT = {Status.SUCCEEDED: 0, Status.CANCELLED: 130}
NOTEBOOK = click.argument("notebook", type=click.Path(path_type=Path))
WORKSPACE = click.option("--workspace", type=click.Path(path_type=Path), help="Another folder that holds everything.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
PARAM = click.option("-p", "--param", multiple=True, metavar="NAME=VALUE", help="A parameter's value.")


class _Verbs(click.Group):
    """The verbs; one that is not there gets an answer that helps."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Get a verb; BadUsage with the nearest one when there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in LATER_VERBS:
            raise BadUsage(f"`nbpipe {cmd_name}` is not supported yet")
        if command is None:
            raise BadUsage(
                f"there is no verb `{cmd_name}`", nearest(cmd_name, self.commands) or "`nbpipe --help` lists them."
            )
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nbpipe")
def cli() -> None:
    """Pipelines written as notebook cells: plan them, run them, reuse what is up to date."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with lenient():
        code = _outcome(spread_force(given), "--json" in given)
    # Whatever is left goes with the process: looking through all of it at exit takes longer than loading some modules.
    gc.freeze()
    sys.exit(code)


def _outcome(arguments: list[str], as_json: bool) -> int:
    screen = Screen(as_json)
    try:
        code = cli.main(arguments, standalone_mode=False, obj=screen)
    except click.NoSuchOption as error:
        return screen.refused(BadUsage(error.format_message(), _usage(error)))
    except click.UsageError as error:
        return screen.refused(BadUsage(error.format_message(), _usage(error)))
    except click.ClickException as error:
        return screen.refused(BadUsage(error.format_message()))
    except NbpipeError as error:
        return screen.refused(error)
    except PermissionError as error:
        if not isinstance(error.filename, str):
            raise
        return screen.refused(closed(Path(error.filename)))
    except (click.Abort, KeyboardInterrupt):
        screen.note("cancelled")
        return 130
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError) -> str:
    return error.ctx.get_usage().replace("\n", " ") if error.ctx else "`nbpipe --help` lists the verbs."


def spread_force(arguments: list[str]) -> list[str]:
    """Write ``--force A B`` as ``--force=A --force=B`` and a bare ``--force`` as ``--force=``, which click can read."""
    spread: list[str] = []
    names: int | None = None
    for argument in arguments:
        if argument == "--force":
            spread.append("--force=")
            names = len(spread) - 1
        elif names is not None and argument.isidentifier():
            if spread[names] == "--force=":
                spread[names] = f"--force={argument}"
            else:
                spread.append(f"--force={argument}")
        else:
            names = None
            spread.append(argument)
    return spread


def parameters(given: Sequence[str]) -> dict[str, str]:
    """Split ``NAME=VALUE`` words."""
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise BadUsage(f"`{word}` is not NAME=VALUE", "For example: -p learning_rate=0.05")
        if name in found:
            raise BadUsage(f"the parameter `{name}` is given twice", "Keep one.")
        found[name] = value
    return found


def tags(given: Sequence[str]) -> dict[str, str]:
    """Split ``KEY=VALUE`` tags."""
    pairs = [word.partition("=") for word in given]
    wrong = next(("".join(pair) for pair in pairs if not pair[1] or not pair[0]), None)
    if wrong is not None:
        raise BadUsage(f"the tag `{wrong}` is not KEY=VALUE", "For example: --tag author=ada")
    return {key: value for key, _, value in pairs}


def _open(notebook: Path, workspace: Path | None) -> Workspace:
    return Workspace.open(absolute(notebook).parent, workspace)


def _read(notebook: Path, workspace: Path | None) -> Workspace:
    return Workspace.read(absolute(notebook).parent, workspace)


def request_of(notebook: Path, workspace: Path | None, given: Sequence[str]) -> Request:
    """Get the request for a notebook, with values from the command line."""
    request = request_for(notebook, find_place(absolute(notebook).parent, workspace))
    return replace(request, texts=parameters(given))


@cli.command()
@NOTEBOOK
@PARAM
@WORKSPACE
@JSON
@click.pass_obj
def plan(screen: Screen, notebook: Path, param: tuple[str, ...], workspace: Path | None, as_json: bool) -> None:
    """Show what would run, what is reused, and why."""
    request = request_of(notebook, workspace, param)
    with _read(notebook, workspace) as opened:
        planned = opened.plan(request)
        screen.warnings(planned.warnings)
        if as_json:
            screen.json(plan_object(planned))
        else:
            numbers = opened.numbers(origins(planned.decisions.values()))
            screen.lines(table.plan_lines(plan_rows(planned), screen.columns, numbers))


@cli.command()
@NOTEBOOK
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@click.option("--to", "to", multiple=True, metavar="STEP", help="Up to this step: it and all that it needs.")
@click.option("--from", "start", metavar="STEP", help="From this step: it and all after it, forced.")
@PARAM
@click.option("--force", multiple=True, metavar="[STEP]...", help="Run again although results are there.")
@click.option("--detach", is_flag=True, help="Let the run go on by itself; `status` and `cancel` find it.")
@click.option("--keep-going", is_flag=True, help="Go on with what does not depend on a failed step.")
@click.option("--experiment", default="", help="The group of runs that this one belongs to.")
@click.option("--tag", "tag", multiple=True, metavar="KEY=VALUE", help="A note on the run.")
@WORKSPACE
@JSON
@click.pass_obj
def run(
    screen: Screen, /, notebook: Path, steps: tuple[str, ...], workspace: Path | None, as_json: bool, **more: Any
) -> int:
    """Run the pipeline, or the named steps and what they need."""
    request = _run_request(notebook, workspace, steps, more)
    wishes = Wishes(more["keep_going"], more["experiment"], tags(more["tag"]))
    with _open(notebook, workspace) as opened:
        if more["detach"]:
            cells = tuple(read_notebook(absolute(notebook)).cells)
            screen.detached(*opened.launch(Submission(cells, request, wishes, opened.place.root)))
            return 0
        with screen.following() as follower:
            report = opened.run(request, wishes, follower.step, began=follower.begin)
        if as_json:
            logged = opened.metrics(report.run.id, report.steps)
            screen.json(wire.run_object(report.run, report.steps, report.seconds, logged))
        else:
            numbers = opened.origin_numbers(report.steps)
            screen.report(report, numbers)
    return EXIT.get(report.run.status, 1)


def _run_request(notebook: Path, workspace: Path | None, steps: tuple[str, ...], more: dict[str, Any]) -> Request:
    request = request_of(notebook, workspace, more["param"])
    forced: tuple[str, ...] = more["force"]
    force = None if not forced else tuple(name for name in forced if name)
    return replace(request, steps=(*steps, *more["to"]), start=more["start"], force=force)


@cli.command()
@NOTEBOOK
@click.option("--follow", is_flag=True, help="Keep showing until the run is over.")
@WORKSPACE
@JSON
@click.pass_obj
def status(screen: Screen, notebook: Path, follow: bool, workspace: Path | None, as_json: bool) -> int:
    """Show the newest run of a notebook."""
    with _read(notebook, workspace) as opened:
        run_, steps = opened.last(_identity(notebook))
        if follow:
            run_, steps = _follow(screen, opened, run_)
        screen.run(run_, steps, opened.origin_numbers(steps), opened.clock(), opened.metrics(run_.id, steps))
    return EXIT.get(run_.status, 1) if follow else 0


def _follow(screen: Screen, opened: Workspace, run_: RunRecord) -> tuple[RunRecord, list[StepRecord]]:
    """Show what a run's steps become and tell, until the run is over."""
    tails: dict[str, Tail] = {}
    while True:
        run_, steps = opened.show(run_.id)
        screen.changed(steps)
        tails = {**opened.tails(run_.id), **tails}
        for step, tail in tails.items():
            screen.heard(step, tail.read())
        if run_.status.terminal:
            return run_, steps
        time.sleep(_PAUSE)


@cli.command()
@NOTEBOOK
@WORKSPACE
@JSON
@click.pass_obj
def cancel(screen: Screen, notebook: Path, workspace: Path | None, as_json: bool) -> None:
    """Stop what is going on of a notebook, wherever it was started."""
    with _open(notebook, workspace) as opened:
        for ended in opened.cancel(_identity(notebook)):
            screen.run(ended, opened.show(ended.id)[1], {}, opened.clock())


@cli.command()
@NOTEBOOK
@click.argument("step")
@PARAM
@WORKSPACE
@JSON
@click.pass_obj
def why(
    screen: Screen, notebook: Path, step: str, param: tuple[str, ...], workspace: Path | None, as_json: bool
) -> None:
    """Show how a step differs from its nearest earlier run."""
    request = request_of(notebook, workspace, param)
    with _read(notebook, workspace) as opened:
        explained = opened.why(request, step)
        screen.explained(explained, opened.numbers(explained.runs))


@cli.command()
@NOTEBOOK
@click.argument("step")
@PARAM
@WORKSPACE
@JSON
@click.pass_obj
def accept(
    screen: Screen, notebook: Path, step: str, param: tuple[str, ...], workspace: Path | None, as_json: bool
) -> None:
    """Let a step's last result stand for its new code: for a change that changes no result."""
    request = request_of(notebook, workspace, param)
    with _open(notebook, workspace) as opened:
        accepted = opened.accept(request, step)
        numbers = opened.numbers([accepted.hit.origin.run])
    if as_json:
        screen.json(wire.accepted_object(step, accepted.hit, accepted.reasons, accepted.record))
    else:
        screen.lines([accepted_line(step, accepted.hit, accepted.reasons, numbers)])


@cli.command()
@NOTEBOOK
@click.argument("step")
@WORKSPACE
@JSON
@click.pass_obj
def logs(screen: Screen, notebook: Path, step: str, workspace: Path | None, as_json: bool) -> None:
    """Show what a step printed in its newest run, or has printed so far."""
    with _read(notebook, workspace) as opened:
        found = opened.log(_identity(notebook), step)
    screen.log(step, found)


@cli.command()
@NOTEBOOK
@click.argument("output", metavar="[STEP.]OUTPUT")
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="FILE", help="The path to write.")
@WORKSPACE
@JSON
@click.pass_obj
def pull(
    screen: Screen, notebook: Path, output: str, target: Path | None, workspace: Path | None, as_json: bool
) -> None:
    """Copy a stored output out of the store."""
    with _read(notebook, workspace) as opened:
        identity = _identity(notebook)
        where = target or Path(opened.output(identity, output).basename)
        if target is None and where.exists():
            raise BadUsage(f"{where} is there already", "Name the path to write with --to FILE.")
        artifact = opened.pull(identity, output, where)
    if as_json:
        screen.json({"output": output, "path": str(where.resolve()), **wire.artifact_object(artifact)})
    else:
        screen.lines([f"{output} ({artifact.format}, {artifact.bytes:,} bytes) → {where}"])


@cli.command()
@click.argument("notebook", required=False, type=click.Path(path_type=Path))
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many, newest first.")
@WORKSPACE
@JSON
@click.pass_obj
def runs(screen: Screen, notebook: Path | None, limit: int, workspace: Path | None, as_json: bool) -> None:
    """List the newest runs, of one notebook or of the workspace."""
    with _read(notebook or Path.cwd() / "x", workspace) as opened:
        found = opened.runs(_identity(notebook) if notebook else None, limit)
        if as_json:
            screen.json(wire.runs_object(found))
        else:
            screen.lines(table.run_lines(found, screen.columns, opened.clock()))


@cli.command()
@click.argument("run", metavar="RUN")
@WORKSPACE
@JSON
@click.pass_obj
def show(screen: Screen, run: str, workspace: Path | None, as_json: bool) -> None:
    """Show one run: its number, its id, or the beginning of its id."""
    with Workspace.read(Path.cwd(), workspace) as opened:
        run_, steps = opened.show(run)
        screen.run(run_, steps, opened.origin_numbers(steps), opened.clock(), opened.metrics(run_.id, steps))


@cli.command()
@click.argument("notebook", required=False, type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Read all bytes again, also of files that look unchanged.")
@click.option("--repair", is_flag=True, help="Offer nothing that is wrong; make a lost history from kept results.")
@WORKSPACE
@JSON
@click.pass_obj
def verify(
    screen: Screen, *, notebook: Path | None, full: bool, repair: bool, workspace: Path | None, as_json: bool
) -> int:
    """Look whether every recorded output is there and is what it was."""
    near = absolute(notebook or Path.cwd() / "x").parent
    verified = Workspace.verify(near, workspace, full=full, repair=repair)
    problems = [(problem.where, problem.said) for problem in verified.problems]
    if as_json:
        screen.json(wire.verified_object(dataclasses.asdict(verified), whole=verified.whole))
    else:
        counts = (verified.outputs, verified.bytes, verified.unknown)
        screen.lines(table.verified_lines(problems, *counts, repaired=repair))
    return 0 if verified.whole else 1


def _identity(notebook: Path) -> str:
    return str(absolute(notebook))


def plan_rows(planned: Planned) -> list[table.PlanRow]:
    """Get a plan's rows for the table."""
    return [table.PlanRow(name, decision.verdict, planned.needs[name]) for name, decision in planned.decisions.items()]


def plan_object(planned: Planned) -> dict[str, Any]:
    """Get a plan as JSON."""
    verdicts = {name: decision.verdict for name, decision in planned.decisions.items()}
    return wire.plan_object(planned.notebook, verdicts, planned.needs, planned.warnings)
