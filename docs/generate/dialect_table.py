"""Writes docs/reference/checkpoints.md: every dialect, the pairs of formats that it has, and who runs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe_rows import ALGORITHM_HEAD, RECIPE_HEAD, algorithm_rows, recipe_rows

from mtcore.export import ExporterSpec
from mtcore.formats import TensorFormat
from mtcore.formats.catalog import MXFP4
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.plugins import Registry
from mtcore.recipe.setting import Mode
from mtopt_hf.autoawq.spelling import SPELLINGS as AWQ
from mtopt_hf.ct.spelling import SPELLINGS as CT
from mtopt_hf.exporters import exporters
from mtopt_hf.fp8.spelling import SPELLINGS as FP8
from mtopt_hf.gptq.spelling import SPELLINGS as GPTQ
from mtopt_hf.modelopt.spelling import SPELLINGS as MODELOPT

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "reference" / "checkpoints.md"
RESULTS = ROOT / "bench" / "results"
CLIENTS = ("vllm", "sglang", "hf", "trtllm")

HEAD = """# Checkpoints

`docs/generate/dialect_table.py` wrote this page from the tables that the exporters use.

```text
mtopt quantize MODEL --recipe nvfp4 --calib corpus.txt --dialect artifact -o ART
mtopt export ART --to vllm,trtllm -o OUT
```

An artifact holds codes, scales and the plan, in no program's layout. `mtopt export` writes it for any number of
targets, with neither the model nor the data: dialects by name, or clients, which stand for the first dialect that
can hold the plan and that they run. What a target refuses is said with the layers and the rule, and keeps no other
from being written. A killed export goes on where it was.

| target | dialects, the first that will do |
|---|---|
"""

TABLE = """
## What each dialect holds

Formats that store the same codes under the same scales share a row: where an amax lands is the writer's business.
*yes* means that the client may be given this dialect for the pair, *no* that it does not run it, and a blank that
it is never given the dialect when its name is the target. The rules of vLLM 0.32, SGLang 0.5 and TensorRT-LLM 1.x
were read in their sources, and SGLang's reading of configurations was [run](clients.md#sglang); transformers 5.23
with compressed-tensors 0.20 (`hf`) was run. What vLLM did on a GPU
was [measured](clients-gpu.md).

| dialect | weights | inputs | as | vllm | sglang | hf | trtllm |
|---|---|---|---|---|---|---|---|
"""

REST = """
Beside linear layers, stacked experts are written one by one under the hub's names, each with scales of its own.
Where the hub itself keeps all experts in one tensor (Granite-MoE, Llama 4), they are written as `gate_proj`,
`up_proj` and `down_proj` of each one, as vLLM 0.32 and llm-compressor have them; `mtopt_hf.quantizer` merges them
again. Which half is the gate is found by running it: a very negative gate lets nothing through, also where halves
are clamped or capped first (MiniMax-M3, Inkling2). transformers alone opens those of Llama 4, which it takes apart
itself; of all others the target `hf` says that it does not. Experts with biases and interleaved halves are written
in MXFP4, as gpt-oss is published, in a dialect of their own (`mxfp4`, recipe `mxfp4_experts_only`), which
transformers opens with our logits bit for bit; vLLM 0.24 [serves it](clients-gpu.md) on an H100. In other formats
they are refused before the run, and so are stacks with other parameters, such as the parallel experts of JetMoE and
Inkling's shared experts; the message has the rule that leaves them out.

A KV cache in FP8 or NVFP4 goes into compressed-tensors and modelopt, always that of all layers. vLLM and SGLang
run compressed-tensors' in FP8 only, and so are given NVFP4 in modelopt; transformers runs both. A cache that is
only cast (`amax: 448` in a [recipe](recipes.md)) has the scales of this amax, 1.0 in FP8. Queries
beside the cache in its own format go into compressed-tensors, in FP8 into modelopt (`q_scale`, for vLLM). What else
attention quantizes, such as the softmax, has no place in any dialect: it is left out, and `mtopt plan` says so.

modelopt also carries scales of a layer's input (`pre_quant_scale`: NVFP4_AWQ, W4A16_AWQ, W4A8_AWQ, INT8) and
low-rank branches (NVFP4_SVD).

AutoAWQ and GPTQ store scales as fp16, which moves each weight by up to 2^-11 of itself; scales that fp16 cannot
hold are refused with the layer. All other dialects store what the artifact holds, bit for bit, but for NVFP4 in
compressed-tensors, whose outer scale is a reciprocal.

transformers runs stacked experts in `fp8`, `fp8_row`, `mxfp4`, `mxfp6_e2m3` and symmetric integers only, all in one
format; the target `hf` says so. [What it computes from every recipe](clients-transformers.md).

## Beside nvidia-modelopt's own export

`bench/compare_export.py`: the same weights, the same data, both with `max`; tensors compared bit for bit.

