"""The two JSON descriptions of a checkpoint, made from one value so that they cannot disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtcore.formats import TensorFormat
from mtcore.plan import SlotPlan
from mtopt_hf.checkpoint.dialect import Contents, Description
from mtopt_hf.modelopt.scheme import algo_of, spelling_of
from mtopt_hf.modelopt.spelling import CACHE, MIXED, Spelling
from mtopt_hf.same import same_when_stored

METHOD = "modelopt"
FILE = "hf_quant_config.json"
PRODUCER = {"name": "modelopt", "version": "0.47.0"}
"""Clients know the dialect by this name; the version is that of the layout which is written."""

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Quantization:
    """What both descriptions say.

    Attributes:
        entry: quant_algo and what belongs to it, of all layers; MIXED alone where they differ.
        layers: entry of each layer by name, where they differ; else empty.
        groups: for readers who look at bits and not at names: each entry with an example of its slots.
        exclude: exact names of what stays.
        cache: the value of kv_cache_quant_algo, or None.
    """

    entry: Entry
    layers: Mapping[str, Entry]
    groups: tuple[tuple[Entry, SlotPlan, SlotPlan | None, tuple[str, ...]], ...]
    exclude: tuple[str, ...]
    cache: str | None

    def nested(self) -> dict[str, Any]:
        """The content of hf_quant_config.json."""
        quantization: dict[str, Any] = {**self.entry, "kv_cache_quant_algo": self.cache}
        quantization |= {"quantized_layers": dict(self.layers)} if self.layers else {}
        return {"producer": PRODUCER, "quantization": {**quantization, "exclude_modules": list(self.exclude)}}

    def flat(self) -> dict[str, Any]:
        """The `quantization_config` of config.json."""
        config: dict[str, Any] = {"quant_method": METHOD, **self.entry, "ignore": list(self.exclude)}
        if self.layers:
            config["quantized_layers"] = dict(self.layers)
        if self.layers or all(spelling_of(weight, given).grouped for _, weight, given, _ in self.groups):
            config["config_groups"] = {
                f"group_{index}": {
                    "input_activations": None if given is None else _bits(given),
                    "weights": _bits(weight),
                    "targets": ["Linear"] if not self.layers else list(names),
                }
                for index, (_, weight, given, names) in enumerate(self.groups)
            }
        if self.cache == "FP8":
            config["kv_cache_scheme"] = {"dynamic": False, "num_bits": 8, "type": "float"}
        elif self.cache is not None:
            config["kv_cache_scheme"] = self.cache
        return {**config, "producer": PRODUCER}


def describe(contents: Contents) -> Description:
    """Both descriptions; they are written from one value."""
    value = quantization_of(contents)
    return Description({**contents.missing_dtype, "quantization_config": value.flat()}, {FILE: value.nested()})


def quantization_of(contents: Contents) -> Quantization:
    """What the descriptions of these contents say."""
    entries: dict[str, Entry] = {}
    groups: dict[str, tuple[Entry, SlotPlan, SlotPlan | None, list[str]]] = {}
    algos = [algo_of(spelling_of(layer.weight, layer.input), layer.pair.module) for layer in contents.layers]
    for layer in contents.layers:
        entry = entry_of(spelling_of(layer.weight, layer.input), algos)
        entries[layer.name] = entry
        groups.setdefault(repr(entry), (entry, layer.weight, layer.input, []))[3].append(layer.name)
    mixed = len(groups) > 1
    first: Entry = next(iter(entries.values()), {"quant_algo": None})
    return Quantization(
        {"quant_algo": MIXED} if mixed else first,
        entries if mixed else {},
        tuple((entry, weight, given, tuple(names)) for entry, weight, given, names in groups.values()),
        contents.ignore,
        None if contents.cache is None else _cache(contents.cache),
    )


def entry_of(spelling: Spelling, algos: Sequence[str]) -> Entry:
    """What both descriptions say about a layer of this spelling in a model with layers of these algorithms.

    Where some layers hold a scale or a branch, all of their spelling are labelled so: those without one had it
    folded away, and a server that fuses layers wants one label.
    """
    algo = next((a for a in (spelling.branched_algo, spelling.scaled_algo) if a in algos), spelling.algo)
    entry: dict[str, Any] = {"quant_algo": algo}
    if spelling.group_size is not None:
        entry["group_size"] = spelling.group_size
    if spelling.smoothed or (algo != spelling.algo):
        entry |= {"has_zero_point": False, "pre_quant_scale": True}
    return entry


def _bits(slot: SlotPlan) -> dict[str, Any]:
    fmt = slot.format
    kind = "int" if "int" in fmt.element.name else "float"
    bits: dict[str, Any] = {"dynamic": slot.mode == "dynamic", "num_bits": fmt.element.bits, "type": kind}
    wide = fmt.block.cols
    return {**bits, "group_size": wide} if wide > 1 and fmt.block.rows == 1 else bits


def _cache(fmt: TensorFormat) -> str:
    return next(name for name, known in CACHE.items() if same_when_stored(known, fmt))
