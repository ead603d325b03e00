"""Writes docs/reference/formats.md: every built-in format, and what was just checked of it."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from layer_examples import EXAMPLES, AllLayers
from torch import Tensor

from mtcore.errors import MtcoreError
from mtcore.formats import CodedElement, Float32Element, IntElement, TableElement, TensorFormat, builtin_formats
from mtcore.formats import format_from_dict as from_dict
from mtcore.formats import format_to_dict as to_dict
from mtcore.nn import QuantModuleSpec
from mtcore.numerics import decode, dequantize, dynamic_qparams, fake_quantize, pack, quantize, unpack
from mtcore.numerics.pack import packed_cols
from mtcore.plugins import Registry
from mtcore.quantization import load, save
from mtcore.quantization import quantize as quantize_model
from mtcore.recipe.setting import QuantizeConfig, SlotRule, SlotSetting, default_mode, mode_problem

TARGET = Path(__file__).parents[1] / "reference" / "formats.md"

INDEPENDENT = {
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
"""Elements by name, in a library that is not ours."""

HEAD = """# Formats

`docs/generate/format_table.py` wrote this page. It runs every check anew and fails if one fails.

- **CPU reference**: `fake_quantize` equals `dequantize` after `quantize` in every bit, in fp32, bf16 and fp16, on
  normal numbers, ragged edges, zeros, subnormals, NaN and infinities.
- **codes checked**: how many codes of the element, and of the scale's element, have the value that ml_dtypes
  (floats), two's complement (integers) or the paper (NF4) gives them.
- **packs**: `unpack` undoes `pack` for every width of a row up to 33 codes.
- **layers**: the layers listed below the table that ran with their weights, inputs and outputs in this format and
  gave finite outputs.
- **round trip**: a layer that was saved and loaded gives the same bits; so does the format written as JSON.

[Numerics](numerics.md) defines every format exactly.

