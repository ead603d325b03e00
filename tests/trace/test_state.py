import torch
from torch import nn

from mtcore.trace import analyze, recursive_trace
from mtcore.trace.state import bit_equal


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(3))
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.last = None

    def forward(self, x):
        self.count += 1
        self.last = x
        self.new = 1
        torch.rand(3)
        return self.drop(self.norm(x))


def test_the_model_is_left_as_found():
    model = Counter().train()
    model.norm.eval()
    hooked = []
    model.norm.register_forward_hook(lambda *a: hooked.append(1))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.get_rng_state()
    for run in (analyze, recursive_trace):
        run(model, torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(torch.get_rng_state(), generator)
        assert [model.training, model.norm.training, model.drop.training] == [True, False, True]
        assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
        assert model.last is None
        assert not hasattr(model, "new")
        assert len(model.norm._forward_hooks) == 1
    assert hooked


def test_gradient_mode_is_left_as_found():
    model = nn.Linear(2, 2)
    analyze(model)
    assert torch.is_grad_enabled()
    assert model.weight.grad is None


def test_one_element_of_an_expanded_buffer_compares():
    assert bit_equal(torch.ones(1).expand(3)[:1].as_strided((1, 1), (1, 0)), torch.ones(1, 1))
