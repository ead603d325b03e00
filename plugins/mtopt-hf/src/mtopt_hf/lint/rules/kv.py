"""Rules on the KV cache: what is declared, in words that the client knows, with scales that it finds."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.lint import EVERYONE, Checkpoint, Hit, RuleSpec
from mtopt_hf.lint.config import in_config, in_file, mapping, text
from mtopt_hf.lint.view import Module, view_of

_SERVERS = ("vllm", "trtllm", "sglang")


def _holders(checkpoint: Checkpoint) -> list[tuple[Module, str]]:
    """Modules with a cache scale, and which of the two."""
    modules = view_of(checkpoint).modules.values()
    return [(module, local) for module in modules for local in ("k_scale", "v_scale") if local in module.parts]


def _declared(checkpoint: Checkpoint) -> object:
    inline, file = in_config(checkpoint), in_file(checkpoint)
    for says in (inline, file):
        found = says.body.get("kv_cache_quant_algo") if says.nested else says.body.get("kv_cache_scheme")
        if found:
            return found
    return None


def _static(checkpoint: Checkpoint) -> bool:
    """Whether scales are promised: modelopt writes none for casts, compressed-tensors then says dynamic."""
    found = mapping(_declared(checkpoint))
    return view_of(checkpoint).says.method == "compressed-tensors" and bool(found) and found.get("dynamic") is False


def missing(checkpoint: Checkpoint) -> Iterator[Hit]:
    if _static(checkpoint) and checkpoint.tensors and not _holders(checkpoint):
        why = "static cache scales are declared, but no k_scale or v_scale is there: servers take 1.0"
        yield Hit(view_of(checkpoint).says.file, why, "calibrate the cache, or declare it dynamic")


def half(checkpoint: Checkpoint) -> Iterator[Hit]:
    names: dict[str, set[str]] = {}
    for module, local in _holders(checkpoint):
        attention = module.name.removesuffix(".k_proj").removesuffix(".v_proj")
        names.setdefault(attention, set()).add(local)
    for attention, found in names.items():
        if len(found) == 1:
            other = {"k_scale": "v_scale", "v_scale": "k_scale"}[next(iter(found))]
            why = f"it has {next(iter(found))} but no {other}: servers use the one for both"
            yield Hit(attention, why, f"write {other}")


def undeclared(checkpoint: Checkpoint) -> Iterator[Hit]:
    holders = _holders(checkpoint)
    if (
        holders
        and not _declared(checkpoint)
        and view_of(checkpoint).says.method in ("compressed-tensors", "modelopt")
    ):
        why = "cache scales are there, but no KV format is declared: the cache stays in bf16 and they are not used"
        yield Hit(holders[0][0].name, why, "declare kv_cache_scheme (and kv_cache_quant_algo)")


def words(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    found = _declared(checkpoint)
    if not found or says.method not in ("compressed-tensors", "modelopt"):
        return
    scheme = mapping(found)
    fp8 = scheme.get("num_bits") == 8 and scheme.get("type") == "float"
    if says.method == "compressed-tensors":
        if not fp8 or scheme.get("strategy") not in ("tensor", "attn_head") or scheme.get("symmetric") is False:
            yield Hit(
                says.file, f"kv_cache_scheme {_brief(found)}: they run FP8 by tensor or head only, and raise", "FP8"
            )
        return
    known = (
        fp8
        or text(found).upper() in ("FP8", "NVFP4")
        or (scheme.get("num_bits") == 4 and scheme.get("type") == "float")
    )
    if not known:
        why = f"the KV format {_brief(found)} is in no form that servers know: the cache stays in bf16"
        yield Hit(says.file, why, "write FP8 (and num_bits 8, type float in config.json)")


def flat_nvfp4(checkpoint: Checkpoint) -> Iterator[Hit]:
    """TensorRT-LLM reads KV formats other than FP8 from hf_quant_config.json only."""
    inline = in_config(checkpoint)
    scheme = inline.body.get("kv_cache_scheme")
    other = bool(scheme) and mapping(scheme).get("num_bits") != 8
    if inline.method == "modelopt" and not inline.nested and other and in_file(checkpoint).method != "modelopt":
        why = "it reads this KV format from hf_quant_config.json only, which is missing: the cache stays in bf16"
        yield Hit("config.json", why, "write hf_quant_config.json as well")


def shape(checkpoint: Checkpoint) -> Iterator[Hit]:
    strategy = mapping(_declared(checkpoint)).get("strategy")
    for module, local in _holders(checkpoint):
        tensor = module.parts[local]
        if tensor.count != 1 and not (strategy == "attn_head" and tensor.shape[1:] in ((1, 1), ())):
            why = f"it has shape {list(tensor.shape)}; servers take one value, or one a head"
            yield Hit(tensor.name, why, "write one value")


def place(checkpoint: Checkpoint) -> Iterator[Hit]:
    """Model-Optimizer puts cache scales into the projections, compressed-tensors into the attention."""
    method = view_of(checkpoint).says.method
    for module, local in _holders(checkpoint):
        inside = module.name.endswith((".k_proj", ".v_proj"))
        wrong = (method == "compressed-tensors" and inside) or (
            method == "modelopt" and inside and not module.name.endswith(f".{local[0]}_proj")
        )
        if wrong:
            why = f"clients of {method} do not look for {local} there"
            yield Hit(f"{module.name}.{local}", why, "write it where the dialect has it")


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) < 90 else shown[:87] + "…"


RULES = (
    RuleSpec("kv-missing", "declared static cache scales are there", dict.fromkeys(_SERVERS, "warning"), missing),
    RuleSpec("kv-half", "k_scale and v_scale come together", dict.fromkeys(_SERVERS, "warning"), half),
    RuleSpec("kv-undeclared", "cache scales are declared", dict.fromkeys(_SERVERS, "warning"), undeclared),
    RuleSpec(
        "kv-words",
        "the KV format is one that servers know",
        {"vllm": "error", "sglang": "error", "trtllm": "error"},
        words,
    ),
    RuleSpec("kv-file", "the KV format stands where it is read", {"trtllm": "warning"}, flat_nvfp4),
    RuleSpec("kv-shape", "a cache scale is one value", {EVERYONE: "error"}, shape),
    RuleSpec("kv-place", "cache scales have the names of the dialect", {EVERYONE: "error"}, place),
)
