"""Starting kernels: later starts tell the driver what Triton's own does, and no kind is mistaken for another."""

import sys
from types import SimpleNamespace

import pytest
import torch
import triton
from triton.runtime.jit import JITFunction, mangle_type

from mtcore.backends import format_key
from mtcore.formats.catalog import FP8, INT4_B128, INT8_ROW, NVFP4
from mtopt_kernels import launch
from mtopt_kernels import start as starting


@pytest.mark.parametrize("fmt", [FP8, NVFP4, INT4_B128, INT8_ROW], ids=lambda fmt: fmt.name)
def test_the_second_start_skips_triton_and_tells_the_driver_the_same(gpu, monkeypatch, fmt):
    x, outer = torch.randn(64, 4096).bfloat16(), torch.ones(())
    amax = torch.ones(fmt.block.grid(64, 4096))
    launch.quantize(x, amax, outer, format_key(fmt))
    monkeypatch.setattr(JITFunction, "run", lambda *_, **__: pytest.fail("Triton's own start"))
    launch.quantize(x, amax, outer, format_key(fmt))
    first, second = gpu.started
    assert len(first) == len(second)
    for ours, tritons in zip(second, first, strict=True):
        if isinstance(tritons, torch.Tensor):
            assert (ours is tritons) or (ours.shape, ours.dtype) == (tritons.shape, tritons.dtype)
        elif not isinstance(tritons, triton.compiler.compiler.LazyDict):
            assert ours == tritons


def test_arguments_that_triton_compiles_differently_are_of_different_kinds():
    aligned = torch.zeros(64, dtype=torch.bfloat16)
    samples = [aligned, aligned[1:], aligned.float(), aligned.view(torch.uint8), None]
    samples += [0, 1, 2, 15, 16, 17, 32, 2**31 - 1, 2**31, 2**31 + 1, 2**40, 2**40 + 1]
    for one in samples:
        for other in samples:
            if starting._kind(one, False) == starting._kind(other, False):
                assert mangle_type(one, True) == mangle_type(other, True), (one, other)


def test_constants_are_their_own_kind():
    assert starting._kind(48, True) != starting._kind(64, True)
    assert starting._kind("row", True) == "row"


def test_kernels_start_early_only_where_those_of_inductor_do(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._inductor.config", raising=False)
    assert not starting.starts_early()
    for on in (True, False):
        inductor = SimpleNamespace(triton=SimpleNamespace(enable_pdl=on))
        monkeypatch.setitem(sys.modules, "torch._inductor.config", inductor)
        assert starting.starts_early() is on
    monkeypatch.setitem(sys.modules, "torch._inductor.config", SimpleNamespace(triton=SimpleNamespace()))
    assert not starting.starts_early(), "an older one has no such setting"
