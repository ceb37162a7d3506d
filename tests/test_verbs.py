"""The table of verbs: one meaning and one error for a text in both faces, and nothing accepted beside it."""

from __future__ import annotations

import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbpipe.cli.command import outcome
from nbpipe.cli.completion import completions
from nbpipe.cli.rendering import RENDERERS as SHELL_RENDERERS
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadUsage
from nbpipe.magics.rendering import RENDERERS as KERNEL_RENDERERS
from nbpipe.model import Status
from nbpipe.verbs import options
from nbpipe.verbs.parser import parse, split
from nbpipe.verbs.syntax import Face, HelpRequest
from nbpipe.verbs.table import GROUPS, LATER_VERBS, VERBS, verb_named, verbs_in
from nbpipe.verbs.usage import group_help, verb_help, verbs_help

ROOT = Path(__file__).resolve().parent.parent
SHARED = [verb for verb in VERBS if verb.faces is Face.BOTH]
EVERY_OPTION = {option.name: option for verb in VERBS for option in verb.options}
ONE_FACE = {option.name for verb in VERBS for option in verb.options if option.faces is not Face.BOTH}
NOTEBOOK = "n.ipynb"
CALL_MODULES = sorted({verb.call.partition(":")[0] for verb in VERBS})


def read(text: str, face: Face) -> tuple[object, ...]:
    """Return what a text means, or the error; a shell is handed the notebook that a kernel knows by itself."""
    try:
        words = split(text)
        verb = verb_named(words[0]) if words else None
        own = [argument for argument in verb.arguments if argument.faces is Face.SHELL] if verb else []
        if face is Face.SHELL and own:
            words[1:1] = [NOTEBOOK]
        asked = parse(words, face)
    except BadUsage as error:
        return "refused", error.message.replace("%nbpipe", "nbpipe"), error.hint
    if isinstance(asked, HelpRequest):
        return "help", asked.verb
    values = {key: value for key, value in asked.values.items() if key.faces is Face.BOTH}
    return "asked", asked.verb, values


def words_of_the_table() -> st.SearchStrategy[str]:
    """Return words that stand in the table, in right and wrong places, and words that do not."""
    names = [*sorted(set(EVERY_OPTION) - ONE_FACE), "-p"]
    values = ["train", "a=1", "a=2", "b=", "1x=3", "=x", "failed", "7", "0", "-1", "-", "--", "--help", "x y", "ü", ""]
    glued = st.builds("{}={}".format, st.sampled_from(names), st.sampled_from(values))
    return st.one_of(
        st.sampled_from(names), st.sampled_from(values), glued, st.sampled_from(["-px=1", "-p=x=1", "--tga", "-x"]),
        st.text("-=ap x'é", max_size=6).filter(lambda word: word not in ONE_FACE),
    )  # fmt: skip


VERB_WORDS = st.sampled_from([*(verb.name for verb in SHARED), "plam", "gc", "pin", "--help", "-x", ""])


@given(VERB_WORDS, st.lists(words_of_the_table(), max_size=7))
@example("run", ["--tag", "a=1", "--tag", "a=2"])
@example("run", ["-p", "1x=3"])
@example("run", ["--force", "a", "b", "--to", "c"])
@example("runs", ["--limit", "0"])
def test_a_text_means_the_same_in_both_faces(verb, words):
    text = shlex.join([verb, *words])
    shell, notebook = read(text, Face.SHELL), read(text, Face.NOTEBOOK)
    if verb == "fmt" and "cannot take" in str(notebook):
        # In a shell it takes any number of notebooks; in a notebook, the one.
        return
    if shell[0] == "refused" and any(f"`{name}`" in str(shell[2]) for name in ONE_FACE):
        # What is likened to an option of the shell alone has another hint in a notebook.
        shell, notebook = shell[:2], notebook[:2]
    assert shell == notebook


