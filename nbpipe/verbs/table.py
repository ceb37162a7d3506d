"""The table of verbs, used by shells, notebooks, completion, help and the tests of the documentation.

The call behind a verb is found by its name in :mod:`nbpipe.verbs.calls`, so that help and completion do not load it.
"""

from __future__ import annotations

from nbpipe.verbs import options as o
from nbpipe.verbs.syntax import Face, Verb

VERBS = (
    Verb(
        "init", "Create a workspace in a folder, and configure linters for step cells.",
        (o.FOLDER,), (o.WORKSPACE, o.JSON), faces=Face.SHELL,
    ),
    Verb(
        "plan", "Show what would run, what is reused, and why.",
        (o.NOTEBOOK,), (o.PARAM, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "run", "Run the pipeline, or the named steps and what they need.",
        (o.NOTEBOOK, o.STEPS),
        (o.TO, o.FROM, o.PARAM, o.FORCE, o.KEEP_GOING, o.DETACH, o.HERE, o.EXPERIMENT, o.TAG, o.WORKSPACE, o.JSON),
        exclusive=tuple((o.HERE, other) for other in (o.TO, o.FROM, o.FORCE, o.KEEP_GOING, o.DETACH, o.EXPERIMENT,
                                                      o.TAG)),
    ),
    Verb(
        "cancel", "Cancel the notebook's active runs, and wait until they have stopped.",
        (o.NOTEBOOK,), (o.WORKSPACE, o.JSON),
    ),
    Verb(
        "status", "Show the newest run.",
        (o.NOTEBOOK,), (o.FOLLOW, o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "why", "Show how a step differs from its nearest earlier run.",
        (o.NOTEBOOK, o.STEP), (o.PARAM, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "debug", "Debug a failed step: bind its inputs and load its code.",
        (o.NOTEBOOK, o.STEP), (o.LOCALS, o.DEBUG_WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "accept", "Keep a step's last result after an edit that does not affect it.",
        (o.NOTEBOOK, o.STEP), (o.PARAM, o.WORKSPACE, o.JSON),
    ),
    Verb(
        "logs", "Show the output of a step, also while it runs.",
        (o.NOTEBOOK, o.STEP), (o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "pull", "Load a stored output in a notebook, or copy it to a file in a shell.",
        (o.NOTEBOOK, o.OUTPUT), (o.TARGET, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "runs", "List the newest runs and the steps that ran.",
        (o.ANY_NOTEBOOK,),
        (o.ALL, o.OF_EXPERIMENT, o.OF_STATUS, o.OF_TAG, o.OF_STEP, o.LIMIT, o.WORKSPACE, o.JSON), reads_only=True),
    Verb("show", "Show one run, given by its number, its id, or the beginning of its id.",
         (o.RUN,), (o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "compare", "Show two runs side by side.",
        (o.RUN, o.OTHER_RUN), (o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "verify", "Check that every recorded output is present and unchanged.",
        (o.ANY_NOTEBOOK,), (o.FULL, o.REPAIR, o.WORKSPACE, o.JSON),
    ),
    Verb(
        "trust", "Accept a workspace that nbpipe did not make for this user.",
        (o.ANY_NOTEBOOK,), (o.WORKSPACE, o.JSON),
    ),
    Verb(
        "lint", "Check the notebook without planning or running it.",
        (o.NOTEBOOK,), (o.PARAM, o.FIX, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "fmt", "Format the declarations of steps in the notebook file.",
        (o.NOTEBOOKS,), (o.CHECK, o.LONG, o.SHORT, o.JSON), exclusive=((o.LONG, o.SHORT),),
    ),
    Verb(
        "defaults", "Set defaults: retries, timeout, memory, reuse, envvar, run=manual.",
        (o.DEFAULTS,), faces=Face.NOTEBOOK,
    ),
)  # fmt: skip

# Verbs of the language that this version does not implement: every face reports the same error for them.
LATER_VERBS = (
    "datasets", "datastores", "compute", "env", "pin", "unpin", "publish", "schedule", "gc", "propose",
)  # fmt: skip

_BY_NAME = {verb.name: verb for verb in VERBS}


def verb_named(name: str) -> Verb | None:
    """Return the verb with this name, if there is one."""
    return _BY_NAME.get(name)


def verbs_in(face: Face) -> tuple[Verb, ...]:
    """Return the verbs that are available there."""
    return tuple(verb for verb in VERBS if face in verb.faces)
