"""Checkpoints for vLLM, each with the log-probabilities that it should give and with the linter's word."""

from __future__ import annotations

import json
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from clients_models import save_source
from torch import Tensor, nn
from vllm_formats import CASES, CUDA, PROMPTS, TOKENS, Recipe

from mtcore.export import UnifiedExporter
from mtcore.flow import load_checkpoint
from mtcore.flow.precision import restore_dtypes, widen_on_cpu
from mtcore.lint import lint, open_checkpoint
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan, plan_model, to_artifact


def write(folder: Path, models: Iterable[str], forms: Iterable[str], device: str) -> None:
    """A checkpoint and its `reference.json` for every model and format; what cannot be written is noted there."""
    forms = list(forms)
    with tempfile.TemporaryDirectory() as work:
        for model in models:
            source, prompts = save_source(model, Path(work) / model, PROMPTS, TOKENS, wide=True)
            for form in forms:
                out = folder / f"{model}_{form}".translate(str.maketrans({" ": "-", ",": None, "'": None}))
                facts = {"model": model, "format": form, "prompts": prompts} | _written(
                    source, form, out, prompts, device
                )
                out.mkdir(parents=True, exist_ok=True)
                (out / "reference.json").write_text(json.dumps(facts))
                print(f"{model}, {form}: {facts.get('why', 'written')}", flush=True)


def _written(source: Path | str, form: str, out: Path, prompts: list[list[int]], device: str) -> dict[str, Any]:
    case = CASES[form]
    try:
        facts: dict[str, Any] = {"planned": _quantized(source, case.recipe, prompts, out, case.dialect)}
    except Exception as error:  # noqa: BLE001  the row says what stopped it
        return {"why": " ".join("".join(traceback.format_exception_only(error)).split())[:300]}
    if device == CUDA and case.instead is not None:
        facts["instead"] = _quantized(source, case.instead, prompts)
    registry = default_registry()
    report = lint(open_checkpoint(out), [registry.clients["vllm"]], registry.lint_rules.values())
    facts["lint"] = [f"{finding.rule}: {finding.why}" for finding in report.findings if finding.severity == "error"]
    return facts


def _quantized(
    source: Path | str, recipe: Recipe, prompts: list[list[int]], out: Path | None = None, dialect: str = ""
) -> dict[str, list[Any]]:
    """Log-probabilities of the quantized model in fp32 and in bf16, of the original in fp32; and `close_calls`."""
    loaded = load_checkpoint(str(source))
    dtypes = widen_on_cpu(loaded.model)
    plain = log_probabilities(loaded.model, prompts)
    batches = [{"input_ids": torch.tensor(prompts)}]
    plan = plan_model(loaded.model, recipe, inputs=batches[0])
    exporter = UnifiedExporter(default_registry().exporters)
    if out is not None:
        exporter.check(plan, dialect)
    model = apply_plan(loaded.model, plan, batches)
    routed = router_logits(model, prompts)
    if out is not None:
        exporter.export(restore_dtypes(to_artifact(model, loaded.files), dtypes), out, dialect, overwrite=True)
    found = {"fp32": log_probabilities(model, prompts), "plain": plain}
    found["bf16"] = log_probabilities(model.bfloat16(), prompts)
    answer = {key: value.tolist() for key, value in found.items()}
    if routed is not None:
        answer["close_calls"] = close_calls(routed, router_logits(model, prompts), model.config.num_experts_per_tok)
    return answer


def log_probabilities(model: nn.Module, prompts: list[list[int]]) -> Tensor:
    """Of every token but the first of each prompt, one after the other: fp32 [tokens]."""
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt])
            spread = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            found.append(spread.gather(1, ids[0, 1:, None])[:, 0])
    return torch.cat(found)


def router_logits(model: nn.Module, prompts: list[list[int]]) -> Tensor | None:
    """Of the tokens whose successors are looked at: fp32 [layers, tokens, experts]; None without experts."""
    if not hasattr(model.config, "num_experts_per_tok"):
        return None
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            said = model(input_ids=torch.tensor([prompt]), use_cache=False, output_router_logits=True)
            found.append(torch.stack([one.float()[:-1] for one in said.router_logits]))
    return torch.cat(found, 1)


def close_calls(fp32: Tensor, bf16: Tensor, chosen: int) -> list[int]:
    """Tokens for which some layer may choose other experts in bf16, by as little as that rounds.

    The choice hangs on the difference of two logits. Its error has √2 times the standard deviation of a logit's,
    and stays within three of these for all but one in 370.

    Args:
        fp32, bf16: router logits [layers, tokens, experts] of one model in either precision.
        chosen: experts a token.
    """
    ordered = fp32.sort(-1, descending=True).values
    margin = ordered[..., chosen - 1] - ordered[..., chosen]
    error = (fp32 - bf16).square().mean((1, 2)).sqrt()
    close = (margin < 3 * 2**0.5 * error[:, None]).any(0)
    return [int(index) for index in close.nonzero()]
