import torch
from torch import nn

from mtcore.trace import shared_input_groups


class Reads(nn.Module):
    """Feeds two linears with what `pair` makes of the input."""

    def __init__(self, pair):
        super().__init__()
        self.pair, self.a, self.b = pair, nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        left, right = self.pair(x)
        return self.a(left), self.b(right)


def shares(pair):
    return bool(shared_input_groups(Reads(pair), torch.randn(2, 4, 8)))


def test_projections_of_one_value_form_a_group(block, x):
    (group,) = shared_input_groups(block, x)
    assert group.modules == ("q", "k", "v")
    assert str(group) == "{q,k,v}"


def test_a_shared_value_survives_views_casts_copies_and_idle_dropout():
    assert shares(lambda x: (x, x.view(8, 8)))
    assert shares(lambda x: (x, x.double().float()))
    assert shares(lambda x: (x, x.clone().contiguous()))
    assert shares(lambda x: (x, nn.functional.dropout(x, 0.5, False)))
    assert shares(lambda x: (x.transpose(0, 1), x.transpose(0, 1)))
    assert shares(lambda x: (x[:, 1:], x[:, 1:]))
    assert shares(lambda x: (x[x.argmax(0)[0]], x[x.argmax(0)[0]]))


def test_equal_numbers_alone_are_not_a_shared_value():
    assert not shares(lambda x: (x, torch.zeros_like(x)))
    assert not shares(lambda x: (x[:, 1:], x[:, :-1]))
    assert not shares(lambda x: (x + torch.rand(8), x + torch.rand(8)))
    assert not shares(lambda x: (x * 1, x * 2))
    assert not shares(lambda x: (x.view(4, 2, 8), x.reshape(2, 8, 4).transpose(1, 2)))


def test_a_write_between_two_reads_separates_them():
    class Writes(Reads):
        def forward(self, x):
            view = x[:, 0]
            left = self.a(x)
            view.zero_()
            return left, self.b(x)

    assert not shared_input_groups(Writes(None), torch.randn(2, 4, 8))


def test_an_object_that_reuses_an_address_shares_nothing():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(40))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x * 1.5)  # the product dies at once and its address is free again
            return x

    assert shared_input_groups(Many(), torch.randn(2, 8)) == ()


def test_one_differing_call_separates_modules_that_are_called_several_times():
    class Twice(Reads):
        def forward(self, x):
            self.a(x), self.b(x), self.a(x + 1)
            return self.pair(self, x)

    model = Twice(lambda self, x: self.b(x + 2))
    assert shared_input_groups(model, torch.randn(2, 8)) == ()
    model = Twice(lambda self, x: self.b(x + 1))
    assert [g.modules for g in shared_input_groups(model, torch.randn(2, 8))] == [("a", "b")]


def test_a_name_is_the_common_prefix_and_the_ends():
    model = nn.Sequential()
    model.layer = Reads(lambda x: (x, x))
    (group,) = shared_input_groups(model, torch.randn(2, 8))
    assert group.name == "layer.{a,b}"