@pytest.mark.parametrize(
    "text, message, hint",
    [
        ("run --tag a=1 --tag a=2", "the tag `a` is given twice", "Keep one."),
        ("run -p a=1 -p a=2", "the parameter `a` is given twice", "Keep one."),
        ("run -p 1x=3", "`1x=3` is not NAME=VALUE", "For example: -p learning_rate=0.05"),
        ("run --frm a", "`run` has no option `--frm`", "Did you mean `--from`?"),
        ("lint --to a", "`lint` has no option `--to`", "`lint --help` lists the options."),
        ("plan --force", "`plan` has no option `--force`", "`plan --help` lists the options."),
        ("run --from a --from b", "`--from` is given twice", "Keep one."),
        ("run --to", "`--to` needs a value", "Write --to STEP."),
        ("run --to --detach", "`--to` needs a value", "Write --to STEP."),
        ("run --detach=yes", "`--detach` takes no value", "Write --detach alone."),
        ("why", "`why` needs STEP", "`why --help` shows the usage."),
        ("why a b", "`why` cannot take `b`", "`why --help` shows the usage."),
        ("runs --limit 0", "`--limit 0` is not a number of runs", "For example: --limit 50"),
        ("runs --limit ten", "`--limit ten` is not a number of runs", "For example: --limit 50"),
        ("runs --status faild", "no run has the status `faild`", "Did you mean `failed`?"),
        ("fmt --long --short", "`--long` and `--short` exclude each other", "Keep one."),
        ("plam", "there is no verb `plam`", "Did you mean `plan`?"),
        ("datastore", "there is no verb `datastore`", "Did you mean `datastores`?"),
        ("datastores tets", "`datastores` has no verb `tets`", "Did you mean `test`?"),
        ("datastores ls", "`datastores ls` needs NAME[/PATH]", "`datastores ls --help` shows the usage."),
        (
            "datastores add x s3://b --option a",
            "a value of `--option` is not KEY=VALUE",
            "For example: --option endpoint=https://minio.lab:9000",
        ),
        ("show 'x", "`show 'x` cannot be parsed: no closing quotation", "Close the quote."),
    ],
)
def test_what_is_wrong_has_one_error(text, message, hint):
    assert read(text, Face.SHELL) == read(text, Face.NOTEBOOK) == ("refused", message, hint)


@pytest.mark.parametrize("face", [Face.SHELL, Face.NOTEBOOK])
def test_a_misspelled_option_is_likened_only_to_options_that_are_allowed_there(face):
    for verb in verbs_in(face):
        for option in verb.options:
            _, _, hint = read(f"{verb.name} {option.name}x", face)
            likened = [other.name for other in verb.options if f"`{other.name}`" in str(hint)]
            assert all(face in other.faces for other in verb.options if other.name in likened), (verb.name, hint)


def test_values_are_read():
    run = parse(split("run a --force b c --to d --to e -p x='1 2' --tag k=v --experiment=E"), Face.NOTEBOOK)
    assert not isinstance(run, HelpRequest)
    assert (run[options.STEPS], run[options.FORCE], run[options.TO]) == (("a",), ("b", "c"), ("d", "e"))
    assert (run[options.PARAM], run[options.TAG]) == ({"x": "1 2"}, {"k": "v"})
    assert (run[options.EXPERIMENT], run[options.DETACH], run[options.FROM]) == ("E", False, None)
    runs = parse(["runs", "--limit", "3", "--status", "failed"], Face.SHELL)
    assert not isinstance(runs, HelpRequest)
    assert (runs[options.LIMIT], runs[options.OF_STATUS], runs[options.ANY_NOTEBOOK]) == (3, Status.FAILED, None)


def test_a_notebook_s_name_is_no_step_to_force():
    run = parse(["run", "--force", NOTEBOOK, "a"], Face.SHELL)
    assert not isinstance(run, HelpRequest)
    assert (run[options.FORCE], run[options.NOTEBOOK], run[options.STEPS]) == ((), Path(NOTEBOOK), ("a",))


@pytest.mark.parametrize(
    "text, face, message, hint",
    [
        ("plan --json", Face.NOTEBOOK, "`--json` is for the command line", "In a shell: nbpipe plan … --json"),
        ("run --here", Face.SHELL, "`--here` is for a notebook", "In a notebook: %nbpipe run … --here"),
        ("init", Face.NOTEBOOK, "`init` is a verb of the command line", "In a shell: nbpipe init"),
        ("defaults", Face.SHELL, "`defaults` is a verb of a notebook", "In a notebook: %nbpipe defaults"),
    ],
)
def test_what_belongs_elsewhere_is_answered_with_the_place(text, face, message, hint):
    assert read(text, face)[1:] == (message.replace("%nbpipe", "nbpipe"), hint)


@pytest.mark.parametrize("name", LATER_VERBS)
def test_a_verb_of_a_later_version_has_one_answer(name):
    assert (
        read(name, Face.SHELL) == read(name, Face.NOTEBOOK) == ("refused", f"`nbpipe {name}` is not supported yet", "")
    )


