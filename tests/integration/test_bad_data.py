"""Bad data, end to end: `mtopt quantize` stops with the layer's name, keeps what is done, and goes on later."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtcore import plugins
from mtcore.cli.main import run
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks

LAYER = "layers.1.down"


class BadToy(ToyBlocksPlugin):
    """The toy model with a fault in what the layer `LAYER` reads, from its third forward on; or without data."""

    def __init__(self) -> None:
        self.fault, self.batches = None, None

    @hookimpl
    def mtcore_load_model(self, source):
        loaded = super().mtcore_load_model(source)
        if loaded is None:
            return None
        calls = []

        def spoil(_, __, y):
            calls.append(None)
            return self.fault(y, len(calls)) if self.fault is not None else y

        loaded.model.layers[1].up.register_forward_hook(spoil)
        return replace(loaded, example_inputs={"input_ids": torch.arange(8)[None]})

    @hookimpl
    def mtcore_calibration_batches(self, source, loaded, options):
        if self.batches is not None:
            return self.batches
        return super().mtcore_calibration_batches(source, loaded, options)

    @hookimpl
    def mtcore_exporters(self):
        return super().mtcore_exporters()


def nan(y):
    return torch.where(torch.arange(y.shape[-1]) == 3, torch.nan, y)


def zero(y):
    return torch.zeros_like(y)


def fails(y):
    raise RuntimeError("the lights went out")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return write_toy_blocks(tmp_path_factory.mktemp("toy"), ToyShape())


@pytest.fixture
def quantize(toy, tmp_path, capsys, monkeypatch):
    """`quantize("--layerwise")` runs the command on the toy model; gives exit code, stderr and output."""
    plugin = BadToy()
    registry = Registry.load([plugin], discover=False)
    monkeypatch.setattr(plugins, "default_registry", lambda: registry)

    def call(*extra, out="out"):
        line = ["quantize", f"{SOURCE}{toy}", "--recipe", "fp8", "--calib", "some", "-o", str(tmp_path / out)]
        sizes = ["--samples", "8", "--length", "16", "--batch-size", "2", "--dialect", "toy"]
        code = run([*line, *sizes, *map(str, extra)])
        return code, capsys.readouterr().err, tmp_path / out

    call.plugin = plugin
    return call


def content(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def last_line(stderr):
    return stderr.splitlines()[-1]


MODES = [
    (),
    ("--layerwise",),
    ("--layerwise", "--propagate"),
    ("--statistics",),
    ("--layerwise", "--statistics"),
]


@pytest.fixture(params=MODES, ids=lambda mode: " ".join(mode) or "whole")
def mode(request, tmp_path):
    return (*request.param, tmp_path / "kept") if "--statistics" in request.param else request.param


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (nan, f"NaN or infinite values, first in {LAYER}.input"),
        (zero, f"{LAYER}.input: it was zero throughout a batch"),
        (fails, "RuntimeError: the lights went out"),
    ],
)
def test_it_stops_with_the_layers_name_and_the_next_run_ends_as_an_unbroken_one(quantize, mode, fault, message):
    code, err, unbroken = quantize(out="unbroken")
    assert code == 0, err
    quantize.plugin.fault = lambda y, call: fault(y) if call > 3 else y
    code, err, out = quantize(*mode)
    assert code in (1, 70)
    assert message in last_line(err)
    assert "layers.1." in last_line(err), "where it happened"
    if fault is fails:
        assert re.search(r"calibration stopped in batch [2-4], after layers\.1\.", last_line(err)), "and when"
    assert not out.exists()
    quantize.plugin.fault = None
    code, err, out = quantize(*mode)
    assert code == 0, err
    if "--layerwise" in mode:
        assert "going on after 1 of 4 blocks" in err
    if "--propagate" not in mode:
        assert content(out) == content(unbroken)
    assert not out.with_name("out.run").exists()


def test_no_data_at_all_is_said_before_anything_runs(quantize, mode):
    quantize.plugin.batches = []
    code, err, out = quantize(*mode)
    assert code == 1
    assert "the calibration data held no batch" in last_line(err)
    assert not out.exists()
    assert not out.with_name("out.run").exists()


@pytest.mark.parametrize(
    ("extra", "processes", "code", "reason"),
    [
        (("--statistics", "kept", "--layerwise", "--propagate"), "1", 1, "leave out --propagate"),
        (("--layerwise",), "2", 1, "--layerwise works in one process; start it without torchrun"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_the_model_is_loaded(
    quantize, monkeypatch, tmp_path, extra, processes, code, reason
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", processes)
    found, err, out = quantize(*extra)
    assert found == code
    assert reason in err
    assert "load:" not in err
    assert not out.exists()
    assert not (tmp_path / "kept").exists()
