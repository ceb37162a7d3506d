"""The reuse key holds everything that can change what a step makes, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from sample_pipelines import artifact, cells, component
from stored import artifact_of

from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Artifact, FrozenModule, KeyComponent, PinnedFiles
from nbpipe.planning.fingerprint import PinnedInputs, fixed_components, key_of, upstream_component
from nbpipe.planning.graph import build_graph

HELPER = "def scaled(x):\n    return x * FACTOR"
STEP = """\
%%step train -i features, raw=./raw.csv, folder=./images/ -o model, report:json --hash ./extra.txt
import tools
model = scaled(features) + rate
report = raw"""


def file(name: str = "raw.csv", digest: str = "1", size: int = 10) -> PinnedFiles:
    """Get a file pinned by content."""
    return PinnedFiles("file", (f"/data/{name}",), f"blake3:{digest}", size, ((name, size, f"blake3:{digest}"),))


def folder(name: str = "images", digest: str = "2") -> PinnedFiles:
    """Get a folder pinned by content."""
    return PinnedFiles("dir", (f"/data/{name}",), f"blake3:{digest}", 20, (("a.png", 20, "blake3:a"),))


@dataclasses.dataclass(frozen=True)
class Situation:
    """A step with everything that a key can hold."""

    step: str = STEP
    others: tuple[str, ...] = (HELPER, "FACTOR = 2", "%%step prepare -o features\nfeatures = 1")
    parameters: str = "rate = 0.1\nunread = 5"
    values: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"rate": 0.1, "unread": 5})
    python: str = "CPython 3.11.7 linux-x86_64"
    options: tuple[str, ...] = ("-O",)
    variables: Mapping[str, str | None] = dataclasses.field(default_factory=lambda: {"LANG": "C.UTF-8", "TZ": None})
    raw: PinnedFiles = dataclasses.field(default_factory=file)
    folder: PinnedFiles = dataclasses.field(default_factory=folder)
    extra: PinnedFiles = dataclasses.field(default_factory=lambda: file("extra.txt", "3"))
    module: FrozenModule = dataclasses.field(
        default_factory=lambda: FrozenModule("tools", "/src/tools.py", "def f():\n    return 1\n")
    )
    fed: Artifact = dataclasses.field(default_factory=lambda: artifact("features", "f"))

    def components(self) -> tuple[KeyComponent, ...]:
        """Get the components of the one step that is not called prepare."""
        reading = parse_cells(cells(*self.others, self.step, parameters=self.parameters))
        graph, errors = build_graph(reading, self.values, "python3")
        assert [*reading.errors, *errors] == []
        (step,) = (step for step in graph.pipeline.steps if step.name != "prepare")
        around = PinnedInputs(
            self.python, self.values, self.variables, {"raw": self.raw, "folder": self.folder},
            {"./extra.txt": self.extra}, (self.module,), options=self.options,
        )  # fmt: skip
        fixed = fixed_components(step, graph.pipeline.code[step.name], around)
        return (*fixed, upstream_component("features", self.fed))

    def with_(self, **changes: Any) -> Situation:
        """Get the situation with something changed."""
        return dataclasses.replace(self, **changes)

    def saying(self, old: str, new: str) -> Situation:
        """Get the situation with the step written otherwise."""
        assert old in self.step
        return self.with_(step=self.step.replace(old, new))


HERE = Situation()
KEY = key_of(HERE.components())

CHANGES = {
    "code": (HERE.saying("+ rate", "- rate"), "code"),
    "a docstring, which code can read": (HERE.saying("import tools", '"""Doc."""\nimport tools'), "code"),
    "log text": (HERE.saying("report = raw", 'report = raw; print("done")'), "code"),
    "helper": (HERE.with_(others=(HELPER.replace("*", "+"), *HERE.others[1:])), "definition:scaled"),
    "constant behind a helper": (HERE.with_(others=(HELPER, "FACTOR = 3", HERE.others[2])), "definition:FACTOR"),
    "constant's type": (HERE.with_(others=(HELPER, "FACTOR = 2.0", HERE.others[2])), "definition:FACTOR"),
    "parameter": (HERE.with_(values={"rate": 0.2, "unread": 5}), "parameter:rate"),
    "parameter's type": (HERE.with_(values={"rate": True, "unread": 5}), "parameter:rate"),
    "list order": (HERE.with_(values={"rate": [1, 2], "unread": 5}), "parameter:rate"),
    "input file": (HERE.with_(raw=file(digest="9")), "input:raw"),
    "input file's name, which the step sees": (HERE.with_(raw=file("other.csv")), "input:raw"),
    "input folder": (HERE.with_(folder=folder(digest="9")), "input:folder"),
    "input folder's name, which the step sees": (HERE.with_(folder=folder("labels")), "input:folder"),
    "format in which a file is read": (HERE.saying("raw=./", "raw:csv=./"), "input:raw"),
    "upstream content": (HERE.with_(fed=artifact("features", "g")), "input:features"),
    "upstream format": (HERE.with_(fed=artifact("features", "f", format="arrow")), "input:features"),
    "local module": (HERE.with_(module=FrozenModule("tools", "/x", "def f():\n    return 2\n")), "module:tools"),
    "module to package": (
        HERE.with_(module=dataclasses.replace(HERE.module, is_package=True)), "module:tools",
    ),
    "output's format": (HERE.saying("report:json", "report:cloudpickle"), "outputs"),
    "outputs swapped": (HERE.saying("model, report:json", "report:json, model"), "outputs"),
    "python": (HERE.with_(python="CPython 3.12.1 linux-x86_64"), "python"),
    "kernel's option": (HERE.with_(options=("-OO",)), "kernel"),
    "environment variable": (HERE.with_(variables={"LANG": "de_DE.UTF-8", "TZ": None}), "envvar:LANG"),
    "unset, and set to nothing": (HERE.with_(variables={"LANG": "C.UTF-8", "TZ": ""}), "envvar:TZ"),
    "hashed file": (HERE.with_(extra=file("extra.txt", "9")), "hash:./extra.txt"),
}  # fmt: skip


def names_that_differ(one: tuple[KeyComponent, ...], other: tuple[KeyComponent, ...]) -> set[str]:
    """Get the names of the components that are not in both."""
    return {name for name, _ in {(c.name, c.digest) for c in one} ^ {(c.name, c.digest) for c in other}}


@pytest.mark.parametrize("changed, name", CHANGES.values(), ids=CHANGES)
def test_what_changes_a_result_changes_its_one_component(changed, name):
    """A component left out of the key would make these two situations one: a false reuse."""
    now = changed.components()

    assert key_of(now) != KEY
    assert names_that_differ(HERE.components(), now) == {name}
    assert key_of(c for c in now if c.name != name) == key_of(c for c in HERE.components() if c.name != name)


def test_every_component_of_a_step_can_change():
    """The list above leaves no component out: whoever adds one adds a case."""
    salted = HERE.saying("--hash", "--salt a --hash").components()
    tried = {name for _, name in CHANGES.values()} | {"salt"}

    assert {c.name for c in salted} == tried


def test_salt_is_a_component_of_its_own():
    one, other = (HERE.saying("--hash", f"--salt {salt} --hash").components() for salt in "ab")

    assert names_that_differ(one, other) == names_that_differ(HERE.components(), one) == {"salt"}


@pytest.mark.parametrize(
    "same",
    [
        HERE.saying("step train", "step other_name"),
        HERE.saying("import tools", "# a remark\nimport tools"),
        HERE.saying("import tools", "\n\nimport   tools"),
        HERE.saying("scaled(features) + rate", "(scaled( features )\n    + rate)"),
        HERE.saying("--hash", "--retries 3 --hash"),
        HERE.saying("--hash", "--timeout 2h --hash"),
        HERE.saying("--hash", "--after prepare --hash"),
        HERE.saying("--hash", "--reuse never --hash"),
        HERE.saying("--hash", '--when "unread > 1" --hash'),
        HERE.saying("model, report:json", "model=./model.bin, report:json"),
        HERE.with_(others=("print('exploring')", *HERE.others)),
        HERE.with_(others=tuple(reversed(HERE.others))),
        HERE.with_(others=(HELPER.replace("return", "# why\n    return"), *HERE.others[1:])),
        HERE.with_(others=(HELPER + "\n\ndef unused():\n    pass", *HERE.others[1:])),
        HERE.with_(others=(*HERE.others[:2], "%%step prepare -o features\nfeatures = 2")),
        HERE.with_(values={"rate": 0.1, "unread": 6}),
        HERE.with_(raw=dataclasses.replace(HERE.raw, paths=("/elsewhere/raw.csv",))),
        HERE.with_(folder=dataclasses.replace(HERE.folder, paths=("/elsewhere/images",))),
        HERE.with_(module=dataclasses.replace(HERE.module, path="/x.py", source="def f(): # why\n    return 1")),
        HERE.with_(fed=artifact_of("features", "json", HERE.fed.digest, 1, basename="other.json", store="x")),
    ],
    ids=[
        "name", "comment", "layout", "parentheses", "retries", "timeout", "after", "reuse", "when", "destination",
        "exploration", "cells moved", "comment in a helper", "unused helper", "producer's code", "unread parameter",
        "moved file", "moved folder", "comment in a module", "where upstream data lie",
    ],
)  # fmt: skip
def test_what_does_not_change_a_result_leaves_the_key_alone(same):
    assert key_of(same.components()) == KEY


def test_the_order_of_dict_keys_does_not_count():
    one, other = ({"rate": pairs, "unread": 5} for pairs in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))

    assert key_of(HERE.with_(values=one).components()) == key_of(HERE.with_(values=other).components())


def test_the_name_under_which_a_step_sees_a_file_output_counts():
    """A path's last part can end up in a result; that of a loaded value cannot."""
    one, other = (upstream_component("x", artifact("x", format="file", basename=name)) for name in ("a.txt", "b.txt"))

    assert one.digest != other.digest