| configuration | tensors equal | explained | unexplained |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One pair of formats in a dialect, and what the dialect calls it."""

    dialect: str
    weight: TensorFormat
    input: TensorFormat | None
    mode: Mode | None
    word: str


def rows() -> Iterator[Row]:
    """Every pair of every dialect."""
    for one in CT:
        if one.layout_alone is not None:
            yield Row("compressed-tensors", one.format, None, None, one.layout_alone)
        for given in CT:
            for mode in given.activation if given.family in one.layout else ():
                yield Row("compressed-tensors", one.format, given.format, mode, one.layout[given.family])
    for spelling in MODELOPT:
        yield Row("modelopt", spelling.weight, spelling.input, spelling.mode, spelling.algo)
    for tiles in FP8:
        yield Row("fp8", tiles.weight, tiles.input, tiles.mode, "weight_scale_inv")
    yield Row("mxfp4", MXFP4, None, None, "blocks and scales of gpt-oss's experts")
    for groups in AWQ:
        yield Row("awq", groups.weight, None, None, "gemm")
    for words in GPTQ:
        yield Row("gptq", words.weight, None, None, words.version)


def plan_of(row: Row) -> Plan:
    """A plan with one layer of this pair."""
    slots = [SlotPlan("weight", row.weight, "static", "the table")]
    slots += [SlotPlan("input", row.input, row.mode, "the table")] if row.input is not None and row.mode else []
    module = ModulePlan("layer", "Linear", "nn.Linear", (("weight", (256, 256)),), tuple(slots), "the table")
    if row.dialect == "mxfp4":
        module = _experts(row)
    return Plan("table", (module,), (), (), (), Coverage(1, 1, 0))


def _experts(row: Row) -> ModulePlan:
    """Stacked experts as gpt-oss has them."""
    shapes = {"gate_up_proj": (2, 256, 512), "gate_up_proj_bias": (2, 512)}
    shapes |= {"down_proj": (2, 256, 256), "down_proj_bias": (2, 256)}
    matrices = ("gate_up_proj", "down_proj")
    slots = tuple(SlotPlan(name, row.weight, "static", "the table") for name in matrices)
    facts = tuple((name, (2,)) for name in matrices)
    return ModulePlan("experts", "Experts", "experts", tuple(shapes.items()), slots, "the table", facts=facts)


def said(row: Row, client: str, specs: dict[str, ExporterSpec]) -> str:
    """Whether the client is given the dialect for this pair, and runs it."""
    plan, spec = plan_of(row), specs[row.dialect]
    assert not spec.check(plan), f"{row}: the table has what the check refuses"
    own = next((offer for offer in spec.clients if offer.name == client), None)
    if own is None:
        return ""
    return "no" if own.check(plan) else "yes"


def folded(lines: list[tuple[str, str, str, str, tuple[str, ...]]]) -> Iterator[str]:
    """Lines of the table, those that differ in the weight's name alone joined to one."""
    joined: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for dialect, weight, given, word, verdicts in lines:
        joined.setdefault((dialect, given, word, verdicts), []).append(f"`{weight}`")
    for (dialect, given, word, verdicts), weights in joined.items():
        cells = (dialect, ", ".join(weights), given, f"`{word}`", *verdicts)
        yield f"| {' | '.join(cells)} |"


def build() -> str:
    """The page."""
    specs = {spec.name: spec for spec in exporters()}
    lines = []
    for row in rows():
        given = "-" if row.input is None else f"`{row.input.name}`, {row.mode}"
        verdicts = tuple(said(row, client, specs) for client in CLIENTS)
        lines.append((row.dialect, row.weight.name, given, row.word, verdicts))
    page = HEAD + "".join(f"| {client} | {_offers(client, specs)} |\n" for client in CLIENTS)
    registry = Registry.load()
    page += RECIPE_HEAD + "".join(f"{line}\n" for line in recipe_rows(registry, CLIENTS))
    page += ALGORITHM_HEAD + "".join(f"{line}\n" for line in algorithm_rows())
    page += TABLE + "".join(f"{line}\n" for line in folded(lines)) + REST
    page += "".join(f"{line}\n" for line in _compared(json.loads((RESULTS / "compare_export.json").read_text())))
    speed = json.loads((RESULTS / "export_speed.json").read_text())
    return page + _speed(speed)


def _offers(client: str, specs: dict[str, ExporterSpec]) -> str:
    offers = [(offer.rank, spec.name, offer.why) for spec in specs.values() for offer in spec.clients]
    names = [(spec.name, offer.name) for spec in specs.values() for offer in spec.clients]
    chosen = sorted(offer for offer, (_, name) in zip(offers, names, strict=True) if name == client)
    return "; ".join(f"{dialect}: {why}" for _, dialect, why in chosen)


def _compared(results: dict[str, Any]) -> Iterator[str]:
    for row in results["rows"]:
        why = "; ".join(f"{count} {reason}" for reason, count in row["explained"].items()) or "-"
        yield f"| {row['config']} | {row['equal']} | {why} | {len(row['unexplained'])} |"


def _speed(results: dict[str, Any]) -> str:
    head = f"""
## How long an export takes

`bench/export_speed.py`, on two cores ({results["machine"]}) with no other work: an
export, from the artifact on the disk to the checkpoint on the disk, over `safetensors.torch.save_file` of the same
bytes from memory, which is flushed too. Layouts that pack codes anew pay for that; a second thread packs while the
first one writes, which needs a core that is free. The fastest of {results["rows"][0]["rounds"]} rounds each are
compared, and the median of the rounds. Weight files are written past the system's cache, through two small buffers.
The aim is 1.2; AWQ and GPTQ miss it, for they turn the place of every code.

| case | MB | clock, fastest | clock, median | processor, fastest |
|---|---|---|---|---|
"""
    lines = (
        f"| {row['case']} | {row['bytes'] / 1e6:.0f} | {row['fastest_ratio']:.2f} | {row['ratio']:.2f} | "
        f"{row['cpu_fastest_ratio']:.2f} |"
        for row in results["rows"]
    )
    return head + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(TARGET.write_text(build(), encoding="utf-8") == 0)
