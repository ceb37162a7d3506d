"""The table of verbs, used by shells, notebooks, completion, help and the tests of the documentation.

The call behind a verb is named in entry-point form: help and completion load none, and a verb loads only its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbpipe.verbs import options as o
from nbpipe.verbs.syntax import Face, Verb

VERBS = (
    Verb(
        "init", "Create a workspace in a folder, and configure linters for step cells.",
        "nbpipe.verbs.authoring_calls:init", (o.FOLDER,), (o.WORKSPACE, o.JSON), faces=Face.SHELL,
    ),
    Verb(
        "plan", "Show what would run, what is reused, and why.",
        "nbpipe.verbs.plan_calls:plan", (o.NOTEBOOK,), (o.PARAM, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "run", "Run the pipeline, or the named steps and what they need.",
        "nbpipe.verbs.run_calls:run", (o.NOTEBOOK, o.STEPS),
        (o.TO, o.FROM, o.PARAM, o.FORCE, o.KEEP_GOING, o.DETACH, o.HERE, o.EXPERIMENT, o.TAG, o.WORKSPACE, o.JSON),
        exclusive=tuple((o.HERE, other) for other in (o.TO, o.FROM, o.FORCE, o.KEEP_GOING, o.DETACH, o.EXPERIMENT,
                                                      o.TAG)),
    ),
    Verb(
        "cancel", "Cancel the notebook's active runs, and wait until they have stopped.",
        "nbpipe.verbs.recorded_run_calls:cancel", (o.NOTEBOOK,), (o.WORKSPACE, o.JSON),
    ),
    Verb(
        "status", "Show the newest run.",
        "nbpipe.verbs.recorded_run_calls:status", (o.NOTEBOOK,), (o.FOLLOW, o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "why", "Show how a step differs from its nearest earlier run.",
        "nbpipe.verbs.verdict_calls:why", (o.NOTEBOOK, o.STEP), (o.PARAM, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "debug", "Debug a failed step: bind its inputs and load its code.",
        "nbpipe.verbs.debug_calls:debug", (o.NOTEBOOK, o.STEP), (o.LOCALS, o.DEBUG_WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "accept", "Keep a step's last result after an edit that does not affect it.",
        "nbpipe.verbs.verdict_calls:accept", (o.NOTEBOOK, o.STEP), (o.PARAM, o.WORKSPACE, o.JSON),
    ),
    Verb(
        "logs", "Show the output of a step, also while it runs.",
        "nbpipe.verbs.result_calls:logs", (o.NOTEBOOK, o.STEP), (o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "pull", "Load a stored output, or copy it to a file.",
        "nbpipe.verbs.result_calls:pull", (o.NOTEBOOK, o.OUTPUT), (o.TARGET, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "runs", "List the newest runs and the steps that ran.",
        "nbpipe.verbs.recorded_run_calls:runs", (o.ANY_NOTEBOOK,),
        (o.ALL, o.OF_EXPERIMENT, o.OF_STATUS, o.OF_TAG, o.OF_STEP, o.LIMIT, o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "show", "Show one run, given by its number, its id, or the beginning of its id.",
        "nbpipe.verbs.recorded_run_calls:show", (o.RUN,), (o.WORKSPACE, o.JSON), reads_only=True),
    Verb(
        "compare", "Show two runs side by side.",
        "nbpipe.verbs.comparison_calls:compare", (o.RUN, o.OTHER_RUN), (o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "verify", "Check that every recorded output is present and unchanged.",
        "nbpipe.verbs.verification_calls:verify", (o.ANY_NOTEBOOK,), (o.FULL, o.REPAIR, o.WORKSPACE, o.JSON),
    ),
    Verb(
        "trust", "Accept a workspace that nbpipe did not make for this user.",
        "nbpipe.verbs.verification_calls:trust", (o.ANY_NOTEBOOK,), (o.WORKSPACE, o.JSON),
    ),
    Verb(
        "datastores list", "List the datastores.",
        "nbpipe.verbs.datastore_calls:datastores_list", (), (o.JSON,), reads_only=True,
    ),
    Verb(
        "datastores test", "Try what datastores can do; without a name, all of them.",
        "nbpipe.verbs.datastore_calls:datastores_test", (o.SOME_DATASTORES,), (o.JSON,), reads_only=True,
    ),
    Verb(
        "datastores add", "Add a datastore to nbpipe.toml.",
        "nbpipe.verbs.datastore_calls:datastores_add", (o.DATASTORE, o.URL),
        (o.STORE_OPTION, o.CREDENTIAL, o.USES_PROFILE, o.READ_ONLY, o.JSON),
        exclusive=((o.CREDENTIAL, o.USES_PROFILE),),
    ),
    Verb(
        "datastores default", "Show or choose the datastore of outputs; `default` is the workspace's own folder.",
        "nbpipe.verbs.datastore_calls:datastores_default", (o.ANY_DATASTORE,), (o.JSON,),
    ),
    Verb(
        "datastores ls", "List a folder of a datastore.",
        "nbpipe.verbs.datastore_calls:datastores_ls", (o.STORE_PLACE,), (o.JSON,), reads_only=True,
    ),
    Verb(
        "datastores du", "Show how much is stored, by folder.",
        "nbpipe.verbs.datastore_calls:datastores_du", (o.STORE_PLACE,), (o.JSON,), reads_only=True,
    ),
    Verb(
        "datastores cp", "Copy files to, from or between datastores (store:NAME/path).",
        "nbpipe.verbs.datastore_calls:datastores_cp", (o.COPIED, o.COPY_TARGET), (o.REPLACE, o.JSON), reads_only=True,
    ),
    Verb(
        "datastores rm", "Delete an object, or a folder.",
        "nbpipe.verbs.datastore_calls:datastores_rm", (o.STORE_PLACE,), (o.RECURSIVE, o.JSON), reads_only=True,
    ),
    Verb(
        "gc", "Show what nothing keeps any more, or collect it.",
        "nbpipe.verbs.retention_calls:gc", (), (o.APPLY, o.WHY, o.WORKSPACE, o.JSON), exclusive=((o.APPLY, o.WHY),),
    ),
    Verb(
        "pin", "Keep all results of a run.", "nbpipe.verbs.retention_calls:pin", (o.RUN,), (o.WORKSPACE, o.JSON)),
    Verb(
        "unpin", "No longer keep a run for its own sake.",
        "nbpipe.verbs.retention_calls:unpin", (o.RUN,), (o.WORKSPACE, o.JSON)),
    Verb(
        "datasets list", "List the datasets with their newest versions.",
        "nbpipe.verbs.dataset_calls:datasets_list", (), (o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "datasets show", "Show a version of a dataset: NAME, NAME@3 or NAME@LABEL.",
        "nbpipe.verbs.dataset_calls:datasets_show", (o.DATASET,), (o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "datasets register", "Register files, here or in a datastore, or the result of a query, as a version.",
        "nbpipe.verbs.dataset_calls:datasets_register", (o.NEW_DATASET, o.SOURCE),
        (o.COPY, o.REFERENCE, o.DESCRIPTION, o.DATASET_TAG, o.TABLE_KIND, o.COLUMN_TYPE, o.DELIMITER, o.NO_HEADER,
         o.ENCODING, o.PARTITIONS, o.MULTI_LINE, o.ON_ERROR, o.QUERY, o.QUERY_VERSION, o.MAX_AGE, o.WORKSPACE, o.JSON),
        exclusive=((o.COPY, o.REFERENCE, o.QUERY), (o.TABLE_KIND, o.QUERY)),
    ),
    Verb(
        "datasets diff", "Show which files and columns differ between two versions.",
        "nbpipe.verbs.dataset_calls:datasets_diff", (o.DATASET, o.OTHER_DATASET), (o.WORKSPACE, o.JSON),
        reads_only=True,
    ),
    Verb(
        "datasets lineage", "Show what a version was made from, and what from it.",
        "nbpipe.verbs.dataset_calls:datasets_lineage", (o.DATASET,), (o.WORKSPACE, o.JSON), reads_only=True,
    ),
    Verb(
        "datasets label", "Give a version a label, or move a label to it.",
        "nbpipe.verbs.dataset_calls:datasets_label", (o.DATASET, o.LABEL), (o.WORKSPACE, o.JSON),
    ),
    Verb(
        "datasets pin", "Store a copy of a referenced version.",
        "nbpipe.verbs.dataset_calls:datasets_pin", (o.DATASET,), (o.WORKSPACE, o.JSON),
    ),
    Verb(
        "compute list", "List the compute targets.",
        "nbpipe.verbs.compute_calls:compute_list", (), (o.JSON,), reads_only=True,
    ),
    Verb(
        "compute show", "Show what a compute target has.",
        "nbpipe.verbs.compute_calls:compute_show", (o.COMPUTE_TARGET,), (o.JSON,), reads_only=True,
    ),
    Verb(
        "compute test", "Try whether steps can run on compute targets; without a name, on all.",
        "nbpipe.verbs.compute_calls:compute_test", (o.SOME_COMPUTE_TARGETS,), (o.JSON,), reads_only=True,
    ),
    Verb(
        "lint", "Check the notebook without planning or running it.",
        "nbpipe.verbs.authoring_calls:lint", (o.NOTEBOOK,), (o.PARAM, o.FIX, o.RUFF, o.WORKSPACE, o.JSON),
        reads_only=True,
    ),
    Verb(
        "fmt", "Format the declarations of steps in the notebook file.",
        "nbpipe.verbs.authoring_calls:fmt", (o.NOTEBOOKS,), (o.CHECK, o.LONG, o.SHORT, o.JSON),
        exclusive=((o.LONG, o.SHORT),),
    ),
    Verb(
        "propose", "Propose steps for a plain notebook.",
        "nbpipe.verbs.proposal_calls:propose", (o.NOTEBOOK,), (o.WRITE, o.COMPARE, o.WORKSPACE, o.JSON),
        reads_only=True,
    ),
    Verb(
        "defaults", "Set defaults of all steps, such as retries=1, or run=manual.",
        "nbpipe.verbs.authoring_calls:defaults", (o.DEFAULTS,), faces=Face.NOTEBOOK,
    ),
)  # fmt: skip

# Verbs of the language that this version does not implement: every face reports the same error for them.
LATER_VERBS = ("env", "publish", "schedule")

_BY_NAME = {verb.name: verb for verb in VERBS}


# Groups of verbs, with their purpose and the verb that the group's name alone means.
GROUPS = {
    "datastores": ("Use datastores", "datastores list"),
    "datasets": ("Use datasets", "datasets list"),
    "compute": ("Use compute targets", "compute list"),
}  # fmt: skip


def verb_named(name: str) -> Verb | None:
    """Return the verb with this name, or the one that a group's name means, if there is one."""
    return _BY_NAME.get(GROUPS[name][1] if name in GROUPS else name)


def name_length(words: Sequence[str]) -> int:
    """Return how many of these words are the name of a verb: two for one of a group, if the second is not an option."""
    return 2 if words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-") else 1


def actions(group: str) -> tuple[str, ...]:
    """Return the second words of the verbs of a group; none if there is no such group."""
    return tuple(verb.name.partition(" ")[2] for verb in VERBS if verb.name.startswith(f"{group} "))


def verbs_in(face: Face) -> tuple[Verb, ...]:
    """Return the verbs that are available there."""
    return tuple(verb for verb in VERBS if face in verb.faces)
