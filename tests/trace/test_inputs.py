import pytest
import torch
from torch import nn

from mtcore.errors import TraceError
from mtcore.trace import TraceInputs, analyze, example_inputs


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(5, 2),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)),
        nn.Conv1d(2, 2, 3),
        nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7)),
        nn.LSTM(4, 6),
        nn.LayerNorm(6),
        nn.BatchNorm2d(3),
        nn.TransformerEncoderLayer(8, 2, 16),
        nn.Linear(4, 4, dtype=torch.bfloat16),
    ],
    ids=lambda m: type(m).__name__,
)
def test_inputs_are_made_that_the_model_accepts(model):
    assert analyze(model).failures == ()


def test_made_inputs_are_the_same_each_time_and_use_no_global_randomness():
    model = nn.Linear(3, 3)
    state = torch.get_rng_state()
    a, b = example_inputs(model), example_inputs(model)
    assert torch.equal(a.args[0], b.args[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_with_two_inputs_asks_for_them():
    with pytest.raises(TraceError, match=r"Bilinear\(.*pass inputs="):
        example_inputs(nn.Bilinear(2, 2, 2))


def test_a_given_maker_is_asked_first():
    made = TraceInputs((torch.ones(1, 3),))
    assert example_inputs(nn.Linear(3, 3), [lambda model: None, lambda model: made]) is made


X = torch.ones(2, 3)


@pytest.mark.parametrize("inputs", [X, (X,), [X], {"input": X}, TraceInputs((X,))])
def test_inputs_may_be_a_tensor_a_tuple_or_a_dict(inputs):
    assert analyze(nn.Linear(3, 3), inputs).failures == ()
