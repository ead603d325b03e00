"""Training: one small Llama-style model from scratch, on one GPU, in a given number of minutes.

    python train.py --data data/ --out model/ --minutes 7 --compile
    python train.py --data data/ --out /tmp/dry --steps 3 --batch 2 --device cpu     # dry run

`--data` holds what tokenizer.py wrote. Writes the two config files, `model.safetensors` (bf16)
and `train_log.json`, once a minute and at the end: a run that is cut still leaves a model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

BOS_ID, EOS_ID, PAD_ID = 0, 1, 2
LENGTH = 1024  # tokens a sequence, the start token included
PEAK_LR, FINAL_LR, WARMUP = 3e-3, 3e-5, 300
MEASURE = range(40, 140)  # the steps whose speed decides how many steps fit into the minutes


def config() -> LlamaConfig:
    """Untied llama with grouped-query attention; every Linear's in_features is a multiple of 128."""
    return LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=LENGTH,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        attn_implementation="sdpa",
    )


def new_model(seed: int) -> LlamaForCausalLM:
    """Fresh float32 weights; the projections that write to the residual stream start smaller."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config())
    scale = (2 * model.config.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(scale)
            layer.mlp.down_proj.weight.mul_(scale)
    return model


def batches(tokens: torch.Tensor, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (inputs, targets), both [size, LENGTH]: a start token and 1023 tokens, and what follows each.

    Each epoch cuts the stream at another phase and shuffles the pieces.
    """
    generator = torch.Generator().manual_seed(seed)
    ahead = torch.arange(LENGTH, device=tokens.device)
    while True:
        phase = int(torch.randint(LENGTH, (1,), generator=generator))
        starts = torch.arange(phase, len(tokens) - LENGTH, LENGTH)
        starts = starts[torch.randperm(len(starts), generator=generator)].to(tokens.device)
        for index in range(0, len(starts) - size + 1, size):
            targets = tokens[starts[index : index + size, None] + ahead].long()
            yield functional.pad(targets[:, :-1], (1, 0), value=BOS_ID), targets


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from PEAK_LR to FINAL_LR."""
    if step < WARMUP:
        return PEAK_LR * (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return FINAL_LR + (PEAK_LR - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def optimizer_for(model: LlamaForCausalLM) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.95), fused=True)


def save(model: LlamaForCausalLM, out: Path, log: dict[str, Any]) -> None:
    """Write the checkpoint: bf16 weights, the two config files, the log."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {n: p.detach().to(torch.bfloat16).contiguous().cpu() for n, p in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    saved = config()
    saved.architectures, saved.dtype = ["LlamaForCausalLM"], torch.bfloat16
    saved.save_pretrained(out)
    GenerationConfig(bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID).save_pretrained(out)
    (out / "train_log.json").write_text(json.dumps(log, indent=1) + "\n")


def train(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    raw = np.fromfile(options.data / "tokens.bin", dtype="<u2")
    tokens = torch.from_numpy(raw.astype(np.int32)).to(device)
    model = new_model(options.seed).to(device)
    optimizer = optimizer_for(model)

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(input_ids=inputs, use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    step_loss = torch.compile(loss_of) if options.compile else loss_of
    steps = options.steps or 10**9
    began, mark, last_save = time.monotonic(), 0.0, time.monotonic()
    log: dict[str, Any] = {
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__},
        "data_sha256": hashlib.sha256(raw.tobytes()).hexdigest(),
        "corpus_tokens": len(raw),
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch_tokens": options.batch * LENGTH,
        "seed": options.seed,
        "compiled": options.compile,
        "curve": [],
    }  # fmt: skip
    stream = batches(tokens, options.batch, options.seed)
    step = 0
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = step_loss(*next(stream))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step == MEASURE.start:
            loss.item()  # waits for the device: the clock must not run ahead of it
            mark = time.monotonic()
        if step == MEASURE.stop and not options.steps:
            loss.item()
            per_step = (time.monotonic() - mark) / len(MEASURE)
            steps = step + int((options.minutes * 60 - (time.monotonic() - began)) / per_step)
            rate = options.batch * LENGTH / per_step
            print(f"{per_step * 1e3:.1f} ms a step, {rate:.0f} tokens/s, {steps} steps")
        if step % 100 == 0 or step <= 3:
            log["curve"].append([step, round(loss.item(), 4)])
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - began:.0f} s", flush=True)
        if time.monotonic() - last_save > 60:
            last_save = time.monotonic()
            save(model, options.out, log | {"steps": step, "finished": False})
    loss.item()
    log |= {"steps": step, "finished": True, "minutes": round((time.monotonic() - began) / 60, 2),
            "trained_tokens": step * options.batch * LENGTH}  # fmt: skip
    save(model, options.out, log)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("model"))
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--steps", type=int, default=0, help="train this many steps instead of --minutes")
    parser.add_argument("--batch", type=int, default=128, help=f"sequences of {LENGTH} tokens a step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    torch.set_float32_matmul_precision("high")
    log = train(parser.parse_args())
    print(f"done: {log['steps']} steps, {log['trained_tokens'] / 1e6:.0f} M tokens, {log['minutes']} minutes")


if __name__ == "__main__":
    main()
