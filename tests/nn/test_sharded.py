"""Quantizing a tensor that is spread over processes gives the bits of the whole tensor."""

import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mtcore.formats import builtin_formats
from mtcore.nn import QuantLinear, Rotation, TensorQuantizer

FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
RANKS = 2


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def join(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)


def linear_twin(layer: nn.Linear) -> QuantLinear:
    quantizers = {
        "weight": TensorQuantizer(FORMATS["nvfp4"], "static", channel_axis=0),
        "input": TensorQuantizer(FORMATS["fp8"], "dynamic"),
        "output": nn.Identity(),
    }
    return QuantLinear.from_original(layer, quantizers)


def check_tensors(rank: int, port: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    join(rank, port)
    mesh = init_device_mesh("cpu", (RANKS,))
    torch.manual_seed(0)
    w = torch.randn(9, 64)
    scaled = TensorQuantizer(FORMATS["mxfp4"], "static", channel_axis=0, rotation=Rotation())
    scaled.set_pre_quant_scale(torch.rand(64) + 0.5)
    quantizers = [TensorQuantizer(FORMATS[name], "static", channel_axis=0) for name in ("nvfp4", "fp8", "int8_row")]
    quantizers += [TensorQuantizer(FORMATS[name], "dynamic") for name in ("fp8_row", "mxfp8_e4m3", "nf4")]
    for quantizer in [*quantizers, scaled]:
        for placement in (Shard(0), Shard(1), Replicate()):
            spread = distribute_tensor(w, mesh, [placement]).requires_grad_()
            fake = quantizer(spread)
            assert fake.placements == (placement,)
            assert torch.equal(fake.full_tensor(), quantizer(w)), (quantizer, placement)
            fake.full_tensor().sum().backward()
            assert spread.grad.full_tensor().shape == w.shape
    sums = DTensor.from_local(w / RANKS, mesh, [Partial()])
    assert torch.equal(quantizers[0](sums).full_tensor(), quantizers[0](w))
    dist.destroy_process_group()


def check_training(rank: int, port: int) -> None:
    from torch.distributed.fsdp import fully_shard

    join(rank, port)
    torch.manual_seed(0)
    first, second = nn.Linear(32, 32), nn.Linear(32, 32)
    x = torch.randn(8, 32)
    alone = nn.Sequential(linear_twin(first), nn.ReLU(), linear_twin(second))
    expected = alone(x)
    expected.sum().backward()
    gradient = first.weight.grad.clone()
    model = nn.Sequential(linear_twin(nn.Linear(32, 32)), nn.ReLU(), linear_twin(nn.Linear(32, 32)))
    model.load_state_dict(alone.state_dict())
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
    out = model(x)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert torch.equal(model[0].weight.grad.full_tensor(), gradient)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_tensors, check_training])
def test_two_processes_agree_with_one(check):
    # Not forked: some builds of torch have started threads for gradients by now, which do not survive it.
    port = str(free_port())
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, check.__name__, str(rank), port], stderr=subprocess.PIPE, text=True
        )
        for rank in range(RANKS)
    ]
    for process in ranks:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said


if __name__ == "__main__":
    {"check_tensors": check_tensors, "check_training": check_training}[sys.argv[1]](*map(int, sys.argv[2:]))
