"""The reference covers what there is: every hook, every public module; and links lead somewhere."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import mtcore.testing
from mtcore import hookspecs
from mtcore.plugins.checking import hook_names
from tests.docs.pages import ROOT, blocks, name_of, pages, private_imports, program, public_modules

HOOKS_PAGE = (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
TESTS = [
    *ROOT.glob("tests/**/test_*.py"),
    *ROOT.glob("plugins/*/tests/**/*.py"),
    *ROOT.glob("plugins/*/src/*/hooks.py"),  # of plugins whose tests go through a registry
    *ROOT.glob("examples/*/src/*/hooks.py"),
]
IMPLEMENTS = re.compile(r"\b(mtcore_\w+)(?:\(self|=|\(\) ->)")
OUTSIDE = sorted(ROOT.glob("plugins/*/src/**/*.py"))
"""The sources of plugins, which are held to public names."""
NOT_PUBLIC = {"mtcore.builtin"}
"""What mtcore registers with itself."""


@pytest.mark.parametrize("name", hook_names())
def test_the_hooks_page_shows_when_a_hook_is_called(name):
    assert re.search(rf"\b{name}\b", HOOKS_PAGE), f"put {name} into the diagram of docs/reference/hooks.md"


@pytest.mark.parametrize("name", hook_names())
def test_every_argument_of_a_hook_is_explained(name):
    hook = getattr(hookspecs, name)
    arguments = list(inspect.signature(hook).parameters)
    explained = re.findall(
        r"^    (?:    )?(\w+(?:, \w+)*):", inspect.getdoc(hook).partition("Example:")[0], re.MULTILINE
    )
    missing = set(arguments) - {word for group in explained for word in group.split(", ")}
    assert not missing, f"{name}: say under Args what {', '.join(sorted(missing))} is"


@pytest.mark.parametrize("name", hook_names())
def test_the_example_of_a_hook_imports_public_names_alone(name):
    lines = [line.strip() for line in inspect.getdoc(getattr(hookspecs, name)).splitlines()]
    imports = [line.removeprefix(">>> ") for line in lines if line.startswith((">>> import ", ">>> from "))]
    assert not private_imports("\n".join(imports))


def test_the_page_on_plugins_names_every_contract():
    text = (ROOT / "docs" / "explanation" / "plugins.md").read_text(encoding="utf-8")
    contracts = {name for name in mtcore.testing.__all__ if name.endswith("Contract")}
    assert contracts == set(re.findall(r"`(\w+Contract)`", text))


def test_every_hook_has_a_test_that_implements_it():
    told = "\n".join(path.read_text(encoding="utf-8") for path in TESTS)
    assert set(hook_names()) - set(IMPLEMENTS.findall(told)) == set()


def test_the_table_of_rooms_names_every_room():
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rooms = {found.name for found in pkgutil.iter_modules(mtcore.__path__)}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == rooms


def test_every_public_module_has_a_page():
    rooms = {f"mtcore.{found.name}" for found in pkgutil.iter_modules(mtcore.__path__)} - NOT_PUBLIC
    assert rooms - set(public_modules()) == {"mtcore.hookspecs"}, "hookspecs has a page of its own"
    for name in public_modules():
        assert inspect.getdoc(importlib.import_module(name)), f"{name} says nothing"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_link_on_a_page_points_at_something_that_exists(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / link).exists(), f"{link} does not exist"


@pytest.mark.parametrize("path", OUTSIDE, ids=name_of)
def test_a_plugin_imports_public_names_alone(path):
    assert not private_imports(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_page_imports_public_names_alone(page):
    python = [block for block in blocks(page) if block.language in ("python", "py")]
    assert not private_imports(program(python))
