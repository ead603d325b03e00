"""NVFP4 weights times one vector on tensor cores: the scales multiply sums of a block instead of its weights.

A product of a tensor core has room for 8 vectors. One vector fills it as 8, each zero but in one scale block of a
chunk of 128 columns: after 8 products, of 16 columns each, the sums of vector n are block n's share, and its scale
multiplies that. So a weight is decoded by the shift that brings its code into place, and nothing else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, from_bits
from mtopt_kernels.device.nvfp4 import moved_codes, pair_slowly

RAISED = tl.constexpr(2.0**64)
"""What the vector is multiplied by, since decoded codes are 2^-126 of their values: sums stay far from the ends of
fp32."""
REST = tl.constexpr(2.0**-50)
"""What sums lack of their value: 2^126 of the codes, less 2^64 of the vector and 2^112 of the scales."""


def _columns() -> str:
    """PTX for the 8 right factors of a chunk.

    $0…$15: two registers a block, for columns 2 t and 2 t + 1 and those 8 further on; in lane 4 g + t zero but for
    block g. $16, $17: the pairs of the vector that belong there.
    """
    lines = [
        ".reg .b32 lane, up, a, b; .reg .pred is;",
        "mov.u32 lane, %laneid; shr.u32 lane, lane, 2; mov.b32 up, 0x5F805F80;",  # 2^64 twice
        "mul.rn.bf16x2 a, $16, up; mul.rn.bf16x2 b, $17, up;",
    ]
    for block in range(8):
        lines += [
            f"setp.eq.u32 is, lane, {block};",
            f"selp.b32 ${2 * block}, a, 0, is; selp.b32 ${2 * block + 1}, b, 0, is;",
        ]
    return "{ " + " ".join(lines) + " }"


def _products() -> str:
    """PTX for a tile of 16 rows and a chunk: the thread's sums of blocks 2 t and 2 t + 1, with their scales.

    $0…$3: new sums (row g, block 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1). $4…$7: the words of row g,
    $8…$11: of row g + 8. $12: a word of scales. $13…$28: what `_columns` made. $29…$32: the sums until now. $33:
    which lane this is, as the tensors' places say: where it is another, sums become NaN.
    """
    lines = [
        ".reg .b32 lane, from, t, u, a<4>; .reg .f32 c<4>, s; .reg .pred astray;",
        "mov.f32 c0, 0f00000000; mov.f32 c1, c0; mov.f32 c2, c0; mov.f32 c3, c0;",
    ]
    for block in range(8):
        i, place = divmod(block, 4)
        for register, word in enumerate((4 + i, 8 + i, 6 + i, 10 + i)):
            lines.append(moved_codes(f"a{register}", f"${word}", place))
        lines.append(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c0, c1, c2, c3}, {a0, a1, a2, a3}, "
            f"{{${13 + 2 * block}, ${14 + 2 * block}}}, {{c0, c1, c2, c3}};"
        )
    lines.append("mov.u32 lane, %laneid; and.b32 u, lane, 1; shl.b32 u, u, 4; bfe.u32 from, lane, 1, 1;")
    for row in range(2):  # the word with scales of blocks 2 t and 2 t + 1 is in lane 4 g + 2 row + t / 2
        lines += ["or.b32 from, from, 2;"] * row
        lines.append("shfl.sync.idx.b32 t, $12, from, 0x1C1F, 0xFFFFFFFF; shr.u32 t, t, u;")
        for side, shift in enumerate((20, 12)):
            lines += [
                f"shl.b32 a0, t, {shift}; lop3.b32 a0, a0, 0x0FF00000, 0x70000000, 0xEA; mov.b32 s, a0;",
                f"fma.rn.f32 ${2 * row + side}, c{2 * row + side}, s, ${29 + 2 * row + side};",
            ]
    lines.append("setp.ne.u32 astray, lane, $33;")
    lines += [f"selp.f32 ${row}, 0f7FC00000, ${row}, astray;" for row in (0, 2)]
    return "{ " + " ".join(lines) + " }"


COLUMNS = tl.constexpr(_columns())
PRODUCTS = tl.constexpr(_products())
COLUMNS_CONSTRAINTS = tl.constexpr(",".join(["=r"] * 16 + ["r"] * 2))
PRODUCTS_CONSTRAINTS = tl.constexpr(",".join(["=&f"] * 4 + ["r"] * 25 + ["f"] * 4 + ["r"]))


@triton.jit
def columns_of(first, second):
    """The 8 right factors of a chunk, a tuple of 16 [warps, 32].

    Args:
        first, second: pairs of the vector as words [warps, 32], at lane 4 g + t columns 2 t and 2 t + 1 of block g,
            and those 8 further on.
    """
    if INTERPRETED:
        return first, second
    return tl.inline_asm_elementwise(
        COLUMNS, COLUMNS_CONSTRAINTS, [first, second], dtype=(tl.int32,) * 16, is_pure=True, pack=1
    )


@triton.jit
def chunk_sums(words, scales, columns, lane, sums):
    """A tile's sums with those of one more chunk a warp, a tuple of 4 [warps, 32]: see `_products`.

    Args:
        words: [2 warps, 128], first the upper rows of all warps: as `prepack_nvfp4` lays them out.
        scales: likewise [warps, 32].
        columns: of the vector, see `columns_of`.
        lane: 0 to 31, [1, 32].
        sums: until now.
    """
    WARPS: tl.constexpr = scales.shape[0]
    # [lower row, warp, lane, h, i] -> [warp, lane, lower row, i, h]
    words = tl.permute(tl.reshape(words, (2, WARPS, 32, 2, 2)), (1, 2, 0, 4, 3))
    first, second = tl.split(words)
    first_low, first_high = tl.split(first)
    second_low, second_high = tl.split(second)
    u0, l0 = tl.split(first_low)
    u1, l1 = tl.split(first_high)
    u2, l2 = tl.split(second_low)
    u3, l3 = tl.split(second_high)
    if INTERPRETED:
        return sums_slowly(((u0, u1, u2, u3), (l0, l1, l2, l3)), scales, columns, sums)
    return tl.inline_asm_elementwise(
        PRODUCTS,
        PRODUCTS_CONSTRAINTS,
        (u0, u1, u2, u3, l0, l1, l2, l3, scales) + columns + sums + (lane,),  # noqa: RUF005 - Triton knows no *
        dtype=(tl.float32,) * 4,
        is_pure=True,
        pack=1,
    )


@triton.jit
def sums_slowly(rows, scales, columns, sums):
    """What `_products` makes, by operations that the interpreter knows; columns are the pairs of the vector."""
    WARPS: tl.constexpr = scales.shape[0]
    first_scales, second_scales = tl.split(tl.reshape(scales, (WARPS, 8, 2, 2)))  # of blocks 0 to 3, 4 to 7
    g, t = tl.arange(0, 8)[None, :, None], tl.arange(0, 4)[None, None, :]
    new = ()
    for lower in tl.static_range(2):
        even, odd = sums[2 * lower], sums[2 * lower + 1]
        for block in tl.static_range(8):
            total = tl.zeros((WARPS, 8), tl.float32)
            for half in tl.static_range(2):
                codes = pair_slowly(rows[lower][2 * half + block // 4], block % 4)
                pairs = tl.reshape(columns[half], (WARPS, 8, 4))
                pair = tl.sum(tl.where(g == block, pairs, 0), axis=1)[:, None, :]  # lanes of group g have block g's
                x = from_bits(pair << 16) * RAISED, from_bits(pair & -0x10000) * RAISED
                for side in tl.static_range(2):
                    total += tl.sum(tl.reshape(codes[side], (WARPS, 8, 4)) * x[side], axis=2)
            both = first_scales if block < 4 else second_scales
            word = tl.split(both)[lower]
            scale = from_bits((((word >> (8 * (block % 4))) & 255) << 20) | 0x70000000)
            share = tl.reshape(tl.where(t == block // 2, (total * scale)[:, :, None], 0.0), (WARPS, 32))
            if block % 2:
                odd += share
            else:
                even += share
        new += (even, odd)
    return new
