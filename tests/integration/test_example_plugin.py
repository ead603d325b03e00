"""The example plugin: public names alone, found when installed; and what the contracts say of wrong parts."""

from __future__ import annotations

import ast
import importlib
import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import mtcore.testing  # noqa: F401  imported once here, not again in every run inside a test
import mtopt_example.hooks
import mtopt_example.layer
from tests.docs.pages import public_modules

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "mtopt-example"
SOURCES = sorted(EXAMPLE.rglob("*.py"))
WITHOUT_ALL = {"mtcore.errors", "mtcore.hookspecs"}
"""Public modules that list no names: all that do not begin with _ are meant."""
PUBLIC = {*public_modules(), "mtcore.hookspecs"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_example_imports_public_names_alone(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {name.name for name in node.names if name.name.startswith("mtcore")} <= {"mtcore"}
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mtcore":
            private = [name.name for name in node.names if not _is_public(node.module, name.name)]
            assert not private, f"{node.module} has no public {', '.join(private)}"


def test_the_example_uses_no_private_attribute_of_what_it_imports():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                assert node.attr.startswith("__"), f"{path.name}:{node.lineno} uses {node.attr}"


def _is_public(module, name):
    if name.startswith("_") or module not in PUBLIC:
        return False
    found = importlib.import_module(module)
    return name in getattr(found, "__all__", dir(found) if module in WITHOUT_ALL else ())


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment of its own, with a copy of the example installed; no index is asked."""
    root = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, root / "plugin", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    venv.create(root / "venv", symlinks=True)
    interpreter = root / "venv" / "bin" / "python"
    inherit = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages())
    lib = root / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (lib / "inherit.pth").write_text(inherit)
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, *offline, "-e", str(root / "plugin")], check=True, capture_output=True, text=True)
    return interpreter


def mtopt(python, command):
    code = "import sys; from mtcore.cli.main import main; sys.exit(main())"
    only = {**os.environ, "MTCORE_PLUGINS": "only:example"}
    done = subprocess.run([python, "-c", code, command, "--json"], env=only, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_installed_plugin_is_found(python):
    found = {plugin["name"]: plugin for plugin in mtopt(python, "plugins")["plugins"]}
    assert found["example"]["distribution"] == "mtopt-example"
    hooks = {name for name in vars(mtopt_example.hooks) if name.startswith("mtcore_")}
    assert found["example"]["contributes"] == dict.fromkeys(hooks, 1)
    assert "fp5_row" in {fmt["name"] for fmt in mtopt(python, "formats")}


BROKEN = """
    from dataclasses import replace

    import pytest
    import torch
    from mtcore.formats import TableElement
    from mtcore.testing import (
        AlgorithmContract, ExporterContract, FormatContract, KernelContract, QuantModuleContract, SymbolContract,
    )
    from mtopt_example.exporter import PLAIN, write
    from mtopt_example.fp5 import FP5_ROW
    from mtopt_example.kernel import FAKE_QUANTIZE_FP5, fake_quantize
    from mtopt_example.layer import PROJECTION, PROJECTION_SYMBOLS, SQUASH, QuantProjection, squash, symbols
    from mtopt_example.madeup import Mlp, Projection
    from mtopt_example.sigma_clip import SIGMA_CLIP, run_sigma_clip

    POSITIVE = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0]

    class TestFormat(FormatContract):
        @pytest.fixture
        def fmt(self):
            return replace(FP5_ROW, element=replace(FP5_ROW.element, exponent_bits=1, mantissa_bits=3))

        @pytest.fixture
        def stated_values(self):
            return [*POSITIVE, *(-value for value in POSITIVE)]

    def one_off(x, amax, outer_amax, format):
        fake = fake_quantize(x, amax, outer_amax, format)
        fake[fake > 0] = torch.nextafter(fake[fake > 0], torch.tensor(torch.inf, dtype=x.dtype))
        return fake

    class TestKernel(KernelContract):
        @pytest.fixture
        def kernel(self):
            return replace(FAKE_QUANTIZE_FP5, run=one_off)

        @pytest.fixture
        def fmt(self):
            return FP5_ROW

    class Transposed(QuantProjection):
        def forward(self, x):
            product = self.input_quantizer(x) @ self.weight_quantizer(self.weight.T).T
            return self.output_quantizer(squash(product + self.bias))

    class TestLayer(QuantModuleContract):
        @pytest.fixture
        def spec(self):
            return replace(PROJECTION, quantized=Transposed)

        @pytest.fixture
        def module(self):
            return Projection(24, 16)

        @pytest.fixture
        def inputs(self):
            return torch.randn(5, 24)

    def swapped(module):
        info = symbols(module)
        info.symbols["out_features"].axis = 0
        info.symbols["in_features"].axis = 1
        return info

    class TestSymbols(SymbolContract):
        @pytest.fixture
        def spec(self):
            return replace(PROJECTION_SYMBOLS, symbols=swapped)

        @pytest.fixture
        def trace_rules(self):
            return [SQUASH]

        @pytest.fixture
        def model(self):
            return Mlp(8, 12, 3)

        @pytest.fixture
        def where(self):
            return "down"

        @pytest.fixture
        def inputs(self):
            return torch.randn(5, 8)

        @pytest.fixture
        def states(self):
            return {"in_features": "dynamic", "out_features": "searchable"}

    def forgets_down(run, options):
        run_sigma_clip(run, options)
        run.model.down.input_quantizer.set_amax(None, None)
        run.model.down.input_quantizer.disable()

    class TestAlgorithm(AlgorithmContract):
        @pytest.fixture
        def algorithm(self):
            return replace(SIGMA_CLIP, run=forgets_down)

    def forgets_files(artifact, directory):
        write(artifact, directory)
        (directory / "tokenizer.json").unlink()

    class TestExporter(ExporterContract):
        @pytest.fixture
        def exporter(self):
            return replace(PLAIN, write=forgets_files)

        @pytest.fixture
        def weight_format(self):
            return FP5_ROW

        @pytest.fixture
        def read_back(self):
            return lambda directory: {}
"""

MESSAGES = {
    "TestFormat": [
        "values of the codes of e1m3: first differing element [9] is 2.25, expected 2.5 (14 of 32 differ)"
    ],
    "TestKernel": ["result 0 for a (3, 17) matrix in torch.float32: first differing element [0, 4] is 0.9065225"],
    "TestLayer": ["what the quantizer of 'weight' sees: shape (16, 24), expected (24, 16)"],
    "TestSymbols": ["symbol 'in_features' (weight, axis 1) is constant in this model, not dynamic"],
    "TestAlgorithm": [
        "not calibrated, set_amax was never called: down.input",
        "quantizers of 'down.input' were (True, None) before the run and are (False, None) after it",
    ],
    "TestExporter": [
        "tokenizer.json was not copied; see SourceFiles.write_files",
        "gate.weight is missing; read back",
    ],
}


def test_a_mistake_fails_with_a_message_that_says_what_is_wanted(pytester):
    pytester.makepyfile(BROKEN)
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    said = [line for line in result.outlines if line.startswith("E ")]
    for contract, messages in MESSAGES.items():
        for message in messages:
            assert any(message in line for line in said), f"{contract}: nothing says {message!r}"
