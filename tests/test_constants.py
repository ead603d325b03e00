"""A format's constants are stated in mtcore/formats only; everybody else derives them from the format."""

import ast
from pathlib import Path

import pytest

import mtcore

ROOT = Path(mtcore.__file__).parent
LARGEST_VALUES = {448, 2688, 240, 57344}
"""Of E4M3, of E2M1 times E4M3, of the E4M3 that has infinities, and of E5M2."""

LARGEST_FLOATS = {6.0, 127.0, 127.5}
"""Of E2M1 and INT8 where they are written as floats; as integers they count things and name fp32's bias."""

SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] != "formats"]


def format_constants(source: str) -> list[str]:
    """Lines that write a format's largest value as a number, or ask torch for it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and is_largest(node.value):
            found.append(f"line {node.lineno}: {node.value}")
        if isinstance(node, ast.Call) and "finfo" in ast.unparse(node.func) and "float8" in ast.unparse(node):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def is_largest(value: float) -> bool:
    return value in LARGEST_VALUES or (type(value) is float and value in LARGEST_FLOATS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_format_constant_is_written_outside_formats(path):
    assert format_constants(path.read_text()) == []


@pytest.mark.parametrize(
    "line", ["x / 448", "x.clamp(-448.0, 448.0)", "amax / 6.0", "torch.finfo(torch.float8_e5m2)"]
)
def test_the_search_finds_what_it_looks_for(line):
    assert format_constants(line)


@pytest.mark.parametrize("line", ["range(6)", "'448'", "# 448", "torch.finfo(torch.float32).max"])
def test_the_search_leaves_other_numbers_alone(line):
    assert format_constants(line) == []
