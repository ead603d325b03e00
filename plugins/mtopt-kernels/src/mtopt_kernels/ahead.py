"""Ahead of time: compile the launches of a function for a GPU that is not there, and read what they need of it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

_POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.float8_e4m3fn: "*fp8e4nv",
}
_OPTIONS = ("num_warps", "num_stages", "maxnreg", "launch_pdl")


@dataclass(frozen=True)
class Launch:
    """One launch as it was asked for: a kernel, its arguments by name, and the compiler's options."""

    kernel: JITFunction
    arguments: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel needs: registers a thread, bytes of stack and of spilled registers, shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Launches inside are written down instead of carried out; tensors may be on any device."""
    launches: list[Launch] = []
    original = JITFunction.run

    def note(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        named = dict(zip(self.arg_names, args, strict=False)) | kwargs
        launches.append(Launch(self, named, options))

    JITFunction.run = note
    try:
        yield launches
    finally:
        JITFunction.run = original


def launches_of(function: Callable[..., Any], *arguments: Any) -> list[Launch]:
    """What a launching function would launch."""
    with recorded() as launches:
        function(*arguments)
    return launches


def compile_launch(launch: Launch, capability: int) -> triton.compiler.CompiledKernel:
    """Compile for `sm_<capability>`, specialised as Triton does when it launches: on ones and multiples of 16."""
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    aligned: dict[tuple[int, ...], Any] = {}
    for place, param in enumerate(launch.kernel.params):
        value = launch.arguments[param.name]
        if param.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[param.name] = "constexpr"
            constants[(place,)] = value
            continue
        if isinstance(value, TensorDescriptor):
            signature[param.name] = f"tensordesc<{_POINTERS[value.base.dtype][1:]}{list(value.block_shape)}>"
            continue
        if isinstance(value, Tensor):
            signature[param.name] = _POINTERS[value.dtype]
            divisible = True
        elif isinstance(value, float):
            signature[param.name], divisible = "fp32", False
        else:
            signature[param.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            divisible = value % 16 == 0
        if divisible:
            aligned[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options)


def resources_of(compiled: triton.compiler.CompiledKernel) -> Resources:
    """What the assembler says of a compiled kernel. Triton has no local arrays: all stack is spilled registers."""
    tool = triton.knobs.nvidia.cuobjdump.path
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        run = [tool, "--dump-resource-usage", str(path)]
        text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return Resources(found["REG"], found["STACK"], found["LOCAL"], compiled.metadata.shared)
