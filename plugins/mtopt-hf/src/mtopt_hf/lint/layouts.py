"""The table of layouts: for each way of storing a linear layer, its tensors with their dtypes and shapes.

Facts: the writers' and readers' sources (Model-Optimizer 0.47, compressed-tensors 0.20, vLLM 0.32, TensorRT-LLM's
linear loader). Shapes are of a weight with `o` output and `i` input features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mtopt_hf.lint.config import Scheme

Shape = tuple[int, ...]
FLOATS = ("F32", "BF16", "F16")
E8M0 = ("U8", "F8_E8M0")


@dataclass(frozen=True)
class Want:
    """One tensor of a layout.

    Attributes:
        dtypes: any of these.
        shapes: allowed shapes, from (o, i).
        needed: whether clients need it.
    """

    dtypes: tuple[str, ...]
    shapes: Callable[[int, int], tuple[Shape, ...]]
    needed: bool = True


@dataclass(frozen=True)
class Layout:
    """How a linear layer is stored.

    Attributes:
        main: local name of the tensor with the codes.
        size: shape of that tensor → (o, i).
        wants: by local name.
        block: input features must be a multiple of it.
        axes: of that tensor.
    """

    main: str
    size: Callable[[Shape], tuple[int, int]]
    wants: Mapping[str, Want]
    block: int = 1
    axes: int = 2

    def features(self, shape: Shape) -> tuple[int, int] | None:
        """(o, i) of the layer whose `main` has this shape; None where it has another number of axes."""
        return self.size(shape) if len(shape) == self.axes else None


def _scalar(o: int, i: int) -> tuple[Shape, ...]:
    return ((), (1,))


def _column(o: int, i: int) -> tuple[Shape, ...]:
    return ((o, 1), (o,))


def _same(o: int, i: int) -> tuple[Shape, ...]:
    return ((o, i),)


def _halves(o: int, i: int) -> tuple[Shape, ...]:
    return ((o, i // 2),)


def _features(o: int, i: int) -> tuple[Shape, ...]:
    return ((i,),)


def _groups(size: int) -> Callable[[int, int], tuple[Shape, ...]]:
    return lambda o, i: ((o, -(-i // size)),)


def _blocks(rows: int, cols: int) -> Callable[[int, int], tuple[Shape, ...]]:
    return lambda o, i: ((-(-o // rows), -(-i // cols)),)


def _plain_size(shape: Shape) -> tuple[int, int]:
    return shape[0], shape[1]


def _half_size(shape: Shape) -> tuple[int, int]:
    return shape[0], 2 * shape[1]


_F32_SCALAR = Want(("F32",), _scalar)
_ANY_SCALAR = Want(FLOATS, _scalar)
_PRE = Want(FLOATS, _features)


_STACKED_MXFP4 = Layout(
    "blocks",
    lambda shape: (shape[1], 32 * shape[2]),
    {"blocks": Want(("U8",), lambda o, i: ()), "scales": Want(("U8",), lambda o, i: ())},
    axes=4,
)
"""Of E experts: blocks [E, o, i / 32, 16] and scales [E, o, i / 32]; the rule `expert-blocks` compares them."""


def layout_of(method: str, scheme: Scheme) -> Layout | None:
    """The layout of a scheme; None where it is not known here."""
    if method == "compressed-tensors":
        return _compressed_tensors(scheme)
    if method == "modelopt":
        return _modelopt(scheme)
    if method == "fp8":
        return _deepseek(scheme)
    if method in ("gptq", "awq"):
        return _int4(method, scheme)
    if method == "mxfp4":
        return _STACKED_MXFP4
    return None


def _strategy(scheme: Scheme) -> Callable[[int, int], tuple[Shape, ...]]:
    block = scheme.weights.get("block_structure")
    match scheme.weights.get("strategy"):
        case "tensor":
            return _scalar
        case "group" if scheme.group:
            return _groups(scheme.group)
        case "block" if _is_pair(block):
            return _blocks(*block)  # type: ignore[misc]
    return _column


def _is_pair(block: object) -> bool:
    return isinstance(block, list) and len(block) == 2 and all(type(n) is int and n > 0 for n in block)


def _static(scheme: Scheme, local: str, want: Want) -> dict[str, Want]:
    return {local: want} if scheme.static_input else {}


def _compressed_tensors(scheme: Scheme) -> Layout | None:
    match scheme.kind:
        case "nvfp4":
            wants = {
                "weight_packed": Want(("U8",), _halves),
                "weight_scale": Want(("F8_E4M3",), _groups(16)),
                "weight_global_scale": _F32_SCALAR,
            }
            if scheme.inputs is not None and scheme.inputs.get("dynamic") is not True:
                wants["input_global_scale"] = _F32_SCALAR
            return Layout("weight_packed", _half_size, wants, 16)
        case "mxfp4":
            wants = {"weight_packed": Want(("U8",), _halves), "weight_scale": Want(E8M0, _groups(32))}
            return Layout("weight_packed", _half_size, wants | _static(scheme, "input_scale", _ANY_SCALAR), 32)
        case "mxfp6":
            codes = Want(("U8",), lambda o, i: ((o, i * 6 // 8),))
            wants = {"weight_packed": codes, "weight_scale": Want(E8M0, _groups(32))}
            return Layout("weight_packed", lambda shape: (shape[0], shape[1] * 8 // 6), wants, 32)
        case "mxfp8":
            wants = {"weight": Want(("F8_E4M3",), _same), "weight_scale": Want(E8M0, _groups(32))}
            return Layout("weight", _plain_size, wants, 32)
        case "fp8" | "int8":
            dtype = "F8_E4M3" if scheme.kind == "fp8" else "I8"
            wants = {"weight": Want((dtype,), _same), "weight_scale": Want(FLOATS, _strategy(scheme))}
            wants |= _static(scheme, "input_scale", _ANY_SCALAR)
            if scheme.static_input and scheme.inputs and scheme.inputs.get("symmetric") is False:
                wants["input_zero_point"] = Want(("I8", "I32", "U8"), _scalar)
            return Layout("weight", _plain_size, wants, scheme.group or 1)
        case "pack" if scheme.bits in range(2, 9):
            return _packed(scheme)
    return None


def _packed(scheme: Scheme) -> Layout:
    """Codes packed densely along a row, and zero points along a column: ceil(n·bits/32) words for n of them."""
    bits, scale = scheme.bits, _strategy(scheme)

    def words(count: int) -> int:
        return -(-count * bits // 32)

    wants = {
        "weight_packed": Want(("I32",), lambda o, i: ((o, words(i)),)),
        "weight_scale": Want(FLOATS, scale),
        "weight_shape": Want(("I64", "I32"), lambda o, i: ((2,),)),
    }
    if scheme.weights.get("symmetric") is False:
        wants["weight_zero_point"] = Want(
            ("I32", "I8"), lambda o, i: tuple((words(o), *shape[1:]) for shape in scale(o, i) if len(shape) == 2)
        )
    if scheme.weights.get("actorder") in ("group", "static_group"):
        wants["weight_g_idx"] = Want(("I32", "I64"), _features, needed=scheme.weights.get("actorder") == "group")
    block = 1 if 32 % bits else scheme.group or 1  # else the words do not tell how many columns there are
    return Layout("weight_packed", lambda shape: (shape[0], shape[1] * 32 // bits), wants, block)


def _modelopt(scheme: Scheme) -> Layout | None:
    codes4, codes8 = Want(("U8",), _halves), Want(("F8_E4M3",), _same)
    block = Want(("F8_E4M3",), _groups(16))
    int4 = {
        "weight": Want(("U8", "I8"), lambda o, i: ((o // 2, i),)),
        "weight_scale": Want(FLOATS, _groups(scheme.group or 128)),
        "pre_quant_scale": Want(FLOATS, _features, needed=False),
    }

    def int4_size(shape: Shape) -> tuple[int, int]:
        return 2 * shape[0], shape[1]

    nvfp4 = {"weight": codes4, "weight_scale": block, "weight_scale_2": _F32_SCALAR}
    match scheme.kind:
        case "NVFP4":
            return Layout("weight", _half_size, nvfp4 | {"input_scale": _F32_SCALAR}, 16)
        case "NVFP4_AWQ":
            wants = nvfp4 | {"input_scale": _F32_SCALAR, "pre_quant_scale": Want(FLOATS, _features, needed=False)}
            return Layout("weight", _half_size, wants, 16)
        case "NVFP4_SVD":
            lora = Want(FLOATS, lambda o, i: (), needed=False)
            wants = nvfp4 | {"input_scale": _F32_SCALAR, "svdquant_lora_a": lora, "svdquant_lora_b": lora}
            return Layout(
                "weight", _half_size, wants | {"pre_quant_scale": Want(FLOATS, _features, needed=False)}, 16
            )
        case "W4A16_NVFP4":
            return Layout("weight", _half_size, nvfp4, 16)
        case "W4A8_NVFP4_FP8":
            size = scheme.group or 16
            scales = {"weight_scale": Want(("F8_E4M3",), _groups(size)), "input_scale": _F32_SCALAR}
            return Layout("weight", _half_size, nvfp4 | scales, size)
        case "FP8":
            wants = {"weight": codes8, "weight_scale": _F32_SCALAR, "input_scale": _F32_SCALAR}
            return Layout("weight", _plain_size, wants)
        case "FP8_PER_CHANNEL_PER_TOKEN":
            return Layout("weight", _plain_size, {"weight": codes8, "weight_scale": Want(("F32",), _column)})
        case "FP8_PB_WO":
            blocks = Want(("F32",), lambda o, i: ((-(-o // 128), 1, -(-i // 128), 1), (-(-o // 128), -(-i // 128))))
            return Layout("weight", _plain_size, {"weight": codes8, "weight_scale": blocks}, 128)
        case "MXFP8":
            return Layout("weight", _plain_size, {"weight": codes8, "weight_scale": Want(E8M0, _groups(32))}, 32)
        case "MXFP4":
            return Layout("weight", _half_size, {"weight": codes4, "weight_scale": Want(E8M0, _groups(32))}, 32)
        case "W4A8_MXFP4_FP8":
            wants = {"weight": codes4, "weight_scale": Want(E8M0, _groups(32)), "input_scale": _F32_SCALAR}
            return Layout("weight", _half_size, wants, 32)
        case "W4A16_AWQ":
            return Layout("weight", int4_size, int4, scheme.group or 128)
        case "W4A8_AWQ":
            wants = int4 | {"weight_scale_2": _F32_SCALAR, "input_scale": _F32_SCALAR}
            return Layout("weight", int4_size, wants, scheme.group or 128)
        case "W8A8_SQ_PER_CHANNEL":
            wants = {
                "weight": Want(("I8",), _same),
                "weight_scale": Want(FLOATS, _column),
                "input_scale": _ANY_SCALAR,
            }
            return Layout("weight", _plain_size, wants | {"pre_quant_scale": Want(FLOATS, _features, needed=False)})
        case "W8A16":
            return Layout(
                "weight", _plain_size, {"weight": Want(("I8",), _same), "weight_scale": Want(FLOATS, _column)}
            )
    return None


def _deepseek(scheme: Scheme) -> Layout:
    block = scheme.weights.get("block_structure")
    wants = {"weight": Want(("F8_E4M3",), _same)}
    if _is_pair(block):
        wants["weight_scale_inv"] = Want(("F32", "BF16", *E8M0), _blocks(*block))  # type: ignore[misc]
    else:
        wants["weight_scale"] = Want(FLOATS, lambda o, i: (*_scalar(o, i), *_column(o, i)))
    return Layout("weight", _plain_size, wants | _static(scheme, "input_scale", _ANY_SCALAR))


def _int4(method: str, scheme: Scheme) -> Layout | None:
    bits, group = scheme.bits, scheme.group
    if bits not in (2, 3, 4, 8):
        return None

    def words(count: int) -> int:
        return -(-count * bits // 32)

    def rows(i: int) -> int:
        return 1 if group is None else -(-i // group)

    wants = {
        "qzeros": Want(("I32",), lambda o, i: ((rows(i), words(o)),)),
        "scales": Want(FLOATS, lambda o, i: ((rows(i), o),)),
    }
    if method == "gptq":
        wants["qweight"] = Want(("I32",), lambda o, i: ((words(i), o),))
        wants["g_idx"] = Want(("I32",), _features, needed=False)
        return Layout("qweight", lambda shape: (shape[1], shape[0] * 32 // bits), wants, group or 1)
    wants["qweight"] = Want(("I32",), lambda o, i: ((i, words(o)),))
    return Layout("qweight", lambda shape: (shape[1] * 32 // bits, shape[0]), wants, group or 1)
