"""Rules on what the two JSON files say: a dialect and formats that the client reads, and one story in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mtcore.lint import EVERYONE, Checkpoint, Hit, RuleSpec, Severity
from mtopt_hf.lint.config import (
    MODELOPT_FILE,
    Declared,
    Scheme,
    compiled,
    in_config,
    in_file,
    mapping,
    matches,
    text,
    whole,
)
from mtopt_hf.lint.view import view_of
from mtopt_hf.served import support

CONFIG = "config.json"
CLIENTS = ("vllm", "trtllm", "transformers", "sglang")


def no_config(checkpoint: Checkpoint) -> Iterator[Hit]:
    if not (checkpoint.folder / CONFIG).exists():
        yield Hit(CONFIG, "it is missing; every client starts with it", "copy it from the original model")
    elif checkpoint.config and not text(checkpoint.config.get("model_type")):
        yield Hit(
            CONFIG, "it names no model_type, so no client knows the architecture", "copy it from the original"
        )


def undeclared(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if not view.says.method and view.quantized:
        first = view.quantized[0]
        why = f"{len(view.quantized)} modules have codes or scales, but no JSON file says how they are quantized"
        yield Hit(first.name, f"{why}; clients take codes for values", "write quantization_config")


def nothing_quantized(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method not in ("", "other") and not view.quantized and checkpoint.tensors:
        why = f"it says {view.says.word}, but no tensor is quantized; clients then wait for scales that never come"
        yield Hit(view.says.file, why, "remove quantization_config, or write the quantized tensors")


def unknown_method(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method == "other":
        why = f"quant_method {says.word!r} is not known to this linter; only files, scales and roles were looked at"
        yield Hit(says.file, why, "check the client's own documentation")


def silent_in_transformers(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method == "modelopt":
        why = "quant_method modelopt is unknown to it: it warns, and takes codes for values"
        kinds = {module.scheme.kind for module in view.quantized if module.scheme is not None}
        if kinds <= _ONE_CODE_A_BYTE:
            then = "the logits are wrong without an error"
        else:
            then = "it raises for the shapes of packed codes, and with ignore_mismatched_sizes makes weights up"
        yield Hit(view.says.file, f"{why}; {then}", "write or convert to compressed-tensors for it")


_ONE_CODE_A_BYTE = frozenset(
    {"FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "MXFP8", "W8A8_SQ_PER_CHANNEL", "W8A16"}
)
"""Algorithms of modelopt whose codes have the shape of the weight."""


def client_refuses(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    says = view.says
    for scheme in _schemes(says):
        for client in CLIENTS:
            if client == "transformers" and says.method == "modelopt":
                continue  # said by the rule on silent loading
            found = support(client, scheme.stored(says.method))
            if found.runs is False:
                yield Hit(
                    says.file, f"{_called(scheme)}: {found.how}", "choose another format or dialect", (client,)
                )


def client_unverified(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    for scheme in _schemes(says):
        for client in CLIENTS:
            if scheme.kind != "unknown" and support(client, scheme.stored(says.method)).runs is None:
                why = f"{_called(scheme)} of {says.word}: whether this client reads it was not found out"
                yield Hit(says.file, why, "try it before you rely on it", (client,))


def _schemes(says: Declared) -> list[Scheme]:
    every = [group.scheme for group in says.groups] or list(says.layers.values())
    every += [says.everywhere] if says.everywhere is not None else []
    return list({(scheme.kind, repr(scheme.inputs), repr(scheme.weights)): scheme for scheme in every}.values())


def _called(scheme: Scheme) -> str:
    if "num_bits" not in scheme.weights:
        return scheme.kind or "(no algorithm)"
    inputs = "unquantized inputs" if scheme.inputs is None else f"inputs by {scheme.inputs.get('strategy')}"
    return f"{scheme.kind}, {scheme.bits} bit by {scheme.weights.get('strategy', 'group')}, {inputs}"


def algo_missing(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method == "modelopt" and not says.algo:
        yield Hit(says.file, "it has no quant_algo", "write the algorithm, NVFP4 for instance")


def nested_form(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method != "modelopt" or not says.nested:
        return
    if says.algo in ("MXFP8", "W4A16_NVFP4", "MIXED_PRECISION"):
        why = f"{says.algo} is read from the flat form in config.json only; the nested form raises"
        yield Hit(says.file, why, "write quantization_config in config.json as well")
    missing = [key for key in ("group_size", "kv_cache_quant_algo", "exclude_modules") if key not in says.body]
    if says.algo == "NVFP4" and missing:
        why = f"the nested form of NVFP4 must have {', '.join(missing)}"
        yield Hit(says.file, why, "write them, or quantization_config in config.json")


def two_files(checkpoint: Checkpoint) -> Iterator[Hit]:
    inline, file = in_config(checkpoint), in_file(checkpoint)
    if inline.method != "modelopt" or file.method != "modelopt":
        return
    wins = "vLLM and SGLang follow config.json, TensorRT-LLM follows hf_quant_config.json"
    for what, here, there in _differences(inline, file):
        why = f"{what} is {_short(here)} in config.json and {_short(there)} there; {wins}"
        yield Hit(MODELOPT_FILE, why, "write one story in both")


def _differences(inline: Declared, file: Declared) -> Iterator[tuple[str, object, object]]:
    if inline.algo != file.algo:
        yield "quant_algo", inline.algo, file.algo
    here, there = (says.everywhere.group if says.everywhere else None for says in (inline, file))
    if here != there:
        yield "group_size", here, there
    if _kv(inline) != _kv(file):
        yield "the format of the KV cache", _kv(inline), _kv(file)
    if set(inline.ignore) != set(file.ignore):
        yield "the list of modules left alone", sorted(inline.ignore), sorted(file.ignore)
    if {name: scheme.kind for name, scheme in inline.layers.items()} != {
        name: scheme.kind for name, scheme in file.layers.items()
    }:
        yield "quantized_layers", len(inline.layers), len(file.layers)


def _kv(says: Declared) -> str | None:
    if says.nested:
        return text(says.body.get("kv_cache_quant_algo")).upper() or None
    scheme = says.body.get("kv_cache_scheme")
    if isinstance(scheme, str):
        return scheme.upper() or None
    bits = mapping(scheme).get("num_bits")
    return {8: "FP8", 4: "NVFP4"}.get(whole(bits, 0)) if scheme else None


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) < 80 else shown[:77] + "…"


def flat_group_size(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = in_config(checkpoint)
    alone = in_file(checkpoint).method != "modelopt"
    grouped = says.everywhere is not None and says.everywhere.group is not None and "group_size" not in says.body
    if says.method == "modelopt" and not says.nested and alone and grouped:
        why = "it reads group_size at the top level of the flat form, where it is missing, and there is no "
        yield Hit(CONFIG, f"{why}{MODELOPT_FILE}", f"write group_size there, or {MODELOPT_FILE}")


def mixed_layers(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.algo != "MIXED_PRECISION":
        return
    if not view.says.layers:
        why = "MIXED_PRECISION without quantized_layers: no client knows which layer has which format"
        yield Hit(view.says.file, why, "write quantized_layers")
    for name in view.says.layers:
        if checkpoint.tensors and name not in view.modules:
            yield Hit(name, "quantized_layers names it, but no tensor of it is there", "correct the name")


def mixed_unlisted(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.algo == "MIXED_PRECISION" and view.says.layers:
        for module in view.quantized:
            if module.name not in view.says.layers:
                why = "it is stored quantized, but quantized_layers does not list it; its codes load as values"
                yield Hit(module.name, why, "add it to quantized_layers")


def format_word(checkpoint: Checkpoint) -> Iterator[Hit]:
    for group in view_of(checkpoint).says.groups:
        scheme = group.scheme
        right = _right_words(scheme)
        if right and scheme.format not in right:
            why = f"format {scheme.format!r} does not go with its {scheme.kind} weights: {' or '.join(right)} does"
            yield Hit(f"{CONFIG}: {group.name}", f"{why}; vLLM finds no scheme", "correct format")


def _right_words(scheme: Scheme) -> tuple[str, ...]:
    fixed = {
        "nvfp4": ("nvfp4-pack-quantized",),
        "mxfp4": ("mxfp4-pack-quantized",),
        "mxfp6": ("mxfp6-pack-quantized",),
        "mxfp8": ("mxfp8-quantized",),
        "fp8": ("float-quantized", "naive-quantized"),
        "int8": ("int-quantized", "naive-quantized"),
        "pack": ("pack-quantized",),
    }
    return fixed.get(scheme.kind, ())


def unknown_scheme(checkpoint: Checkpoint) -> Iterator[Hit]:
    for group in view_of(checkpoint).says.groups:
        if group.scheme.kind == "unknown":
            arguments = {
                key: group.scheme.weights.get(key) for key in ("type", "num_bits", "strategy", "group_size")
            }
            why = f"no client has a scheme for weights {arguments} in format {group.scheme.format!r}"
            yield Hit(f"{CONFIG}: {group.name}", why, "correct the arguments, or requantize")


def scheme_arguments(checkpoint: Checkpoint) -> Iterator[Hit]:
    sizes = {"nvfp4": 16, "mxfp4": 32, "mxfp6": 32, "mxfp8": 32}
    for group in view_of(checkpoint).says.groups:
        scheme, where = group.scheme, f"{CONFIG}: {group.name}"
        right = sizes.get(scheme.kind)
        if right is not None and scheme.group != right:
            why = f"{scheme.kind} has blocks of {right}, not group_size {scheme.weights.get('group_size')!r}"
            yield Hit(where, f"{why}; clients find no scheme", f"write group_size {right}")
        if scheme.kind in sizes and scheme.weights.get("symmetric") is False:
            yield Hit(where, f"{scheme.kind} is symmetric in every client", "write symmetric true")
        strategy = scheme.weights.get("strategy")
        if scheme.kind in ("pack", "int8") and strategy == "group" and scheme.group is None:
            yield Hit(where, "strategy group without a group_size", "write group_size")


def scale_dtype(checkpoint: Checkpoint) -> Iterator[Hit]:
    for group in view_of(checkpoint).says.groups:
        if group.scheme.kind == "mxfp8" and group.scheme.weights.get("scale_dtype") != "torch.uint8":
            why = "it knows MXFP8 by scale_dtype torch.uint8, which is missing"
            yield Hit(f"{CONFIG}: {group.name}", why, "write scale_dtype: torch.uint8")


def regex(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method != "compressed-tensors":
        return
    entries = [*says.ignore, *(target for group in says.groups for target in group.targets)]
    for entry in dict.fromkeys(entries):
        if entry.startswith("re:") and compiled(entry) is None:
            why = f"{entry!r} is no regular expression, or one that repeats a repeat and can take forever"
            yield Hit(CONFIG, why, "correct it")


def targets(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if not view.modules:
        return
    for group in view.says.groups:
        for target in group.targets:
            is_class = target.isidentifier() and target[:1].isupper()
            if not is_class and not any(matches(target, name) for name in view.modules):
                why = f"its target {target!r} matches no module of the files"
                yield Hit(f"{CONFIG}: {group.name}", why, "correct the name; clients compare whole names")
        if not group.targets:
            yield Hit(f"{CONFIG}: {group.name}", "it has no targets, so it concerns no layer", 'write ["Linear"]')


def no_group(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method != "compressed-tensors":
        return
    if not view.says.groups:
        yield Hit(CONFIG, "it has no config_groups, so clients quantize nothing", "write the groups")
        return
    for module in view.quantized:
        if module.scheme is None and any(part.startswith("weight") for part in module.parts):
            why = "it is stored quantized, but no group has it as a target; its codes load as values, or not at all"
            yield Hit(module.name, why, "add it to the targets of a group")


def status(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method == "compressed-tensors":
        found = says.body.get("quantization_status")
        if found not in ("compressed", None):
            why = f"quantization_status is {found!r}; it takes the file for one with float weights"
            yield Hit(CONFIG, why, 'write "compressed"')


def half_precision(checkpoint: Checkpoint) -> Iterator[Hit]:
    dtype = text(checkpoint.config.get("dtype")) or text(checkpoint.config.get("torch_dtype"))
    kinds = {group.scheme.kind for group in view_of(checkpoint).says.groups} & {"nvfp4", "mxfp4", "mxfp6", "mxfp8"}
    if kinds and dtype not in ("", "bfloat16", "torch.bfloat16"):
        what = ", ".join(sorted(kinds))
        why = f"compressed-tensors gives {what} weights in bf16; a model in {dtype} then fails in its first forward"
        yield Hit(CONFIG, why, "write dtype bfloat16, or load with dtype=torch.bfloat16")


_ALL: Mapping[str, Severity] = {EVERYONE: "error"}
RULES = (
    RuleSpec("config-missing", "config.json is there and names a model_type", _ALL, no_config),
    RuleSpec("undeclared", "quantized tensors are declared", _ALL, undeclared),
    RuleSpec("nothing-quantized", "what is declared quantized is", _ALL, nothing_quantized),
    RuleSpec("method-unknown", "the quant_method is known to this linter", {EVERYONE: "warning"}, unknown_method),
    RuleSpec(
        "modelopt-silent",
        "the modelopt dialect is not given to transformers",
        {"transformers": "error"},
        silent_in_transformers,
    ),
    RuleSpec("client-refuses", "the client runs the format", _ALL, client_refuses),
    RuleSpec(
        "client-unverified", "it is known whether the client runs the format", {EVERYONE: "note"}, client_unverified
    ),
    RuleSpec("algo-missing", "a modelopt configuration has a quant_algo", _ALL, algo_missing),
    RuleSpec("nested-form", "the nested form has what vLLM asks for", {"vllm": "error"}, nested_form),
    RuleSpec("two-files", "config.json and hf_quant_config.json agree", {EVERYONE: "warning"}, two_files),
    RuleSpec("flat-group-size", "group_size stands where it is read", {"trtllm": "warning"}, flat_group_size),
    RuleSpec("mixed-layers", "quantized_layers lists layers that are there", _ALL, mixed_layers),
    RuleSpec("mixed-unlisted", "quantized_layers lists every quantized layer", _ALL, mixed_unlisted),
    RuleSpec("format-word", "format goes with the weights", {EVERYONE: "error"}, format_word),
    RuleSpec("scheme-unknown", "the arguments of a group are those of a scheme", _ALL, unknown_scheme),
    RuleSpec("scheme-arguments", "group size and symmetry are those of the scheme", _ALL, scheme_arguments),
    RuleSpec("scale-dtype", "MXFP8 names its scale_dtype", {"vllm": "error"}, scale_dtype),
    RuleSpec("regex", "re: entries are regular expressions", _ALL, regex),
    RuleSpec("target-unmatched", "every target names a module", {"trtllm": "error", EVERYONE: "warning"}, targets),
    RuleSpec("target-missing", "every quantized module is a target", _ALL, no_group),
    RuleSpec("status", "quantization_status is compressed", {"transformers": "error", EVERYONE: "note"}, status),
    RuleSpec("bf16-only", "NVFP4 and MX formats come in a bf16 model", {"transformers": "error"}, half_precision),
)
