"""The language on one screen: complete, short, and shown where people ask for it."""

from __future__ import annotations

import re

import pytest
from magics_kernel import Kernel

from nbpipe.language.declaration_items import FORMATS
from nbpipe.language.directives import WORKING
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Cell
from nbpipe.verbs.syntax import Face
from nbpipe.verbs.table import verbs_in
from nbpipe.verbs.usage import verbs_help
from nbpipe.views import language_help

VERBS = verbs_help(Face.NOTEBOOK)


@pytest.mark.parametrize("card", [language_help.STEP, VERBS])
def test_a_card_fits_on_a_screen(card):
    assert len(card.splitlines()) <= 40
    assert max(map(len, card.splitlines())) <= 100


def test_the_card_names_every_key_and_format():
    assert [key for key in WORKING if not re.search(rf"\b{key}\b", language_help.STEP)] == []
    assert [name for name in FORMATS if not re.search(rf"\b{name}\b", language_help.STEP)] == []


def test_the_card_names_every_verb_and_option():
    verbs = [verb for verb in verbs_in(Face.NOTEBOOK) if " " not in verb.name]
    options = {option.name for verb in verbs for option in verb.options_in(Face.NOTEBOOK)} - {"--param"}
    assert [verb.name for verb in verbs if not re.search(rf"^{verb.name}\b", VERBS, re.MULTILINE)] == []
    assert [option for option in options if option not in VERBS] == []
    assert "-p NAME=VALUE" in VERBS


def test_the_examples_of_the_card_are_read():
    shown = re.findall(r"^    %%step.*\n(?:    .*\n)+", language_help.STEP, re.MULTILINE)
    plain = [re.sub(r"^    ", "", text, flags=re.MULTILINE) for text in shown]
    readings = [parse_cells([Cell(1, text)]) for text in plain]
    assert readings[0].steps[0].outputs[1].format == readings[1].steps[0].outputs[1].format == "json"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Kernel(tmp_path_factory.mktemp("lab"))
    lab.run("load", "%load_ext nbpipe")
    yield lab
    lab.close()


@pytest.mark.kernel
@pytest.mark.parametrize(
    "asked, first",
    [
        ("%%step?", "A step of the pipeline"),
        ("?%%step", "A step of the pipeline"),
        ("%%nbstep?", "A step of the pipeline"),
        ("%nbpipe?", "Pipelines written as notebook cells"),
        ("?%nbpipe", "Pipelines written as notebook cells"),
    ],
)
def test_asking_shows_the_card(lab, asked, first):
    _, error = lab.run("ask", asked)
    assert error == ""
    assert first in lab.page
    assert "%%step" in lab.page


@pytest.mark.kernel
def test_having_asked_for_help_is_no_step(lab):
    lab.run("ask", "%%step?")
    assert lab.run("manual", "%nbpipe defaults run=manual")[1] == ""
    assert lab.run("s", "%%step s -o x\nx = 1")[1] == ""
    assert lab.run("plan", "%nbpipe plan")[1] == ""
