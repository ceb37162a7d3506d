"""A step's declaration: one grammar whatever the spelling, and errors that point at the offending text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import fine, read, wrong

from nbpipe.data import formats
from nbpipe.errors import NO_LOCATION, BadDirective, Refused
from nbpipe.language.declaration_items import ALIASES, FORMATS
from nbpipe.language.directives import KEYS, LATER, StepDeclaration, marker, read_step
from nbpipe.model import Cell, FileSource, ParameterSource, RemoteSource, ReusePolicy, StepOutput


def declared(source: str) -> StepDeclaration:
    return read_step(Cell(3, source))


def refused(source: str) -> tuple[str, str]:
    """Get the error's message and the text that it points at, up to the line's end."""
    with pytest.raises(BadDirective) as caught:
        declared(source)
    place = caught.value.place
    assert place.cell == 3
    line = source.split("\n")[(place.line or 0) - 1]
    assert 1 <= (place.column or 0) <= len(line) + 1
    return caught.value.message, line[(place.column or 0) - 1 :]


def meaning(found: StepDeclaration) -> Any:
    """Get what a declaration says, without where it says it."""
    later = tuple(sorted(key for key, _ in found.options.later))
    options = replace(found.options, later=())
    inputs = tuple(replace(item, place=NO_LOCATION) for item in found.inputs)
    outputs = tuple(replace(item, place=NO_LOCATION) for item in found.outputs)
    return found.name, found.append, inputs, outputs, options, later


# Every spelling says the same

names = st.sampled_from(["features", "raw", "x1", "größe", "_private", "データ", "list", "in_", "out"])
paths = st.sampled_from(
    ["./data/raw.csv", "../x/*.parquet", "/abs/dir/", '"./a b,c.csv"', "'./it is/x'", "./[ab]{1,2}.csv", "./don't.csv",
     "clean.df", "store:blob/x", "ds:labels@3", "https://host/x.csv?a=b", "param:source", "./a(1.csv", '"./x y.csv"']
)  # fmt: skip


@st.composite
def input_items(draw) -> list[str]:
    found = []
    for name in draw(st.lists(names, unique=True, min_size=1, max_size=3)):
        source = draw(st.none() | paths)
        format_ = draw(st.sampled_from(["", ":csv", ":parquet"])) if source and "/" in source else ""
        found.append(f"{name}{format_}" + (f"={source}" if source else ""))
    return found


@st.composite
def output_items(draw) -> list[str]:
    found = []
    for name in draw(st.lists(names, unique=True, min_size=1, max_size=3)):
        format_ = draw(st.sampled_from(["", *(f":{word}" for word in (*FORMATS, *ALIASES)), ":file.tar.gz"]))
        found.append(name + format_ + draw(st.sampled_from(["", "=./out/{step}.bin", "=store:blob/{date}/x"])))
    return found


@st.composite
def declarations(draw) -> dict[str, list[str]]:
    """Make a declaration: the items of each key."""
    one = {
        "in": input_items(),
        "out": output_items(),
        "param": st.lists(names, unique=True, min_size=1, max_size=3),
        "after": st.lists(names, unique=True, min_size=1, max_size=3),
        "retries": st.sampled_from([["0"], ["12"]]),
        "timeout": st.sampled_from([["90s"], ["1h30m"], ["1.5 h"]]),
        "memory": st.sampled_from([["2GiB"], ["1.5 GB"]]),
        "reuse": st.sampled_from([["never"], ["keep"]]),
        "salt": st.sampled_from([["v2"], ['"two words"'], ["it's"], ["a, b"]]),
        "hash": st.lists(st.sampled_from(["./a.sql", "'./b c.sql'", "./d/*.yml"]), min_size=1, max_size=2),
        "envvar": st.sampled_from([["HOME_DIR"], ["A", "B"]]),
        "when": st.sampled_from(
            [["depth > 3"], ["\"mode == 'a b' and depth -1 < 0\""], ["'a' == mode or mode == 'b'"]]
        ),
        "cpu": st.just(["2"]),
        "gpu": st.sampled_from([["0"], ["2"]]),
        "compute": st.just(["gpu-small"]),
        "map": st.just(["item=items"]),
        "sweep": st.just(["learning_rate=[0.1,0.01], depth=[3,5]"]),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(one)), unique=True, max_size=5))
    return {key: draw(one[key]) for key in chosen}


def spell(draw: Any, declaration: dict[str, list[str]]) -> str:
    """Write the declaration in one of its spellings."""
    pipe_header = draw(st.booleans())
    comma = draw(st.sampled_from([",", ", ", " , "]))
    short, long = [], []
    for key, items in declaration.items():
        value = comma.join(items)
        if draw(st.booleans()):
            option = {"in": "-i", "out": "-o", "param": "-p"}.get(key, f"--{key}")
            option = f"--{key}" if draw(st.booleans()) else option
            short.append(option + draw(st.sampled_from([" ", "=", "  ", "\t"])) + value)
        else:
            pipe = draw(st.sampled_from(["#|", "# |", "#| ", "# |  "]))
            if draw(st.booleans()) and len(items) > 1:
                value = f", \\\n{pipe} ".join(items)
            long.append(
                f"{pipe}{draw(st.sampled_from(['', ' ']))}{key}{draw(st.sampled_from([':', ' : ', ': ']))}{value}"
            )
    first = draw(st.sampled_from(["#| step: ", "# | step:"] if pipe_header else ["%%step ", "%%nbstep ", "%%step\t"]))
    goes_on = "#| " if pipe_header else "  "
    gap = draw(st.sampled_from([" ", "   ", f" \\\n{goes_on}", f"\\ \n{goes_on}"]))
    header = first + gap.join(["train", *short]) + draw(st.sampled_from(["", "  ", "\t"]))
    return draw(st.sampled_from(["\n", "\r\n"])).join("\n".join([header, *long, "model = 1"]).split("\n"))


@settings(max_examples=100)
@given(st.data(), declarations())
def test_every_spelling_of_a_declaration_is_read_alike(data, declaration: dict[str, list[str]]):
    one, other = spell(data.draw, declaration), spell(data.draw, declaration)
    assert meaning(declared(one)) == meaning(declared(other))


@settings(max_examples=100)
@given(st.data(), declarations())
def test_places_point_at_what_was_read_and_lines_keep_their_numbers(data, declaration: dict[str, list[str]]):
    source = spell(data.draw, declaration).replace("\r\n", "\n")
    found, lines = declared(source), source.split("\n")
    for item in (*found.inputs, *found.outputs):
        assert lines[(item.place.line or 0) - 1][(item.place.column or 0) - 1 :].startswith(item.name)
    body = found.body.split("\n")
    assert len(body) == len(lines)
    assert body[-1] == "model = 1"
    assert all(line.startswith("#") for line in body[:-1])


@settings(max_examples=80)
@given(st.data(), declarations(), st.integers(0, 200), st.sampled_from(list("'\",:=-#|\\[{$\n\u2028\x00é ")))
def test_a_spoilt_declaration_is_read_or_refused_with_a_place_inside_the_cell(data, declaration, at: int, noise: str):
    source = spell(data.draw, declaration)
    source = (
        "%%step train " + source[:at] + noise + source[at:]
        if at > len(source) // 2
        else source[:at] + noise + source[at:]
    )
    for error in read(source, "depth = 1\nmode = ''", tags={2: "parameters"}).errors:
        assert isinstance(error, Refused)
        assert error.message
        assert error.place.line is None or error.place.line <= source.count("\n") + source.count("\r") + 1


# Sources, formats and keys


@pytest.mark.parametrize(
    "text, source",
    [
        ("x", StepOutput("x")),
        ("x=clean.df", StepOutput("df", "clean")),
        ("x=./data/raw.csv", FileSource("./data/raw.csv")),
        ("x=../x/*.parquet", FileSource("../x/*.parquet")),
        ("x=/abs/dir/", FileSource("/abs/dir/")),
        ("x=data/raw.csv", FileSource("data/raw.csv")),
        ("x = './a, b.csv'", FileSource("./a, b.csv")),
        ('x="./it\'s.csv"', FileSource("./it's.csv")),
        ("x=./don't.csv", FileSource("./don't.csv")),
        ("x=C:/data/x.csv", FileSource("C:/data/x.csv")),
        ("x=file:///abs/x.csv", FileSource("/abs/x.csv")),
        ("x=file://localhost/abs/dir/", FileSource("/abs/dir/")),
        ("x=file:///abs/*.csv", FileSource("/abs/*.csv")),
        ("x=file:///a%20b/%C3%BC%25.csv", FileSource("/a b/ü%.csv")),
        ("x=./$HOME/{y}.csv", FileSource("./$HOME/{y}.csv")),
        ("x=param:where", ParameterSource("where")),
        ("x=store:blob/train/", RemoteSource("store", "store:blob/train/")),
        ("x=ds:labels@3", RemoteSource("ds", "ds:labels@3")),
        ("x=https://a/b?c=d,", RemoteSource("https", "https://a/b?c=d")),
        ("x=s3://bucket/key", RemoteSource("s3", "s3://bucket/key")),
        ("x=./a[1,2](3.csv, y=./b", FileSource("./a[1,2](3.csv")),
        ("ﬁt=ﬁrst.ﬁle", StepOutput("file", "first")),
    ],
)  # fmt: skip
def test_sources(text: str, source: object):
    found = declared(f"%%step s -i {text.rstrip(',')}").inputs[0]
    assert found.source == source
    assert found.name == ("fit" if text.startswith("ﬁt") else "x")


def test_names_are_compared_as_python_compares_them():
    reading = fine("%%step ﬁt -o ﬁle\nﬁle = 1", "%%step g -i file -o z\nz = ﬁle")
    assert reading.steps[0].name == "fit"
    assert reading.steps[0].outputs[0].name == "file"
    assert reading.unbound == {}


def test_the_grammar_knows_every_format_that_data_has():
    assert sorted({*FORMATS, *ALIASES}) == sorted({*formats.names(), "file", "dir"})


def test_every_key_is_read_in_both_spellings():
    values = {"in": "a", "out": "a", "param": "a", "after": "a", "retries": "1", "timeout": "1s",
              "cpu": "2", "memory": "1GB", "reuse": "auto", "salt": "a", "hash": "./a", "envvar": "A", "when": "a",
              "shows": "true", "download": "a", "mount": "a", "register": "a=b", "compute": "a"}  # fmt: skip
    for key in KEYS:
        value = values.get(key, "1")
        assert meaning(declared(f"%%step s --{key} {value}")) == meaning(declared(f"%%step s\n#| {key}: {value}"))


def test_keys_of_later_parts_are_understood_and_kept_for_the_planner():
    for key in LATER:
        found = declared(f"%%step s --{key} 1")
        assert [name for name, _ in found.options.later] == [key]
    assert declared("%%step s --finally").options.later[0][0] == "finally"
    assert declared("%%step s\n#| finally").options.later[0][0] == "finally"
    assert declared("%%step s --kind python").options.later == ()


def test_values_of_keys():
    found = declared(
        "%%step s -p a,b --after c --retries 2 --timeout 1h30m --reuse never --salt 'a b' --hash ./x,'./y z' "
        '--envvar A,B --when "a > 1"'
    ).options
    assert found.params == ("a", "b")
    assert found.after == ("c",)
    assert (found.retries, found.timeout, found.reuse) == (2, 5400.0, ReusePolicy.NEVER)
    assert (found.salt, found.hash, found.envvar, found.when) == ("a b", ("./x", "./y z"), ("A", "B"), "a > 1")


def test_a_step_needs_one_core_unless_it_says_more():
    assert declared("%%step s").options.cpu == 1
    assert declared("%%step s --cpu 4").options.cpu == 4
    with pytest.raises(BadDirective, match="leaves no core"):
        declared("%%step s --cpu 0")


@pytest.mark.parametrize("text, size", [("500MB", 500_000_000), ("2GiB", 2 << 30), ("0.5 TiB", 1 << 39)])
def test_amounts_of_memory(text: str, size: int):
    assert declared(f"%%step s --memory '{text}'").options.memory == size


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("10m", 600), ("2h", 7200), ("500ms", 0.5), ("1d", 86400), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float):
    assert declared(f"%%step s --timeout {text}").options.timeout == seconds


# What is refused, and where


@pytest.mark.parametrize(
    "source, said, at",
    [
        ("%%step", "the step has no name", ""),
        ("%%step -i x", "the step has no name", " -i x"),
        ("%%step-train -o x", "the step has no name", "-train -o x"),
        ("%%step 1st -o x", "`1st` is not a step name", "1st -o x"),
        ("%%step class", "`class` is not a step name", "class"),
        ("%%step train,test", "`train,test` is not a step name", "train,test"),
        ("%%step {x} -o y", "`{x}` is not a step name", "{x} -o y"),
        ("%%step train model -o x", "`model` belongs to no option", "model -o x"),
        ("%%step train  # a note", "`# a note` belongs to no option", "# a note"),
        ("%%step train -o x  # a note", "`x  # a note` is not an output name", "x  # a note"),
        ("%%step train -x 1", "there is no option `-x`", "-x 1"),
        ("%%step train -out x", "there is no option `-out`", "-out x"),
        ("%%step train --input x", "there is no option `--input`", "--input x"),
        ("%%step train -i", "`-i` needs a value", "-i"),
        ("%%step train -i -o x", "`-i` needs a value", "-i -o x"),
        ("%%step train -o a -o b", "`out` is given twice, first on line 1", "b"),
        ("%%step train -o a\n#| out: b", "`out` is given twice, first on line 1", "b"),
        ("%%step train\n#| in: a\n# | in: b", "`in` is given twice, first on line 2", "b"),
        ("%%step train -i a,,b", "there is nothing between two commas", ",b"),
        ("%%step train -i ,b", "there is nothing between two commas", ",b"),
        ("%%step train -i a,", "there is nothing between two commas", ","),
        ("%%step train -i a b", "`a b` is not an input name", "a b"),
        ("%%step train -o a, b c", "`b c` is not an output name", "b c"),
        ("%%step train -i a-b", "`a-b` is not an input name", "a-b"),
        ("%%step train -i 'a'", "`'a'` is not an input name", "'a'"),
        ("%%step train -i $x", "`$x` is not an input name", "$x"),
        ("%%step train -o _nbpipe", "`_nbpipe` is reserved by nbpipe", "_nbpipe"),
        ("%%step train -i a, a=./x", "`a` is declared twice", "a=./x"),
        ("%%step train -i ./data.csv", "`./data.csv` has no name", "./data.csv"),
        ("%%step train -i https://x/y?a=b", "`https://x/y?a=b` has no name", "https://x/y?a=b"),
        ("%%step train -i raw=data.csv.gz", "neither STEP.OUTPUT nor a path", "data.csv.gz"),
        ("%%step train -i raw=", "there is nothing after `raw=`", "raw="),
        ("%%step train -i raw=dss:x", "`dss:` is not a known kind of source", "dss:x"),
        ("%%step train -i raw=file://lab/x", "`file://lab/x` is a file of another host, `lab`", "file://lab/x"),
        ("%%step train -i raw=file:./x", "`file:./x` is not the address of a file", "file:./x"),
        ("%%step train -i raw=file:///%ff", "`file:///%ff` is not UTF-8 when decoded", "file:///%ff"),
        ("%%step train -i raw=file:///%00", "`file:///%00` has a character that no path may have", "file:///%00"),
        ("%%step train -i raw=param:1x", "`1x` is not a parameter name", "1x"),
        ("%%step train -i raw:csvv=./x.csv", "there is no format `csvv`", "csvv=./x.csv"),
        ("%%step train -i a:csv", "`a:csv` restates a format", "a:csv"),
        ("%%step train -i a:csv=b.c", "`a:csv=b.c` restates a format", "a:csv=b.c"),
        ("%%step train -i a:dir=./b", "`dir` is not a format that can be read", "a:dir=./b"),
        ("%%step train -i a:file.csv=./b.csv", "`file.csv` is not a format that can be read", "a:file.csv=./b.csv"),
        ("%%step train -o a:", "there is no format ``", ""),
        ("%%step train -o a:file.", "there is no format `file.`", "file."),
        ("%%step train -o a:jsonn", "there is no format `jsonn`", "jsonn"),
        ("%%step train -o a=out.csv", "`out.csv` is not a destination", "a=out.csv"),
        ("%%step train -i a='./x", "the quote ' is not closed", "'./x"),
        ("%%step train --retries -1", "`-1` is not a whole number", "-1"),
        ("%%step train --retries 1.5", "`1.5` is not a whole number", "1.5"),
        ("%%step train --timeout 10", "`10` is not a duration", "10"),
        ("%%step train --timeout 0s", "`0s` leaves no time at all", "0s"),
        ("%%step train --memory 2", "`2` is not an amount of memory", "2"),
        ("%%step train --memory 2gb", "`2gb` is not an amount of memory", "2gb"),
        ("%%step train --memory 10MB", "`10MB` leaves no room for Python itself", "10MB"),
        ("%%step train --reuse nver", "`nver` is none of auto, never, keep", "nver"),
        ("%%step train --envvar A-B", "`A-B` is not a name", "A-B"),
        ("%%step train --append=yes", "`--append` takes no value", "yes"),
        ("%%step train --append -i a --retries 2", "a continued step cannot set `retries`", "2"),
        ("%%step train\n#| inn: x", "there is no key `inn`", "inn: x"),
        ("%%step train\n#| in x", "`in x` is not `key: value`", "in x"),
        ("%%step train\n#| in:", "`in` needs a value", "in:"),
        ("%%step train\n#| finally\n#| finally", "`finally` is given twice, first on line 2", "finally"),
        ("%%step train\n#| append: yes", "there is no key `append`", "append: yes"),
        ("%%step train\n#| retries: 2 # two", "`2 # two` is not a whole number", "2 # two"),
        ("%%step train \\\n  -i a \\\n  -o b-c", "`b-c` is not an output name", "b-c"),
        ("#| step: train -o b-c", "`b-c` is not an output name", "b-c"),
        ("#| step: train -o a \\\n#|   -i b-c", "`b-c` is not an input name", "b-c"),
        ("%%step train\n#| in: a, \\\n#|     b-c", "`b-c` is not an input name", "b-c"),
        ("%%step train\n\n#| in: a\nb = 1", "`#| in: a` stands below the step's code", "#| in: a"),
        ("%%step train\nb = 1\n# | in: a", "`# | in: a` stands below the step's code", "# | in: a"),
        ("%%step train\n%%time\nb = 1", "a step cannot hold the cell magic `%%time`", "%%time"),
        ("\n\n%%step train -x", "there is no option `-x`", "-x"),
    ],
)  # fmt: skip
def test_an_error_says_what_is_wrong_and_points_at_it(source: str, said: str, at: str):
    message, found = refused(source)
    assert said in message
    assert found.rstrip() == at.rstrip()


@pytest.mark.parametrize(
    "source, hint",
    [
        ("%%step train -out x", "Did you mean `--out`?"),
        ("%%step train --output x", "Did you mean `--out`?"),
        ("%%step train --retry 2", "Did you mean `--retries`?"),
        ("%%step train\n#| outt: x", "Did you mean `out`?"),
        ("%%step train\n#| timeot: 2s", "Did you mean `timeout`?"),
        ("%%step train -o a:jsn", "Did you mean `json`?"),
        ("%%step train -o a:parket", "Did you mean `parquet`?"),
        ("%%step train --reuse nver", "Did you mean `never`?"),
        ("%%step train -o a b", "Commas stand between names: a, b"),
        ("%%step my-step", "`my_step`"),
        ("%%step class", "`class_`"),
        ("%%step 1st", "`_1st`"),
        ("%%step train -i ./a.csv", "data=./a.csv"),
        ("%%step train -i raw=a.csv.gz", "./a.csv.gz"),
        ("%%step train -i prepare.df", "df=prepare.df"),
        ("%%step train -i 'raw:csv=./a b.csv'", "Only the path stands in quotes: raw:csv='./a b.csv'"),
        ("%%step train -i '/a b.csv'", "data='/a b.csv'"),
        ("%%step train -i raw:dir=./a", "write raw=./a"),
        ("%%step train # why", "A declaration cannot contain a comment"),
        ("%%time\n%%step train", "Leave `%%time` out"),
        ("%%step train\n%%capture out\nx = 1", "Leave `%%capture` out"),
    ],
)
def test_an_error_suggests_the_nearest_valid_spelling(source: str, hint: str):
    assert hint in wrong(source)


# What a first line makes of a cell


@pytest.mark.parametrize(
    "source, kind",
    [
        ("%%step train", "step"),
        ("%%nbstep train", "step"),
        ("\n  \n%%step train", "step"),
        ("#| step: train", "step"),
        ("# |step:train", "step"),
        ("%%steps train", "magic"),
        ("%%bash\n%%step x", "magic"),
        ("#| parameters", "parameters"),
        ("# | parameters  ", "parameters"),
        ("#| shared\nx = 1", "shared"),
        ("#| local", "local"),
        ("#| label: fig", None),
        ("x = 1\n#| parameters", None),
        ("x = '''\n%%step a\n'''", None),
        ("", None),
        ("# %%step a", None),
    ],
)
def test_a_cells_first_line_tells_its_kind(source: str, kind: str | None):
    assert marker(source) == kind


@pytest.mark.parametrize(
    "source, line",
    [
        ("%%time\n%%step a -o x\nx = 1", 2),
        ("%%time\n\n# note\n%%step a -o x\nx = 1", 4),
        ("%%time\n#| step: a -o x\nx = 1", 2),
        ("# note\n%%step a -o x\nx = 1", 2),
        ("# note\n\n#| step: a -o x\nx = 1", 3),
        ("import os\n%%step a -o x\nx = 1", 2),
        ("import os\n%%nbstep a -o x\nx = 1", 2),
        ("  %%step a -o x\n  x = 1", 1),
        (" #| step: a -o x\nx = 1", 1),
    ],
)
def test_a_step_line_that_is_not_the_first_is_refused_and_never_ignored(source: str, line: int):
    assert f"cell 1, line {line}, column 1" in wrong(source, "%%step b -o y\ny = 1")


@pytest.mark.parametrize(
    "source",
    [
        "text = '''\n%%step a -o x\n#| in: y\n'''",
        "!ls\ntext = '''\n%%step a -o x\n'''",
        "%%bash\necho one\n%%step a",
        "#| local\n%%step a -o x -wrong\nx = 1",
        "# a note about %%step\nx = 1",
        "print('#| step: a')",
    ],
)
def test_a_text_that_only_looks_like_a_step_is_none(source: str):
    assert [step.name for step in fine(source, "%%step b -o y\ny = 1").steps] == ["b"]


def test_texts_in_a_step_that_look_like_directives_are_code():
    body = "x = '''\n%%step z\n#| in: y\n'''\ny = \"#| out: q\"  #| in: w"
    found = fine(f"%%step a -o x\n{body}").steps[0]
    assert found.inputs == ()
    assert body in found.pieces[0].source


def test_line_ends_of_any_system_and_odd_separators_keep_the_code_as_it_is():
    found = declared("%%step a -o x\r\n#| in: y\r\nx = 'a\u2028b\x0cc\x1dd'\r\nz = 1\r\n")
    assert found.body == "# %%step a -o x\n#| in: y\nx = 'a\u2028b\x0cc\x1dd'\nz = 1\n"
    assert [item.name for item in found.inputs] == ["y"]


def test_a_step_without_code_is_a_step():
    for source in ("%%step a", "%%step a\n", "%%step a\n# only a note\n", "#| step: a", "%%step a\n#| after: b"):
        assert declared(source).name == "a"


@pytest.mark.parametrize(
    "above, line",
    [
        ("import os", 2),
        ("import os\n\ny = f(\n    1)", 5),
        ("!ls 'a\n%matplotlib inline", 3),
        ("x?\nimport os", 3),
        ("%%time\nimport os", 3),
    ],
)
def test_a_step_that_begins_below_code_is_refused(above: str, line: int):
    said = wrong(f"{above}\n#| step: train -o x\nx = 1")
    assert f"line {line}" in said
    assert "`#| step: train -o x` stands below" in said


@pytest.mark.parametrize(
    "cell",
    [
        "text = '''\n#| step: train\n'''",
        "if True:\n    y = 1\n    #| step: train",
        "y = 1  #| step: train",
        "%%writefile nb.py\nimport os\n#| step: train",
    ],
)
def test_what_only_looks_like_a_step_below_code_is_none(cell: str):
    assert fine(cell, "%%step a -o x\nx = 1").errors == ()


def test_here_is_a_word_of_the_first_line_that_changes_no_meaning():
    """A saved notebook in which it still stands is planned and run as if it did not."""
    found = declared("%%step train --here -i x -o y\ny = x")
    assert found.here
    assert meaning(found) == meaning(declared("%%step train -i x -o y\ny = x"))
    assert not declared("%%step train").here
    message, at = refused("%%step train --here now -i x")
    assert (message, at[:3]) == ("`--here` takes no value, found `now`", "now")


def test_a_question_is_no_step():
    assert marker("%%step?") == "magic"
    assert marker("%%nbstep??") == "magic"