"""


@dataclass(frozen=True)
class Row:
    """What was found out about one format."""

    format: TensorFormat
    cpu_reference: bool
    codes: tuple[str, ...]
    packs: bool
    layers: Mapping[str, str]
    round_trip: bool

    @property
    def problems(self) -> list[str]:
        found = [name for name in ("cpu_reference", "packs", "round_trip") if not getattr(self, name)]
        found += [f"codes: {wrong}" for wrong in self.codes if "wrong" in wrong]
        return found + [f"{layer}: {problem}" for layer, problem in self.layers.items() if problem]

    def cells(self) -> list[str]:
        fmt = self.format
        name = "<br>".join([f"`{fmt.name}`", *(f"`{alias}`" for alias in fmt.aliases)])
        scales = "<br>".join(map(str, fmt.scales)) + (
            f"<br>zero point {fmt.zero_point.name}" if fmt.zero_point else ""
        )
        failed = [layer for layer, problem in self.layers.items() if problem]
        layers = f"**no**: {', '.join(failed)}" if failed else f"all {len(self.layers)}"
        return [
            *(name, fmt.element.name, scales, f"{fmt.bits_per_element:g}", mark(self.cpu_reference)),
            *(" + ".join(self.codes), mark(self.packs), layers, mark(self.round_trip)),
        ]


def mark(passed: bool) -> str:
    return "yes" if passed else "**no**"


def matrices() -> Iterator[Tensor]:
    """One of every kind that the reference promises to take."""
    normal = torch.randn(130, 150, generator=torch.Generator().manual_seed(0))
    zeros = normal.clone()
    zeros[:, :128] = 0.0
    zeros[1, ::2] = -0.0
    bad = normal.clone()
    bad[0, 0], bad[3, 140], bad[129, 149] = torch.nan, torch.inf, -torch.inf
    yield from (normal, zeros, bad, normal * 1e-42, normal * 1e37, normal[:1, :1], normal[:0], normal[:, :0])


def same_bits(left: Tensor, right: Tensor) -> bool:
    unsigned = {2: torch.int16, 4: torch.int32}[left.element_size()]
    nan = left.isnan()
    return torch.equal(nan, right.isnan()) and torch.equal(left[~nan].view(unsigned), right[~nan].view(unsigned))


def cpu_reference_holds(fmt: TensorFormat) -> bool:
    for x, dtype in itertools.product(matrices(), (torch.float32, torch.bfloat16, torch.float16)):
        x = x.to(dtype)
        qparams = dynamic_qparams(x, fmt)
        if not same_bits(fake_quantize(x, qparams), dequantize(quantize(x, qparams))):
            return False
    return True


def stated_values(element: CodedElement) -> np.ndarray:
    """The value of every code, from a source other than our formulas."""
    codes = np.arange(2**element.bits)
    if isinstance(element, IntElement):
        sign = 2 ** (element.bits - 1) if element.signed else 0
        return ((codes ^ sign) - sign) / 2**element.fraction_bits
    if isinstance(element, TableElement):
        return np.array(element.table, dtype=np.float32)  # checked against its definition in the tests
    return codes.astype(np.uint8).view(INDEPENDENT[element.name]).astype(np.float64)


def codes_checked(element: CodedElement) -> str:
    codes = torch.arange(2**element.bits, dtype=torch.uint8)
    if isinstance(element, IntElement) and element.bits == 8 and element.signed:
        codes = codes.view(torch.int8)
    right = np.array_equal(decode(codes, element).double().numpy(), stated_values(element), equal_nan=True)
    return f"{len(codes)}" if right else f"{element.name} wrong"


def packing_holds(bits: int) -> bool:
    for cols in range(34):
        codes = torch.arange(2 * cols).view(2, cols).remainder(2**bits).to(torch.uint8)
        packed = pack(codes, bits)
        if packed.shape != (2, packed_cols(cols, bits)) or not torch.equal(unpack(packed, bits, cols), codes):
            return False
    return True


def config(fmt: TensorFormat, specs: Iterable[QuantModuleSpec]) -> QuantizeConfig:
    """Weights in this format, and activations too where that is possible."""
    rules = []
    mode = default_mode(fmt, is_weight=False)
    activations = mode_problem(fmt, mode, is_weight=False) is None
    for spec in specs:
        weights = [("*weight_quantizer", "static")] if spec.weights else []
        others = [(f"*.{slot}_quantizer", mode) for slot in spec.activations if activations]
        rules += [
            SlotRule(pattern, SlotSetting(fmt, chosen), True, f"{spec.name} {pattern}", module_type=spec.name)
            for pattern, chosen in weights + others
        ]
    return QuantizeConfig("format table", tuple(rules), max_unquantized=1.0)


def layer_problems(fmt: TensorFormat, registry: Registry) -> dict[str, str]:
    """Every layer that was tried, and why it does not work in this format; empty where it does.

    It works if it runs quantized with finite outputs, and gives the same bits after it was saved and loaded.
    """
    names = [name for name in registry.quant_modules if name in EXAMPLES]
    one = torch.ones(())
    try:
        model = AllLayers(names)
        wanted = config(fmt, [registry.quant_modules[name] for name in names])
        model = quantize_model(model, wanted, [one], inputs=one, registry=registry)
        with tempfile.TemporaryDirectory() as folder:
            save(model, folder, overwrite=True)
            restored = load(folder, AllLayers(names), registry=registry)
    except MtcoreError as error:
        return {"all layers": f"{type(error).__name__}: {error}"}
    first, second = model(one), restored(one)
    return {name: output_problem(first[name], second[name]) for name in names}


def output_problem(first: list[Tensor], second: list[Tensor]) -> str:
    if not all(output.isfinite().all() for output in first):
        return "its output is not finite"
    return "" if all(map(torch.equal, first, second)) else "it gives another output after it was saved and loaded"


def check(fmt: TensorFormat, registry: Registry) -> Row:
    elements = [fmt.element, *(s.element for s in fmt.scales if not isinstance(s.element, Float32Element))]
    layers = layer_problems(fmt, registry)
    return Row(
        fmt,
        cpu_reference_holds(fmt),
        tuple(map(codes_checked, elements)),
        packing_holds(fmt.element.bits),
        layers,
        round_trip=from_dict(to_dict(fmt)) == fmt and not any(layers.values()),
    )


def page(rows: list[Row], registry: Registry) -> str:
    head = "format", "element", "scales", "bits", "CPU reference", "codes checked", "packs", "layers", "round trip"
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *(row.cells() for row in rows))]
    tried = [name for name in registry.quant_modules if name in EXAMPLES]
    untried = [name for name in registry.quant_modules if name not in EXAMPLES]
    notes = [f"Layers: {', '.join(tried)}."] + ([f"Not tried: {', '.join(untried)}."] if untried else [])
    return HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def main() -> int:
    registry = Registry.load(discover=False)
    rows = [check(fmt, registry) for fmt in builtin_formats()]
    TARGET.write_text(page(rows, registry))
    problems = [f"{row.format.name}: {problem}" for row in rows for problem in row.problems]
    sys.stdout.write("\n".join([f"{TARGET}: {len(rows)} formats, {len(problems)} problems", *problems]) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
