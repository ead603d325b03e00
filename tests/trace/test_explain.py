"""Why scales are pinned, asked by index and by axis."""

import pytest
from torch import nn

from mtcore.errors import TraceError
from mtcore.trace import Analysis, AxisPin


@pytest.fixture
def explainer():
    return Analysis(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))).explainer


def test_a_free_scale_has_no_way(explainer):
    assert explainer.scale("0.weight", 0, 5) == AxisPin("0.weight", (0,), 6, 0, 5, ())


def test_every_axis_of_the_chosen_parameters_is_told_with_the_way_of_its_first_pin(explainer):
    assert list(explainer.axes(["2.weight"])) == [
        AxisPin("2.weight", (0,), 3, 3, 0, ("2.weight[axis 0: 0] pinned: output in the model",)),
        AxisPin("2.weight", (1,), 6, 0, 0, ()),
    ]
    assert list(explainer.axes([])) == []


def test_an_axis_that_only_partly_is_pinned_is_counted_from_its_first_pin():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.down = nn.Linear(4, 6, bias=False), nn.Linear(3, 2, bias=False)

        def forward(self, x):
            up, gate = self.both(x).chunk(2, -1)
            return self.down(up * gate.sigmoid())

    rows, _ = Analysis(Split()).explainer.axes(["both.weight"])
    assert (rows.pinned, rows.size, rows.index) == (3, 6, 3)
    assert rows.way == ("both.weight[axis 0: 3] pinned: aten::sigmoid in the model",)


def test_an_index_beyond_the_axis_is_refused(explainer):
    with pytest.raises(TraceError, match=r"index 6 of axis 0 of '0\.weight'"):
        explainer.scale("0.weight", 0, 6)
