"""A GPU that is not there: what the driver is told is written down."""

from types import SimpleNamespace

import pytest
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from mtopt_kernels import eight_bit, four_bit, launch, nvfp4_vector, pairs
from mtopt_kernels import start as starting


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
    for module in (eight_bit, four_bit, launch, nvfp4_vector, pairs):
        monkeypatch.setattr(module, "start", starting.start_directly)
    monkeypatch.setattr(driver, "_active", fake)
    yield fake
    for kernel in {key[0] for key in starting._COMPILED}:
        for cache, *_ in kernel.device_caches.values():
            for compiled in cache.values():
                compiled.module = None  # newer Tritons unload it when it goes, with a driver that is not there
        kernel.device_caches.clear()  # what was "loaded" here must not be started on a real GPU
