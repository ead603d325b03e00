"""Two tables of docs/reference/checkpoints.md: what recipes become, and how to get ModelOpt's algorithms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mtcore.export import ExporterSpec, choose_target
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.plan.rules import RuleBook
from mtcore.plugins import Registry
from mtcore.recipe import load_config
from mtcore.recipe.setting import QuantizeConfig
from mtopt_hf.ct.scheme import scheme_of
from mtopt_hf.gptq.spelling import SPELLINGS as GPTQ
from mtopt_hf.lint.config import DEFAULT_GROUP
from mtopt_hf.modelopt.scheme import algo_of
from mtopt_hf.modelopt.scheme import spelling_of as modelopt_of
from mtopt_hf.same import same_when_stored
from mtopt_hf.served import Stored, support

LINEAR, ATTENTION = "model.layers.0.mlp.experts.0.up_proj", "model.layers.0.self_attn"
"""Names that every recipe with a rule on some layers has one for."""


@dataclass(frozen=True)
class Algorithm:
    """A `quant_algo` of ModelOpt, and a run that writes it: `--recipe RECIPE --set SETTING --dialect modelopt`."""

    name: str
    recipe: str
    setting: str = ""
    why: str = ""

    @property
    def kind(self) -> str:
        """The name under which lint knows it."""
        return self.name.upper()

    @property
    def clients(self) -> tuple[str, ...]:
        """Who runs it, as lint says."""
        if self.kind == "MIXED_PRECISION":
            return ("vllm", "trtllm", "sglang")
        group = {"W4A8_NVFP4_FP8": 32}.get(self.kind, DEFAULT_GROUP.get(self.kind))
        stored = Stored("modelopt", self.kind, {"group_size": group})
        return tuple(name for name in ("vllm", "trtllm", "sglang") if support(name, stored).runs)


_STAYS = "where a scale of an input can be folded nowhere; else the scales are gone and the word is without AWQ"

ALGORITHMS = (
    Algorithm("FP8", "fp8"),
    Algorithm("FP8_PER_CHANNEL_PER_TOKEN", "fp8_row"),
    Algorithm("fp8_pb_wo", "fp8_block_weight_only", why="`FP8_PB_WO`, in lower case on the disk"),
    Algorithm("NVFP4", "nvfp4"),
    Algorithm("NVFP4_AWQ", "nvfp4", "algorithm=awq", _STAYS),
    Algorithm("NVFP4_SVD", "nvfp4_svdquant"),
    Algorithm("W4A16_NVFP4", "nvfp4_weight_only"),
    Algorithm("W4A8_NVFP4_FP8", "nvfp4_b32_fp8", why="blocks of 32; `nvfp4_fp8` has blocks of 16, which none runs"),
    Algorithm("MXFP8", "mxfp8"),
    Algorithm("mxfp4", "mxfp4", why="and `mxfp4_weight_only`; servers read it in compressed-tensors"),
    Algorithm("W4A8_MXFP4_FP8", "mxfp4", "rules.0.input=fp8"),
    Algorithm("W4A16_AWQ", "int4_weight_only", "algorithm=awq", "also without AWQ, under the same word"),
    Algorithm("W4A8_AWQ", "int4_fp8", "algorithm=awq", "also without AWQ, under the same word"),
    Algorithm("W8A8_SQ_PER_CHANNEL", "int8_static", "algorithm=smoothquant", "for TensorRT Edge-LLM"),
    Algorithm("W8A16", "int8_weight_only"),
    Algorithm(
        "MIXED_PRECISION",
        "nvfp4",
        'rules.+={modules: "*self_attn*", weight: fp8, input: fp8}',
        "any recipe with several formats; layers that a server joins have one",
    ),
)

ALGORITHM_HEAD = """
## ModelOpt's algorithms

`mtopt quantize MODEL --recipe RECIPE --set SETTING --dialect modelopt` writes each; `config.json` and
`hf_quant_config.json` say the same, from one value. Who runs it is what `mtopt lint` says.

| `quant_algo` | recipe | setting | runs in | |
|---|---|---|---|---|
"""

RECIPE_HEAD = """
## What each recipe becomes

The word that a dialect has for it, where it has one; and the targets of `mtopt export --to` that take it. A recipe
that no target takes is for models in memory; `mtopt plan --to` says so before a run.

| recipe | compressed-tensors | modelopt | fp8 | awq | gptq | targets |
|---|---|---|---|---|---|---|
"""


def algorithm_rows() -> Iterator[str]:
    """A row for every algorithm."""
    for one in ALGORITHMS:
        runs = ", ".join(one.clients) or "none of the four"
        setting = f"`{one.setting}`" if one.setting else ""
        yield f"| `{one.name}` | `{one.recipe}` | {setting} | {runs} | {one.why} |"


def recipe_rows(registry: Registry, clients: tuple[str, ...]) -> Iterator[str]:
    """A row for every recipe that quantizes something."""
    for name in sorted(registry.recipes):
        plan = plan_of(load_config(name, formats=registry.formats, recipes=registry.recipes))
        if not plan.quantized:
            continue
        words = [_word(registry.exporters, dialect, plan) for dialect in _WORDS]
        targets = [client for client in clients if not choose_target(client, plan, registry.exporters).problems]
        yield f"| `{name}` | {' | '.join(words)} | {', '.join(targets) or 'none'} |"


def plan_of(config: QuantizeConfig) -> Plan:
    """A plan with one layer and one attention, decided by a recipe."""
    book = RuleBook(config.rules)
    rank = 32 if any(step.method == "svdquant" for step in config.algorithm) else 0
    shapes = (("weight", (256, 256)),)
    both = _slots(book, LINEAR, "nn.Linear", ("weight", "input"))
    cache = _slots(book, ATTENTION, "attention", ("k", "v"))
    linear = ModulePlan(LINEAR, "Linear", "nn.Linear", shapes, both, "", low_rank=rank)
    attention = ModulePlan(ATTENTION, "LlamaAttention", "attention", (), cache, "")
    return Plan(config.name, (linear, attention), (), (), (), Coverage(1, 1, 0))


def _slots(book: RuleBook, module: str, kind: str, names: tuple[str, ...]) -> tuple[SlotPlan, ...]:
    found = []
    for name in names:
        setting = book.decide(module, name, is_weight=name == "weight", module_type=kind).setting
        found += [SlotPlan(name, setting.format, setting.mode, "recipe")] if setting is not None else []
    return tuple(found)


def _word(exporters: Mapping[str, ExporterSpec], dialect: str, plan: Plan) -> str:
    if exporters[dialect].problems(plan):
        return "-"
    return f"`{_WORDS[dialect](plan.modules[0])}`"


def _modelopt(module: ModulePlan) -> str:
    weight = module.slot("weight")
    assert weight is not None
    return algo_of(modelopt_of(weight, module.slot("input")), module)


def _ct(module: ModulePlan) -> str:
    weight = module.slot("weight")
    assert weight is not None
    return scheme_of(weight, module.slot("input")).layout


def _gptq(module: ModulePlan) -> str:
    weight = module.slot("weight")
    assert weight is not None
    return next(one.version for one in GPTQ if same_when_stored(one.weight, weight.format))


_WORDS = {
    "compressed-tensors": _ct,
    "modelopt": _modelopt,
    "fp8": lambda _: "weight_scale_inv",
    "awq": lambda _: "gemm",
    "gptq": _gptq,
}
