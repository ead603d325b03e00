"""The quantization that a checkpoint declares, read from either JSON file of either dialect into one value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mtcore.lint import Checkpoint
from mtopt_hf.lint.names import is_of_experts
from mtopt_hf.served import Stored, kind_of

MODELOPT_FILE = "hf_quant_config.json"

Method = Literal["compressed-tensors", "modelopt", "fp8", "gptq", "awq", "mxfp4", "other", ""]
"""Dialects whose tensors are known here; "other" is one that is not, "" is none."""


@dataclass(frozen=True)
class Scheme:
    """How a layer is said to be stored.

    Attributes:
        kind: key of the layout: "nvfp4", "fp8", "pack" (compressed-tensors), a quant_algo (modelopt), a method.
        weights: the arguments of the weight.
        inputs: those of the input; None where it stays as it is.
        format: the dialect's word for the layout.
    """

    kind: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None
    format: str = ""

    @property
    def bits(self) -> int:
        return whole(self.weights.get("num_bits"), 8)

    @property
    def group(self) -> int | None:
        """Columns that share a scale; None where a scale has the whole row or more."""
        size = self.weights.get("group_size")
        return size if type(size) is int and size > 0 else None

    def stored(self, method: Method) -> Stored:
        """The scheme in a dialect, for the table of what clients run."""
        return Stored(method, self.kind, self.weights, self.inputs)

    @property
    def static_input(self) -> bool:
        return self.inputs is not None and self.inputs.get("dynamic", False) is False


@dataclass(frozen=True)
class Group:
    """A group of a compressed-tensors configuration: which modules, and how they are stored."""

    name: str
    targets: tuple[str, ...]
    scheme: Scheme


@dataclass(frozen=True, eq=False)
class Declared:
    """What one JSON file says.

    Attributes:
        method: of which dialect it is.
        word: the quant_method as it is written there.
        file: where it stands.
        body: the object that holds it: `quantization_config`, or what is inside `quantization`.
        nested: whether it has the shape of hf_quant_config.json.
        algo: upper-case quant_algo of the modelopt dialect.
        ignore: entries of modules that stay as they are.
        groups: of compressed-tensors.
        layers: of MIXED_PRECISION: module → scheme.
        everywhere: the scheme of all other linear layers; in mxfp4 that of stacked experts alone.
    """

    method: Method
    word: str = ""
    file: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    nested: bool = False
    algo: str = ""
    ignore: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    layers: Mapping[str, Scheme] = field(default_factory=dict)
    everywhere: Scheme | None = None

    def scheme_of(self, module: str) -> Scheme | None:
        """How a linear layer is said to be stored, whatever the ignore list says; None where nothing is said."""
        if self.groups:
            named = [group for group in self.groups if any(matches(entry, module) for entry in group.targets)]
            classes = [group for group in self.groups if "Linear" in group.targets]
            return next((group.scheme for group in (*named, *classes)), None)
        if self.algo == "MIXED_PRECISION":
            return self.layers.get(module)
        if self.method == "mxfp4" and not is_of_experts(module):
            return None
        return self.everywhere


def matches(entry: str, module: str) -> bool:
    """Whether an entry of a compressed-tensors list names a module: exactly, or as `re:` and a pattern from its
    start on. Class names are not looked at.

    Example:
        >>> matches("re:.*mlp", "model.layers.0.mlp.up_proj"), matches("model.layers.0", "model.layers.0.mlp")
        (True, False)
    """
    if not entry.startswith("re:"):
        return entry == module
    pattern = compiled(entry)
    return pattern is not None and pattern.match(module) is not None


_COMPILED: dict[str, re.Pattern[str] | None] = {}
_ENDLESS = re.compile(r"\([^()]*[*+][^()]*\)[*+{]")  # a repeat of a repeat can try every way to cut a name


def compiled(entry: str) -> re.Pattern[str] | None:
    """The pattern of a `re:` entry; None where it is none, or one that could take forever."""
    if entry not in _COMPILED:
        if len(_COMPILED) > 10_000:
            _COMPILED.clear()
        try:
            pattern = entry.removeprefix("re:")
            _COMPILED[entry] = None if _ENDLESS.search(pattern) else re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            _COMPILED[entry] = None
    return _COMPILED[entry]


def declared(checkpoint: Checkpoint) -> Declared:
    """What config.json says, or hf_quant_config.json where that says nothing."""
    inline = in_config(checkpoint)
    return inline if inline.method else in_file(checkpoint)


def in_config(checkpoint: Checkpoint) -> Declared:
    """What `quantization_config` of config.json says; that of a text part of the model where the whole has none."""
    config = checkpoint.config
    body = config.get("quantization_config")
    if body is None:
        body = mapping(config.get("text_config")).get("quantization_config")
    return _understood(mapping(body), "config.json")


def in_file(checkpoint: Checkpoint) -> Declared:
    """What hf_quant_config.json says."""
    return _understood(mapping(checkpoint.json(MODELOPT_FILE)), MODELOPT_FILE)


def _understood(body: Mapping[str, Any], file: str) -> Declared:
    if not body:
        return Declared("")
    word = text(body.get("quant_method")).lower()
    nested = isinstance(body.get("quantization"), Mapping)
    producer = text(mapping(body.get("producer")).get("name"))
    if word.startswith("modelopt") or (not word and (nested or producer == "modelopt")):
        return _modelopt(body, file, word, nested)
    if word in ("compressed-tensors", "compressed_tensors"):
        return _compressed_tensors(body, file, word)
    if word == "fp8":
        block = body.get("weight_block_size")
        static = body.get("activation_scheme") == "static"
        weights = {"num_bits": 8, "block_structure": block} if isinstance(block, list) else {"num_bits": 8}
        scheme = Scheme("fp8", weights, {"dynamic": not static})
        ignore = texts(body.get("modules_to_not_convert")) or texts(body.get("ignored_layers"))
        return Declared("fp8", word, file, body, ignore=ignore, everywhere=scheme)
    if word in ("gptq", "awq"):
        weights = {"num_bits": whole(body.get("bits"), 4), "group_size": whole(body.get("group_size"), 128)}
        ignore = texts(body.get("modules_to_not_convert"))
        ignore += tuple(f"re:{key[2:]}" for key in mapping(body.get("dynamic")) if key.startswith("-:"))
        method: Method = "gptq" if word == "gptq" else "awq"
        return Declared(method, word, file, body, ignore=ignore, everywhere=Scheme(word, weights))
    if word == "mxfp4":
        ignore = texts(body.get("modules_to_not_convert"))
        return Declared("mxfp4", word, file, body, ignore=ignore, everywhere=Scheme("mxfp4"))
    return Declared("other", word or "(none)", file, body)


def _modelopt(body: Mapping[str, Any], file: str, word: str, nested: bool) -> Declared:
    inner = mapping(body.get("quantization")) if nested else body
    algo = text(inner.get("quant_algo")).upper()
    size = inner.get("group_size")
    groups = [mapping(group) for group in mapping(inner.get("config_groups")).values()]
    if size is None:
        size = next((mapping(group.get("weights")).get("group_size") for group in groups), None)
    no_inputs = bool(groups) and all(
        "input_activations" in group and not group["input_activations"] for group in groups
    )
    layers = {}
    for name, layer in mapping(inner.get("quantized_layers")).items():
        own = mapping(layer)
        layers[name] = _algo_scheme(text(own.get("quant_algo")).upper(), own.get("group_size"))
    # vLLM takes NVFP4 without any quantized input for weight-only
    algo_kind = "W4A16_NVFP4" if algo == "NVFP4" and no_inputs else algo
    return Declared(
        "modelopt",
        word or "modelopt",
        file,
        inner,
        nested,
        algo,
        texts(inner.get("exclude_modules" if nested else "ignore")),
        layers=layers,
        everywhere=None if algo in ("", "MIXED_PRECISION") else _algo_scheme(algo_kind, size),
    )


DEFAULT_GROUP = {"NVFP4": 16, "W4A16_NVFP4": 16, "NVFP4_AWQ": 16, "NVFP4_SVD": 16, "W4A8_NVFP4_FP8": 16}
DEFAULT_GROUP |= {"MXFP8": 32, "MXFP4": 32, "W4A8_MXFP4_FP8": 32, "W4A16_AWQ": 128, "W4A8_AWQ": 128}


def _algo_scheme(algo: str, size: Any) -> Scheme:
    algo = "FP8_PB_WO" if algo == "FP8_BLOCK_SCALES" else algo
    group = whole(size, DEFAULT_GROUP.get(algo, 0)) or DEFAULT_GROUP.get(algo, 0)
    return Scheme(algo, {"group_size": group} if group else {})


def is_of_attention(group: Mapping[str, Any]) -> bool:
    """Whether a group of a configuration is on the queries of an attention class, as vLLM tells: by its name."""
    targets = group.get("targets")
    if not isinstance(targets, list | tuple) or len(targets) != 1:
        return False
    return str(targets[0]).endswith("Attention") and not group.get("weights")


def _compressed_tensors(body: Mapping[str, Any], file: str, word: str) -> Declared:
    outer = text(body.get("format"))
    groups = []
    for name, raw in mapping(body.get("config_groups")).items():
        group = mapping(raw)
        if is_of_attention(group):
            continue
        weights = mapping(group.get("weights"))
        inputs = group.get("input_activations")
        inputs = mapping(inputs) if isinstance(inputs, Mapping) and inputs else None
        form = text(group.get("format")) or outer
        groups.append(
            Group(name, texts(group.get("targets")), Scheme(kind_of(weights, form), weights, inputs, form))
        )
    return Declared("compressed-tensors", word, file, body, ignore=texts(body.get("ignore")), groups=tuple(groups))


def mapping(value: object) -> Mapping[str, Any]:
    """The value, or an empty mapping where it is none: a damaged file must not stop a linter."""
    return value if isinstance(value, Mapping) else {}


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def texts(value: object) -> tuple[str, ...]:
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()


def whole(value: object, default: int) -> int:
    return value if type(value) is int else default
