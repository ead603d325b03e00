"""Starting kernels: later starts tell the driver what Triton's own does, and no kind is mistaken for another."""

import sys
from types import SimpleNamespace

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction, mangle_type

from mtcore.backends import format_key
from mtcore.formats.catalog import FP8, INT4_B128, INT8_ROW, NVFP4
from mtopt_kernels import launch
from mtopt_kernels import start as starting
from mtopt_kernels.kernels.blocks import blocks_kernel
from mtopt_kernels.kernels.rectangles import rectangles_kernel


class Driver:
    """A GPU of sm_90 that writes down what it is told to start."""

    def __init__(self):
        self.started = []
        loaded = ("module", "function", 32, 0, 1024)
        self.utils = SimpleNamespace(
            load_binary=lambda *_: loaded, get_device_properties=lambda device: {"max_shared_mem": 232448}
        )

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 7

    def launcher_cls(self, source, metadata):
        return lambda *arguments: self.started.append(arguments)


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    fake = Driver()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(starting, "_COMPILED", {})
    monkeypatch.setattr(launch, "_AGAIN", {})
    monkeypatch.setattr(launch, "start", starting.start_directly)
    monkeypatch.setattr(driver, "_active", fake)
    yield fake
    for kernel in (rectangles_kernel, blocks_kernel):
        for cache, *_ in kernel.device_caches.values():
            for compiled in cache.values():
                compiled.module = None  # newer Tritons unload it when it goes, with a driver that is not there
        kernel.device_caches.clear()  # what was "loaded" here must not be started on a real GPU


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


@pytest.mark.parametrize("fmt", [FP8, NVFP4, INT4_B128, INT8_ROW], ids=lambda fmt: fmt.name)
def test_rounding_again_works_nothing_out_and_tells_the_driver_the_same_with_addresses(gpu, monkeypatch, fmt):
    one, other = (torch.randn(64, 4096).bfloat16() for _ in range(2))
    amax, outer, key = torch.ones(fmt.block.grid(64, 4096)), torch.ones(()), format_key(fmt)
    launch.fake_quantize(one, amax, outer, key)
    monkeypatch.setattr(launch, "start", lambda *_, **__: pytest.fail("worked out again"))
    out = launch.fake_quantize(other, amax, outer, key)
    first, second = gpu.started
    replaced = {place: tensor for place, tensor in enumerate(first) if isinstance(tensor, torch.Tensor)}
    addresses = {amax.data_ptr(), outer.data_ptr(), other.data_ptr(), out.data_ptr()}
    assert {second[place] for place in replaced} <= addresses
    assert {other.data_ptr(), out.data_ptr(), amax.data_ptr()} <= {second[place] for place in replaced}
    hooks = slice(6, 9)  # what is told to profilers
    assert second[hooks] == (None, None, None)
    kept = [place for place in range(len(first)) if place not in replaced and place not in range(6, 9)]
    assert [first[place] for place in kept] == [second[place] for place in kept]


def test_other_kinds_of_tensors_are_looked_at_again(gpu):
    x, key = torch.randn(64, 4096).bfloat16(), format_key(INT8_ROW)
    for matrix in (x, x[:, 1:], x.float(), x[:32], x[::2]):
        launch.fake_quantize(matrix, None, None, key)
    assert len(launch._AGAIN) == 5


def test_a_start_that_touches_other_tensors_is_not_made_again(gpu):
    x, key = torch.randn(64, 4096).bfloat16(), format_key(INT8_ROW)
    for _ in range(2):
        launch.fake_quantize(x.t(), None, None, key)  # works on a copy
    assert list(launch._AGAIN.values()) == [None]
    assert len(gpu.started) == 2


def test_a_profiler_is_told_by_triton(gpu):
    x, key = torch.randn(64, 4096).bfloat16(), format_key(INT8_ROW)
    told = []
    hook = triton.knobs.runtime.launch_enter_hook
    launch.fake_quantize(x, None, None, key)
    hook.add(told.append)
    try:
        launch.fake_quantize(x, None, None, key)
    finally:
        hook.remove(told.append)
    assert gpu.started[1][7] is hook


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
