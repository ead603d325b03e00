"""Whether vLLM's loader puts experts that we take apart where they belong: log-probabilities of prompts, on a CPU.

    python bench/clients/setup_vllm_cpu.py VENV
    python bench/clients/vllm_experts.py --python VENV/bin/python --json bench/results/vllm_experts.json

The hub keeps the experts of these models in one tensor. Only they are quantized, to FP8. vLLM has no kernel for
them on a CPU: `vllm_experts_serve.py` multiplies them out once vLLM has loaded them. Our reference rounds no inputs
of experts either, and everything is in fp32, so that both differ by the order of sums alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from agreement import last_error
from vllm_cases import CT, MODELOPT
from vllm_check import clean_environment
from vllm_write import PROMPTS, TOKENS, log_probabilities

import mtcore
from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.nn import QuantModule
from mtcore.quantization import quantized_of
from mtopt_hf.quiet import quiet_transformers

LIMIT_S = 600
SIZES = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
    "eos_token_id": 2, "num_local_experts": 4, "tie_word_embeddings": False,
}  # fmt: skip
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Granite-MoE": ("GraniteMoeForCausalLM", "GraniteMoeConfig", {"num_experts_per_tok": 2}),
    "Llama 4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {
            "num_experts_per_tok": 1,
            "head_dim": 32,
            "intermediate_size_mlp": 256,
            "interleave_moe_layer_step": 1,
            "attn_temperature_tuning": False,
            "use_qk_norm": False,
            "attention_chunk_size": 256,
        },
    ),
}
FORMATS = {CT: "fp8_row", MODELOPT: "fp8"}
"""By dialect; vLLM runs no experts with a scale a row in the modelopt dialect."""


def check(name: str, dialect: str, python: str, work: Path) -> dict[str, Any]:
    """One row: root mean squares of the distances from vLLM to the reference and to the unquantized model."""
    class_name, config_name, options = MODELS[name]
    config = getattr(transformers, config_name)(**SIZES, **options)
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.08)
    prompts = torch.randint(3, 512, (PROMPTS, TOKENS), generator=torch.Generator().manual_seed(4))
    plain = log_probabilities(model, prompts.tolist())
    rules = [{"modules": "*.experts*", "weight": FORMATS[dialect], "input": FORMATS[dialect]}]
    recipe = {"rules": [*rules, {"include": "base_exclusions"}], "max_unquantized": 1.0}
    model = mtcore.quantize(model, recipe, [{"input_ids": prompts}])
    source = SourceFiles({**json.loads(config.to_json_string()), "architectures": [class_name]})
    out = work / name.replace(" ", "-") / dialect
    export_model(model, out, dialect=dialect, source=source)
    for planned in quantized_of(model).plan.quantized:
        module = model.get_submodule(planned.name)
        assert isinstance(module, QuantModule)
        for _, quantizer in module.quantizers():
            if not quantizer.is_weight:
                quantizer.disable()
    reference = log_probabilities(model, prompts.tolist())
    row: dict[str, Any] = {"model": name, "dialect": dialect, "format": FORMATS[dialect], "tokens": len(reference)}
    asked, answer = work / "prompts.json", work / "answer.json"
    asked.write_text(json.dumps(prompts.tolist()))
    answer.unlink(missing_ok=True)
    script = Path(__file__).with_name("vllm_experts_serve.py")
    command = [python, str(script), str(out), str(asked), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=clean_environment())
    if not answer.exists():
        return {**row, "result": "not served", "why": last_error(done.stderr + done.stdout)}
    served = torch.tensor([p for found in json.loads(answer.read_text()) for p in found])
    to = {"to_reference": reference, "to_unquantized": plain}
    return {**row, **{key: float(f"{(served - one).square().mean().sqrt():.3g}") for key, one in to.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the environment that has vLLM")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, quiet_transformers():
        rows = [check(name, dialect, options.python, Path(work)) for name in MODELS for dialect in FORMATS]
    options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print("| model | dialect | experts in | tokens | to the reference | to the unquantized model |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        facts = (row["model"], row["dialect"], row["format"], row["tokens"])
        ends = (row.get("to_reference", row.get("why")), row.get("to_unquantized", ""))
        print("| " + " | ".join(map(str, (*facts, *ends))) + " |")


if __name__ == "__main__":
    main()
