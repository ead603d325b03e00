"""Text becomes plain data with line numbers, or a problem with its place; never anything else."""

import enum

import pytest

from mtcore.errors import RecipeError
from mtcore.recipe.document import Problems
from mtcore.recipe.read import read_file, read_mapping, read_yaml


def read(text):
    problems = Problems()
    return read_yaml(text, title="mine.yaml", problems=problems), problems


def problems_in(text):
    document, problems = read(text)
    assert document is None
    with pytest.raises(RecipeError) as caught:
        problems.raise_if_any()
    return caught.value.problems


def test_every_value_knows_its_line():
    document, _ = read("rules:\n  - weight:\n      fp8\n  - {input: int8}\nalgorithm: max\n")
    assert document.data == {"rules": [{"weight": "fp8"}, {"input": "int8"}], "algorithm": "max"}
    assert document.lines["rules", 0, "weight"] == 2
    assert document.lines["rules", 1, "input"] == 4
    assert document.lines["algorithm",] == 5


def test_an_empty_text_is_an_empty_recipe():
    assert read("")[0].data == {}
    assert read("# only a comment")[0].data == {}


def test_integer_keys_and_anchors_are_kept():
    document, _ = read("a: &x {-1: 16}\nb: *x")
    assert document.data == {"a": {-1: 16}, "b": {-1: 16}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "mine.yaml, line 1: not valid YAML"),
        ("a: 1\nb: *nowhere", "line 2: not valid YAML: found undefined alias"),
        ("a: 1\na: 2", "line 1 (a): the key stands again in line 2"),
        ("a: 2020-01-01", "'2020-01-01' is a date, not plain data; put it in quotes"),
        ("a: 2020-99-99", "is not a value that YAML knows"),
        ("a: !!python/name:os.system x", "is not a value that YAML knows"),
        ("a: !!set {x}", "YAML tag tag:yaml.org,2002:set is not plain data"),
        ("a: !!binary aGk=", "is a bytes, not plain data"),
        ("[a]: 1", "a key in line 1 is neither a text nor a number"),
        ("a: {1.5: 2}", "a key in line 1 is neither a text nor a number"),
        ("a: \x00", "not valid YAML"),
        ("a: &x [*x]", "nested over 64 deep"),
        ("[" * 600, "nested"),
    ],
)
def test_what_is_not_plain_yaml_is_a_problem_with_its_place(text, expected):
    try:
        (problem, *_) = problems_in(text)
    except RecipeError as error:
        problem = str(error)
    assert expected in problem


def test_aliases_of_aliases_are_stopped_early():
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    with pytest.raises(RecipeError, match="over 100000 values"):
        read("\n".join(lines))


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"summary: \xff\xfe")
    for name, reason in {"gone.yaml": "No such file", "latin.yaml": "not UTF-8", ".": "Is a directory"}.items():
        problems = Problems()
        assert read_file(tmp_path / name, problems) is None
        with pytest.raises(RecipeError, match=reason):
            problems.raise_if_any()


def test_a_mapping_is_copied_with_tuples_as_lists():
    source = {"quant_cfg": {"*": {"num_bits": (4, 3), "block_sizes": {-1: 16}}}}
    document = read_mapping(source, title="the given config", problems=Problems())
    assert document.data == {"quant_cfg": {"*": {"num_bits": [4, 3], "block_sizes": {-1: 16}}}}
    assert document.data["quant_cfg"] is not source["quant_cfg"]


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"x", 1j, enum.Enum("E", "a").a, {None: 1}, {True: 1}, {(1, 2): 3}]
)
def test_a_value_that_yaml_cannot_say_is_a_problem(value):
    problems = Problems()
    assert read_mapping({"rules": [value]}, title="the given config", problems=problems) is None
    with pytest.raises(RecipeError, match=r"the given config \(rules.0\): "):
        problems.raise_if_any()
