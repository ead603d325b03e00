"""Every block of code in the documentation runs as it stands, page by page; what cannot run says why."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import click
import pytest
import torch
import yaml

from mtcore.cli.main import mtopt, run
from mtcore.cli.settings import Settings
from tests.docs.pages import Block, blocks, name_of, pages, program

PAGES = pages()
RUN = ("python", "console")
READ = ("yaml", "toml", "text", "mermaid")
"""Languages that are data, pictures or output; those that can be parsed are."""
NOT_RUN = ("py", "sh")
"""Python and shell that cannot run in a test; the comment before the fence says why."""
CONTRACTS = re.compile(r"^class Test", re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
MTOPT = re.compile(r"^(?:\$ )?mtopt .*$", re.MULTILINE)


def _with(language: str) -> list[Path]:
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


def _python(page: Path) -> str:
    return program([block for block in blocks(page) if block.language == "python"])


PROGRAMS = sorted({*_with("python"), *_with("console")})
WITH_CONTRACTS = [page for page in PROGRAMS if CONTRACTS.search(_python(page))]


@pytest.mark.parametrize("page", [page for page in PROGRAMS if page not in WITH_CONTRACTS], ids=name_of)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    torch.manual_seed(0)
    module = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page):
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(program([block]), str(page), "exec"), module.__dict__)  # the page is ours
        if block.language == "console":
            _run_console(page, block)


def _run_console(page: Path, block: Block) -> None:
    """Run the lines behind `$`, and hold their output against the lines below; `...` stands for anything.

    Progress, on stderr, is left out.
    """
    for command in COMMAND.finditer(block.text):
        words, wanted = command[1].replace("\n> ", "\n"), command[2]
        code, printed, told = _mtopt(words) if words.startswith("mtopt ") else _shell(words)
        where = f"{name_of(page)}: {words}"
        assert code == 0, f"{where}\n{printed}\n{told}"
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if wanted.strip():
            assert doctest.OutputChecker().check_output(wanted, printed, flags), f"{where} printed\n{printed}"


def _mtopt(words: str) -> tuple[int, str, str]:
    """In this process, which has imported torch already."""
    printed, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
        code = run(shlex.split(words)[1:])
    return code, printed.getvalue(), told.getvalue()


def _shell(words: str) -> tuple[int, str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", words], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_pages_that_end_in_contracts_run_and_the_contracts_pass(tmp_path):
    """Each page is a test file; one process for all, as a plugin's tests run."""
    for page in WITH_CONTRACTS:
        (tmp_path / f"test_{page.stem.replace('-', '_')}.py").write_text(_python(page), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "--strict-markers", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in WITH_CONTRACTS:
        passed = re.findall(rf"^test_{page.stem.replace('-', '_')}\.py::.* PASSED", done.stdout, re.MULTILINE)
        assert len(passed) >= 3, f"{name_of(page)}: {len(passed)} tests"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_says_why(page):
    for block in blocks(page):
        known = block.language in (*RUN, *READ) or block.language.startswith("{")
        if block.language in NOT_RUN:
            assert block.reason, f"line {block.line}: say why in a comment before it: <!-- not run: … -->"
        else:
            assert known, f"line {block.line}: {block.language!r} is not among {RUN}, {READ} and {NOT_RUN}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_data_on_a_page_can_be_read(page):
    for block in blocks(page):
        if block.language == "yaml":
            yaml.safe_load(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_on_a_page_has_options_that_exist(page):
    for line in MTOPT.findall("\n".join(block.text for block in blocks(page) if block.language != "text")):
        for part in line.removeprefix("$ ").partition("  #")[0].split(";"):
            words = shlex.split(part, comments=True)
            if words and words[0] == "mtopt":
                _check(words[1:], line)


def _check(words: list[str], line: str) -> None:
    """The command of a line exists, and so do its options."""
    name = next(word for word in words if not word.startswith("-"))
    command = mtopt.get_command(click.Context(mtopt, obj=Settings()), name)
    assert command is not None, f"{line}: there is no command {name!r}"
    known = {option for parameter in (*command.params, *mtopt.params) for option in parameter.opts}
    known |= {option for parameter in command.params for option in parameter.secondary_opts} | {"--help", "-h"}
    unknown = [word for word in words if re.match(r"--?[a-zA-Z]", word) and word.partition("=")[0] not in known]
    assert not unknown, f"{line}: {name} has no {', '.join(unknown)}"
