"""Whether several processes calibrate what one does: data parallel, and with FSDP2 shards. Run it under torchrun.

    torchrun --nproc-per-node 2 bench/distributed_check.py                 # gloo on CPUs
    torchrun --nproc-per-node 2 bench/distributed_check.py --device cuda   # NCCL on GPUs

Every process first calibrates a model alone on all of the data, then the processes do it together, each with its
share; and once more alone with the batches in another order, which changes the order of sums and nothing else.
Prints one JSON object; the exit status is 1 where `max` is not equal bit for bit, or processes disagree.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mtcore.calibration.ranks import Ranks, data_parallel
from mtcore.errors import CalibrationError
from mtcore.export import Artifact
from mtcore.plugins import Registry
from mtcore.quantization import apply_plan, plan_model, to_artifact
from mtcore.recipe import load_config
from mtcore.testing.toy_blocks import ToyBlocks, ToyShape

CASES = (("fp8", "max"), ("nvfp4", "max"), ("int8_static", "smoothquant"), ("fp8", "awq"), ("int8", "gptq"))


def make_model(shape: ToyShape, device: torch.device) -> ToyBlocks:
    torch.manual_seed(0)
    return ToyBlocks(shape).to(device).eval().requires_grad_(False)


def make_batches(shape: ToyShape, count: int, device: torch.device) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    size = (2, 64)
    ids = [torch.randint(shape.vocabulary, size, generator=generator) for _ in range(count)]
    return [{"input_ids": batch.to(device)} for batch in ids]


def tensors_of(artifact: Artifact) -> dict[str, Tensor]:
    """Every number that an exporter would write, by name, on the CPU."""
    found: dict[str, Tensor] = {}
    for name, module in artifact.modules.items():
        for slot, q in module.weights.items():
            found |= {f"{name}.{slot}.{part}": tensor for part, tensor in q.tensors().items()}
        for slot, qparams in module.activations.items():
            found[f"{name}.{slot}.scale"] = qparams.multiplier()
    return {name: tensor.cpu() for name, tensor in found.items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
    """How many tensors differ in any bit."""
    assert one.keys() == other.keys()
    return sum(not torch.equal(raw(one[name]), raw(other[name])) for name in one)


def raw(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def largest_change(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest relative difference of a scale of an activation."""
    changes = [
        float(((a - other[name]).abs() / a.abs()).max()) for name, a in one.items() if name.endswith("input.scale")
    ]
    return max(changes, default=0.0)


def check(
    recipe: str, algorithm: str, shape: ToyShape, device: torch.device, ranks: Ranks, fsdp: bool
) -> dict[str, Any]:
    registry = Registry.load(discover=False)
    changes = [f"algorithm={algorithm}"]
    config = load_config(recipe, formats=registry.formats, recipes=registry.recipes, overrides=changes)
    model, batches = make_model(shape, device), make_batches(shape, 8, device)
    plan = plan_model(model, config, inputs=batches[0], registry=registry)
    alone = tensors_of(to_artifact(apply_plan(copy.deepcopy(model), plan, batches, registry=registry)))
    reordered = copy.deepcopy(model)
    reordered = apply_plan(reordered, plan, [*batches[::2], *batches[1::2]], registry=registry)
    if fsdp:
        shard(model, device, ranks)
    begun = time.perf_counter()
    with data_parallel(ranks.group):
        done = apply_plan(model, plan, ranks.share(batches), registry=registry)
    seconds = time.perf_counter() - begun
    together = tensors_of(to_artifact(done))
    others = ranks.every({name: raw(tensor).numpy().tobytes() for name, tensor in together.items()})
    return {
        "recipe": recipe,
        "algorithm": algorithm,
        "model": "FSDP2 shards" if fsdp else "replicas",
        "tensors": len(alone),
        "differ from one process": differing(alone, together),
        "differ where one process reads the batches in another order": differing(
            alone, tensors_of(to_artifact(reordered))
        ),
        "largest relative change of an input scale": largest_change(alone, together),
        "processes agree": all(other == others[0] for other in others),
        "seconds": round(seconds, 3),
    }


def shard(model: ToyBlocks, device: torch.device, ranks: Ranks) -> None:
    mesh = init_device_mesh(device.type, (ranks.size,))
    for block in model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def refusal(algorithm: str, shape: ToyShape, device: torch.device, ranks: Ranks) -> str:
    """What an algorithm that changes weights says of a sharded model."""
    registry = Registry.load(discover=False)
    changes = [f"algorithm={algorithm}"]
    config = load_config("fp8", formats=registry.formats, recipes=registry.recipes, overrides=changes)
    model, batches = make_model(shape, device), make_batches(shape, 2, device)
    plan = plan_model(model, config, inputs=batches[0], registry=registry)
    shard(model, device, ranks)
    try:
        with data_parallel(ranks.group):
            apply_plan(model, plan, ranks.share(batches), registry=registry)
    except CalibrationError as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    shape = ToyShape(layers=options.layers, width=options.width, vocabulary=256)
    device = torch.device("cpu")
    if options.device == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if options.device == "cpu" else "cpu:gloo,cuda:nccl")
    ranks = Ranks(None)
    found = [check(recipe, algorithm, shape, device, ranks, fsdp=False) for recipe, algorithm in CASES]
    found += [check(recipe, "max", shape, device, ranks, fsdp=True) for recipe in ("fp8", "nvfp4")]
    refusals = [refusal(algorithm, shape, device, ranks) for algorithm in ("smoothquant", "awq", "gptq")]
    dist.destroy_process_group()
    good = all(refusals) and all(
        case["processes agree"] and (case["algorithm"] != "max" or not case["differ from one process"])
        for case in found
    )
    if os.environ["RANK"] == "0":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        facts = {"device": name, "torch": torch.__version__, "good": good, "cases": found, "refused": refusals}
        print(json.dumps(facts, indent=1))
    sys.exit(not good)


if __name__ == "__main__":
    main()
