"""What the assembly that decodes weights of 4 bits computes, worked out on a CPU: every code with every scale."""

import operator
import re

import pytest
import torch

from mtcore.backends import format_key, reference
from mtcore.formats.catalog import INT4_B128, NVFP4
from mtopt_kernels.device import int4, nvfp4
from mtopt_kernels.prepack import prepack_int4, prepack_nvfp4

WORD = 0xFFFFFFFF
FLOATS = {"bf16x2": torch.bfloat16, "f16x2": torch.float16}


def pairs(words, dtype):
    """[…, 2] of the floats in the low and high halves of words."""
    halves = torch.stack((words & 0xFFFF, words >> 16), -1)
    return torch.where(halves >= 2**15, halves - 2**16, halves).to(torch.int16).view(dtype)


def on_floats(function, kind):
    """An operation on the two floats of each word, each rounded once."""

    def on_words(a, b):
        halves = function(*torch.broadcast_tensors(pairs(a, FLOATS[kind]), pairs(b, FLOATS[kind])))
        bits = halves.contiguous().view(torch.int16).long() & 0xFFFF
        return bits[..., 0] | bits[..., 1] << 16

    return on_words


INSTRUCTIONS = {
    "and.b32": operator.and_,
    "or.b32": operator.or_,
    "add.u32": lambda a, b: (a + b) & WORD,
    "shl.b32": lambda a, by: (a << by) & WORD,
    "shr.b32": lambda a, by: a >> by,
    "shf.l.wrap.b32": lambda low, high, by: ((high << by) | (low >> (32 - by))) & WORD,
    "lop3.b32": lambda a, b, c, table: {0xEA: (a & b) | c}[int(table)],
    **{f"mul.rn.{kind}": on_floats(operator.mul, kind) for kind in FLOATS},
    **{f"sub.rn.{kind}": on_floats(operator.sub, kind) for kind in FLOATS},
}


def registers_after(ptx, registers):
    """Run instructions without jumps on registers, int64 tensors of bits by name; unknown names are errors."""

    def value(name):
        return torch.tensor(int(name, 0)) if name[0].isdigit() else registers[name]

    registers = dict(registers)
    for name, rest in re.findall(r"([a-z][\w.]*) ([^;]+);", re.sub(r"\.reg [^;]+;", "", ptx)):
        to, *operands = re.findall(r"\{[^}]*\}|[^, ]+", rest)
        if name != "mov.b32":
            registers[to] = INSTRUCTIONS[name](*map(value, operands))
        elif to.startswith("{"):
            low, high = re.findall(r"\w+", to)
            registers |= {low: value(operands[0]) & 0xFFFF, high: value(operands[0]) >> 16}
        elif operands[0].startswith("{"):
            low, high = re.findall(r"\w+", operands[0])
            registers[to] = value(low) | value(high) << 16
        else:
            registers[to] = value(operands[0])
    return registers


def in_order(results, dtype):
    """[16 tiles, 128] of a decoder's eight results for all words [tiles, lower row, g, t, h], as of a weight."""
    found = pairs(torch.stack(results, -1), dtype)  # [tile, lower row, g, t, h, block, side]
    return found.permute(0, 1, 2, 5, 4, 3, 6).reshape(-1, 128)


@pytest.mark.parametrize(("decoder", "dtype", "lift"), [
    (nvfp4.DECODER, torch.bfloat16, nvfp4.LIFT), (nvfp4.HALF_DECODER, torch.float16, nvfp4.HALF_LIFT),
], ids=["bf16", "fp16"])  # fmt: skip
def test_nvfp4_decodes_every_code_with_every_scale_exactly(decoder, dtype, lift):
    row = torch.arange(128)
    codes = (row[:, None] + row) % 16
    qdata = (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)
    scale = row.clamp(max=126).to(torch.uint8).view(torch.float8_e4m3fn)[:, None].repeat(1, 8)  # 127 is NaN
    words, scale_words = prepack_nvfp4(qdata, scale)
    words = words[0].view(8, 2, 8, 4, 2, 2).long() & WORD  # [tile, lower row, g, t, h, i]
    scales = scale_words[0].view(8, 8, 2, 2).long() & WORD  # [tile, g, lower row, i]
    scales = scales.permute(0, 2, 1, 3)[:, :, :, None, None].expand(words.shape)
    given = {"$8": words[..., 0], "$9": words[..., 1], "$10": scales[..., 0], "$12": scales[..., 1]}
    after = registers_after(decoder.value, given)
    found = in_order([after[f"${block}"] for block in range(8)], dtype)
    expected = reference.dequantize(qdata, scale, torch.ones(()), 128, torch.float32, format_key(NVFP4))
    assert torch.equal(found.double() * lift.value, expected.double())


@pytest.mark.parametrize(("decoder", "dtype"), [
    (int4.DECODER, torch.bfloat16), (int4.HALF_DECODER, torch.float16)
], ids=["bf16", "fp16"])  # fmt: skip
def test_int4_decodes_every_code_exactly(decoder, dtype):
    row = torch.arange(128)
    codes = (row[:, None] + row) % 16
    qdata = (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)
    words, _ = prepack_int4(qdata, torch.ones(128, 1))
    words = words[0].view(8, 2, 8, 4, 2, 2).long() & WORD
    after = registers_after(decoder.value, {"$8": words[..., 0], "$9": words[..., 1]})
    found = in_order([after[f"${group}"] for group in range(8)], dtype)
    expected = reference.dequantize(qdata, torch.ones(128, 1), None, 128, torch.float32, format_key(INT4_B128))
    assert torch.equal(found.float(), expected)
