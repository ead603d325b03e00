"""Writes what vLLM is to serve: a checkpoint for every model and format, with our log-probabilities beside it.

    python bench/clients/vllm_write.py DIRECTORY [--models "dense;MoE"] [--formats "FP8 static;AWQ"]

`reference.json` in each holds the prompts, the log-probabilities of the fake-quantized model in fp32, bf16, fp16,
those of what vLLM computes instead where that is another thing (vllm_cases.py), those of the model that is not
quantized, and what `mtopt lint --client vllm` says beforehand.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from clients_models import GEMMA, MODELS, ODD_MODELS, save_source
from torch import Tensor, nn
from vllm_cases import CASES, FP8_QUERIES, INSTEAD, Case

from mtcore.errors import MtcoreError
from mtcore.export import UnifiedExporter
from mtcore.flow import load_checkpoint
from mtcore.flow.precision import restore_dtypes, widen_on_cpu
from mtcore.lint import lint, open_checkpoint
from mtcore.nn import QuantModule, TensorQuantizer
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan, plan_model, quantized_of, to_artifact
from mtopt_hf.quiet import quiet_transformers

TOKENS, PROMPTS = 96, 4
E4M3 = torch.finfo(torch.float8_e4m3fn)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OLDER = ("older-vllm", "kv-dense-qwen")
"""Rules that tell of versions before the one that lint knows."""
Spread = dict[str, list[float]]
"""Log-probabilities by the dtype that they were computed in."""


def write(folder: Path, models: list[str], formats: list[str]) -> None:
    """Everything that is asked for; what cannot be written is noted in its place."""
    with quiet_transformers(), tempfile.TemporaryDirectory() as work:
        for model in models:
            source, prompts = save_source(model, Path(work) / model, PROMPTS, TOKENS)
            if model == GEMMA:
                source = decoded(source, Path(work) / "gemma")
            for form, case in cases_of(model):
                if form not in formats:
                    continue
                out = folder / re.sub(r"\W+", "-", f"{model}_{form}")
                facts: dict[str, Any] = {"model": model, "format": form, "prompts": prompts}
                try:
                    facts |= quantize(source, case, out, prompts) | {"lint": linted(out)}
                except MtcoreError as error:
                    out.mkdir(parents=True, exist_ok=True)
                    facts["why"] = f"{type(error).__name__}: {error}"[:400]
                (out / "reference.json").write_text(json.dumps(facts))
                print(f"{model}, {form}: {facts.get('why', facts.get('lint'))}", flush=True)


def decoded(source: Path | str, folder: Path) -> Path:
    """A GGUF file as a checkpoint in bf16, since to decode it takes longer than all that follows."""
    model = load_checkpoint(str(source)).model.bfloat16()
    model.config.quantization_config = model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    return folder


def cases_of(model: str) -> Iterator[tuple[str, Case]]:
    """The formats for a model; Gemma has those of dense models."""
    name = "dense" if model == GEMMA else model
    return ((form, case) for form, case in CASES.items() if name in case.models)


def quantize(source: Path | str, case: Case, out: Path, prompts: list[list[int]]) -> dict[str, Any]:
    """Write `out`; log-probabilities of the quantized model, of what vLLM makes of it, and of the original."""
    loaded = load_checkpoint(str(source))
    dtypes = widen_on_cpu(loaded.model)
    found: dict[str, Any] = {"plain": log_probabilities(loaded.model, prompts).tolist()}
    model = _applied(loaded.model, case.recipe, prompts, case.dialect)
    exporter = UnifiedExporter(default_registry().exporters)
    exporter.export(restore_dtypes(to_artifact(model, loaded.files), dtypes), out, case.dialect, overwrite=True)
    instead: dict[str, Any] = dict.fromkeys((case.instead or {}).values())
    found["reference"] = in_every_dtype(model, prompts)
    for name in instead:
        recipe = {"FP8 blocks": "fp8_block", "queries too": {"include": [case.recipe], "rules": [FP8_QUERIES]}}
        again = load_checkpoint(str(source)).model
        widen_on_cpu(again)
        other = _applied(again, recipe.get(name, case.recipe), prompts)
        if name.endswith("weights only"):
            _leave_inputs(other, only_4_bits=name.startswith("4-bit"))
        elif name == "cache toward zero":
            _cache_toward_zero(other)
        instead[name] = in_every_dtype(other, prompts)
    found["instead"] = {
        device: [name, INSTEAD[name], instead[name]] for device, name in (case.instead or {}).items()
    }
    return found


def _applied(model: nn.Module, recipe: Any, prompts: list[list[int]], dialect: str = "") -> nn.Module:
    batches = [{"input_ids": torch.tensor(prompts)}]
    plan = plan_model(model, recipe, inputs=batches[0])
    if dialect:
        UnifiedExporter(default_registry().exporters).check(plan, dialect)
    return apply_plan(model, plan, batches)


def _leave_inputs(model: nn.Module, *, only_4_bits: bool) -> None:
    """Switch off the quantizers of inputs, of layers with 4-bit weights or of all."""
    for planned in quantized_of(model).plan.quantized:
        module = model.get_submodule(planned.name)
        assert isinstance(module, QuantModule)
        quantizers = [one for _, one in module.quantizers()]
        if not only_4_bits or any(one.is_weight and one.format.element.bits == 4 for one in quantizers):
            for one in quantizers:
                if not one.is_weight:
                    one.disable()


class TowardZero(nn.Module):
    """Rounds keys or values to FP8 as vLLM 0.32 does on a CPU: toward zero, under the scale of `quantizer`."""

    def __init__(self, quantizer: TensorQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        scale = self.quantizer.qparams(x).scale.reshape(())
        exact = (x.float() / scale).clamp(-E4M3.max, E4M3.max)
        codes = exact.to(torch.float8_e4m3fn)
        inward = (codes.view(torch.uint8) - 1).view(torch.float8_e4m3fn)  # one step nearer to zero
        rounded = torch.where(codes.float().abs() > exact.abs(), inward.float(), codes.float())
        return (rounded * scale).to(x.dtype)


def _cache_toward_zero(model: nn.Module) -> None:
    for planned in quantized_of(model).plan.quantized:
        module = model.get_submodule(planned.name)
        assert isinstance(module, QuantModule)
        for slot, quantizer in list(module.quantizers()):
            if slot in ("k", "v"):
                module.add_module(module.slots[slot], TowardZero(quantizer))
            elif slot == "q":
                quantizer.disable()


def in_every_dtype(model: nn.Module, prompts: list[list[int]]) -> Spread:
    """Of the model with its parameters in each dtype; scales stay in fp32, as a server has them."""
    kept = {name: parameter.data for name, parameter in model.named_parameters()}
    found = {}
    for name, dtype in DTYPES.items():
        for key, parameter in model.named_parameters():
            parameter.data = kept[key].to(dtype)
        found[name] = log_probabilities(model, prompts).tolist()
    for key, parameter in model.named_parameters():
        parameter.data = kept[key]
    return found


def log_probabilities(model: nn.Module, prompts: list[list[int]]) -> Tensor:
    """Of every token but the first of each prompt, one after the other: fp32 [tokens]."""
    ids = torch.tensor(prompts)
    with torch.inference_mode():
        spread = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
    return spread.gather(2, ids[:, 1:, None]).flatten()


def linted(folder: Path) -> dict[str, Any]:
    """Whether vLLM will load a checkpoint, and what there is to say about it: rules and reasons."""
    registry = default_registry()
    report = lint(open_checkpoint(folder), [registry.clients["vllm"]], registry.lint_rules.values())
    said = {
        f"{one.severity} {one.rule}": one.why
        for one in report.findings
        if one.severity != "note" or one.rule in OLDER
    }
    return {"loads": report.loads("vllm"), "says": said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default=";".join((*MODELS, *ODD_MODELS)), help="names, a semicolon between two")
    parser.add_argument("--formats", default=";".join(CASES), help="likewise")
    options = parser.parse_args()
    write(options.folder, options.models.split(";"), options.formats.split(";"))


if __name__ == "__main__":
    main()