@pytest.mark.parametrize("face", [Face.SHELL, Face.NOTEBOOK])
def test_each_verb_takes_its_own_options_and_no_other(face):
    for verb in verbs_in(face):
        for name in EVERY_OPTION:
            option = verb.option_named(name)
            told = read(f"{verb.name} {name}", face)
            refused = told[0] == "refused" and ("has no option" in str(told[1]) or "` is for " in str(told[1]))
            assert refused is (option is None or face not in option.faces), (verb.name, name)


def documentation() -> str:
    """Return README and docs."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("face", [Face.SHELL, Face.NOTEBOOK])
def test_help_names_every_verb_and_option(face):
    for verb in verbs_in(face):
        group = verb.name.partition(" ")[0]
        every = group_help(group, face) if group in GROUPS else verbs_help(face)
        own = verb_help(verb, face)
        assert re.search(rf"^{verb.name}\b.*{re.escape(verb.help)}(  |$)", every, re.MULTILINE)
        assert verb.help in own
        for option in verb.options_in(face):
            assert re.search(rf"(^|\s){option.name}\b", own), (verb.name, option.name)
            assert option.short in own
            assert option.usage in every


def test_every_verb_has_a_call():
    """The table names what can be called, all of it and nothing else."""
    named = {load_entry_point(verb.call) for verb in VERBS}
    callable_ = {
        function
        for name in CALL_MODULES
        for function in vars(import_module(name)).values()
        if inspect.isfunction(function) and function.__module__ == name and not function.__name__.startswith("_")
    }

    names = [verb.name.replace(" ", "_") for verb in VERBS]
    assert [load_entry_point(verb.call).__name__ for verb in VERBS] == names
    assert named == callable_


@pytest.mark.parametrize(
    "renderers, of_other_faces",
    [(SHELL_RENDERERS, {"InKernelRequest", "DefaultsResponse"}), (KERNEL_RENDERERS, {"InitResponse"})],
)
def test_every_response_has_a_renderer_in_each_face(renderers, of_other_faces):
    responses = {
        class_.__name__
        for name in CALL_MODULES
        for class_ in vars(import_module(name)).values()
        if inspect.isclass(class_) and class_.__module__ == name
    }

    assert set(renderers) == responses - of_other_faces
    assert all(map(load_entry_point, renderers.values()))


def test_the_documentation_names_every_verb_and_option_and_no_other():
    text = documentation()
    rows = set(re.findall(r"^\| `nbpipe (\w+)", text, re.MULTILINE))
    assert rows == {verb.name.partition(" ")[0] for verb in verbs_in(Face.SHELL)}
    listed = text.partition("| option | means |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(--[\w-]+)`", listed)) == {*EVERY_OPTION, "--help"}
    assert [verb.name for verb in verbs_in(Face.NOTEBOOK) if f"nbpipe {verb.name}" not in text] == []


@pytest.mark.parametrize("verb", [None, *verbs_in(Face.SHELL)], ids=lambda verb: verb.name if verb else "all")
def test_help_is_printed_whatever_else_is_said(verb, capsys):
    words = ["--help"] if verb is None else [*verb.name.split(), "--nonsense", "--help"]
    assert outcome(words) == 0
    assert (verb.help if verb else "nbpipe plan") in capsys.readouterr().out


def test_the_command_alone_shows_help_and_its_version_is_told(capsys):
    assert outcome([]) == 0
    assert "run NOTEBOOK [STEP...]" in capsys.readouterr().out
    assert outcome(["--version"]) == 0
    assert re.fullmatch(r"nbpipe, version \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "line, word, found",
    [
        ("nbpipe ru", "ru", ["run", "runs"]),
        ("nbpipe data", "data", ["datastores", "datasets"]),
        ("nbpipe datastores l", "l", ["list", "ls"]),
        ("nbpipe datastores cp --", "--", ["--replace", "--json", "--help"]),
        ("nbpipe run --kee", "--kee", ["--keep-going"]),
        ("nbpipe run notebooks/quickstart.ipynb bo", "bo", ["boosting"]),
        ("nbpipe run notebooks/quickstart.ipynb --to=bo", "bo", ["boosting"]),
        ("nbpipe why nowhere.ipynb ", "", []),
        ("nbpipe pull notebooks/quickstart.ipynb prepare.", "prepare.", ["prepare.homes"]),
        ("nbpipe plan notebooks/quick", "notebooks/quick", []),
        ("nbpipe run 'unclosed", "'unclosed", []),
    ],
)
def test_a_shell_completes_from_the_table(line, word, found, monkeypatch):
    monkeypatch.chdir(ROOT)
    environ = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    assert completions(["nbpipe", word, "before"], environ) == found


def test_no_shell_asks_when_a_command_is_run():
    assert completions(["run", NOTEBOOK, "a"], {}) is None