def test_the_order_of_shared_cells_with_effects_counts():
    """What one such cell does, the other may undo; definitions stay free to move."""
    effects = ("#| shared\nimport random\nrandom.seed(1)", "#| shared\nimport random as r\nr.seed(2)")
    one, other = (HERE.with_(others=(*order, *HERE.others)) for order in (effects, effects[::-1]))

    assert names_that_differ(one.components(), other.components()) == {"shared order"}


def test_a_value_of_an_environment_variable_is_not_kept():
    """It may be a secret: history keeps a digest."""
    found = HERE.with_(variables={"TOKEN": "hunter2"}).components()

    assert "hunter2" not in repr(found)
    assert component(found, "envvar:TOKEN").summary.startswith("set, ")


def test_a_long_value_is_summarised_short():
    found = component(HERE.with_(values={"rate": "x" * 10_000, "unread": 5}).components(), "parameter:rate")

    assert len(found.summary) < 100


def test_a_value_that_has_no_form_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"\['a'\] is a tuple"):
        HERE.with_(values={"rate": {"a": (1,)}, "unread": 5}).components()


def test_the_key_does_not_depend_on_the_order_of_components():
    found = HERE.components()

    assert key_of(reversed(found)) == key_of(found)


def test_a_components_name_and_digest_cannot_be_read_apart_otherwise():
    """Two lists of components that only look alike when written one after the other have two keys."""
    one = [KeyComponent("a", "b", ""), KeyComponent("c", "d", "")]
    other = [KeyComponent("a", "bc", ""), KeyComponent("", "d", "")]

    assert key_of(one) != key_of(other)


def test_the_key_never_changes():
    """Results of an earlier nbpipe are found by a later one."""
    found = key_of([KeyComponent("code", "blake3:1", ""), KeyComponent("python", "blake3:2", "")])

    assert found == "blake3:45c5f8e85bf3509bd37bcf10c07efc1d83fec8f957b15a8f2eb00b7208803284"
