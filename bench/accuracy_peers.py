"""Accuracy of other tools on the model and text of `accuracy.py`, each in an environment of its own.

    PYTHONPATH=FOLDER_WITH_IT python bench/accuracy_peers.py modelopt --json modelopt.json
    PYTHONPATH=FOLDER_WITH_IT python bench/accuracy_peers.py llmcompressor --json llmcompressor.json

Options are those of `accuracy.py`. What a tool rounds is evaluated as the tool itself simulates it. Model-Optimizer
rounds to NVFP4, and llm-compressor runs AWQ, on a GPU only.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from accuracy_setup import GOALS, Row, Subject, add_options, measure_all, open_subject, seconds_of
from torch import nn

FP8, FP8_ROW, INT8, NVFP4, NVFP4_WEIGHTS, INT4 = GOALS
Quantize = Callable[[nn.Module], object]
"""Quantizes a model in place; what it returns is ignored."""


def modelopt(subject: Subject) -> list[tuple[Row, Quantize]]:
    """Its recipes, what costs little first."""
    import modelopt
    import modelopt.torch.quantization as mtq

    def weights_only(config: dict[str, Any]) -> dict[str, Any]:
        entries = [entry for entry in config["quant_cfg"] if "input_quantizer" not in entry["quantizer_name"]]
        return {**config, "quant_cfg": entries}

    lite = {"method": "awq_lite", "alpha_step": 0.1}
    full = {"method": "awq_full", "alpha_step": 0.1}
    sweep, local = mtq.NVFP4_W4A4_WEIGHT_MSE_FP8_SWEEP_CFG, mtq.NVFP4_W4A4_WEIGHT_LOCAL_HESSIAN_CFG
    configs: list[tuple[str, str, dict[str, Any], Any]] = [
        (INT8, "smoothquant", mtq.INT8_SMOOTHQUANT_CFG, "smoothquant"),
        (INT8, "max", mtq.INT8_DEFAULT_CFG, "max"),
        (NVFP4, "max", mtq.NVFP4_DEFAULT_CFG, "max"),
        (NVFP4_WEIGHTS, "max", mtq.W4A16_NVFP4_CFG, "max"),
        (INT4, "max", mtq.INT4_BLOCKWISE_WEIGHT_ONLY_CFG, "max"),
        (FP8_ROW, "max", mtq.FP8_PER_CHANNEL_PER_TOKEN_CFG, "max"),
        (FP8, "max", mtq.FP8_DEFAULT_CFG, "max"),
        (NVFP4, "mse", sweep, sweep["algorithm"]),
        (FP8, "mse", mtq.FP8_DEFAULT_CFG, "mse"),
        (NVFP4, "awq lite", mtq.NVFP4_AWQ_LITE_CFG, lite),
        (INT4, "awq lite", mtq.INT4_AWQ_CFG, lite),
        (NVFP4_WEIGHTS, "awq lite", weights_only(mtq.NVFP4_AWQ_LITE_CFG), lite),
        (NVFP4_WEIGHTS, "mse", weights_only(sweep), sweep["algorithm"]),
        (FP8_ROW, "mse", mtq.FP8_PER_CHANNEL_PER_TOKEN_CFG, "mse"),
        (INT4, "mse", mtq.INT4_BLOCKWISE_WEIGHT_ONLY_CFG, "mse"),
        (NVFP4, "local_hessian", local, local["algorithm"]),
        (NVFP4_WEIGHTS, "local_hessian", weights_only(local), local["algorithm"]),
        (INT4, "awq clip", mtq.INT4_AWQ_CFG, "awq_clip"),
        (NVFP4, "awq clip", mtq.NVFP4_AWQ_CLIP_CFG, "awq_clip"),
        (NVFP4, "svdquant", mtq.NVFP4_SVDQUANT_DEFAULT_CFG, {"method": "svdquant", "lowrank": 32}),
        (INT4, "awq full", mtq.INT4_AWQ_CFG, full),
        (NVFP4, "awq full", mtq.NVFP4_AWQ_FULL_CFG, full),
        (NVFP4_WEIGHTS, "awq full", weights_only(mtq.NVFP4_AWQ_FULL_CFG), full),
    ]

    def loop(model: nn.Module) -> None:
        with torch.no_grad():
            for batch in subject.calibration:
                model(**batch)

    def quantize(config: dict[str, Any], algorithm: Any) -> Quantize:
        return lambda model: mtq.quantize(model, {**config, "algorithm": algorithm}, loop)

    layer = nn.Sequential(nn.Linear(128, 128)).to(subject.device)  # what is loaded or compiled at the first use
    for config in (mtq.FP8_DEFAULT_CFG, mtq.INT8_DEFAULT_CFG, mtq.NVFP4_DEFAULT_CFG, mtq.INT4_AWQ_CFG, sweep):
        data = torch.randn(16, 128, device=subject.device)
        mtq.quantize(copy.deepcopy(layer), {**config, "algorithm": "max"}, lambda model, data=data: model(data))

    tool = f"Model-Optimizer {modelopt.__version__}"
    return [(Row(tool, fmt, label), quantize(config, algorithm)) for fmt, label, config, algorithm in configs]


def llmcompressor(subject: Subject) -> list[tuple[Row, Quantize]]:
    import llmcompressor as package
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from torch.utils.data import DataLoader

    def rounded(scheme: str, kind: type = QuantizationModifier) -> Any:
        return kind(scheme=scheme, targets="Linear", ignore=["lm_head"])

    schemes = {FP8: "FP8", FP8_ROW: "FP8_DYNAMIC", INT8: "INT8", NVFP4: "NVFP4"}
    schemes |= {NVFP4_WEIGHTS: "NVFP4A16", INT4: "W4A16"}
    recipes: list[tuple[str, str, Callable[[str], list[Any]]]] = []
    for fmt in schemes:
        recipes.append((fmt, "gptq", lambda scheme: [rounded(scheme, GPTQModifier)]))
        recipes.append((fmt, "max", lambda scheme: [rounded(scheme)]))
    for fmt in (NVFP4, NVFP4_WEIGHTS, INT4):
        recipes.append((fmt, "awq", lambda scheme: [AWQModifier(), rounded(scheme)]))
    recipes.append((INT8, "smoothquant", lambda scheme: [SmoothQuantModifier(), rounded(scheme)]))
    recipes.append(
        (INT8, "smoothquant, gptq", lambda scheme: [SmoothQuantModifier(), rounded(scheme, GPTQModifier)])
    )

    data = DataLoader([{"input_ids": batch["input_ids"]} for batch in subject.calibration], batch_size=None)

    def quantize(recipe: list[Any]) -> Quantize:
        def work(model: nn.Module) -> object:
            folder = tempfile.mkdtemp()  # it reads the configuration where the model says that it came from
            model.config.use_cache = False
            model.config.save_pretrained(folder)
            model.config._name_or_path = model.name_or_path = folder
            return oneshot(
                model=model, dataset=data, recipe=recipe, num_calibration_samples=len(subject.calibration),
                processor=object(),  # asked for where it would be looked up by the model's name; never used
            )  # fmt: skip

        return work

    warm = copy.deepcopy(subject.model)
    quantize([rounded(schemes[NVFP4])])(warm)  # what is loaded at the first use
    del warm

    tool = f"llm-compressor {package.__version__}"
    return [(Row(tool, fmt, label), quantize(recipe(schemes[fmt]))) for fmt, label, recipe in recipes]


TOOLS = {"modelopt": modelopt, "llmcompressor": llmcompressor}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=TOOLS)
    add_options(parser)
    options = parser.parse_args()
    subject = open_subject(options)

    def measure(row: Row, quantize: Quantize) -> Row:
        model = copy.deepcopy(subject.model)
        seconds, _ = seconds_of(lambda: quantize(model), subject.device)
        with torch.no_grad():
            return subject.measured(row, model, seconds)

    measure_all(subject, TOOLS[options.tool](subject), measure, options)


if __name__ == "__main__":
    main()
