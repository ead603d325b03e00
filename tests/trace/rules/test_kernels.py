"""The one-line rules, each on a kernel of its own and held against numbers by the contract."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtcore.testing import TraceRuleContract
from mtcore.trace import TraceRuleSpec
from mtcore.trace.kernel_rules import attention, grouped_matmul, move, norm, pointwise, scan
from tests.trace.rules import kernels

X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Between(nn.Module):
    """Two linear layers with a kernel in between, by its name: a copy of the model finds it again."""

    def __init__(self, kernel: str) -> None:
        super().__init__()
        self.kernel = kernel
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.down(getattr(kernels, self.kernel)(self.up(x)))


class TestMove(TraceRuleContract):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::shuffle", move())

    @pytest.fixture
    def model(self):
        return Between("shuffle")

    @pytest.fixture
    def inputs(self):
        return X

    @pytest.fixture
    def folded(self):
        return {"up.weight", "up.bias", "down.weight"}


class TestHomogeneous(TestMove):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::leak", pointwise(homogeneous=True))

    @pytest.fixture
    def model(self):
        return Between("leak")


class TestNonlinear(TestMove):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::squash", pointwise())

    @pytest.fixture
    def model(self):
        return Between("squash")

    @pytest.fixture
    def folded(self):
        return set()


class Attending(nn.Module):
    """Grouped queries: four heads of three channels, two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, 12), nn.Linear(4, 6), nn.Linear(4, 6)
        self.o = nn.Linear(12, 3)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, 3)) for f in (self.q, self.k, self.v))
        return self.o(kernels.attend(q, k, v).flatten(-2))


class TestAttention(TestMove):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::attend", attention(heads_last=True))

    @pytest.fixture
    def model(self):
        return Attending()

    @pytest.fixture
    def folded(self):
        return {"v.weight", "v.bias", "o.weight"}

    def test_query_and_key_scale_against_each_other(self, report):
        assert any({"q.weight", "k.weight"} <= set(g.parameters) for g in report.folds)

    def test_heads_that_share_keys_are_one_block(self, report):
        assert [block.size for block in report.blocks] == [2]


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.begin, self.end = nn.Linear(4, 6), nn.Linear(6, 3)
        self.weight = nn.Parameter(torch.rand(6) + 0.5)

    def forward(self, x):
        return self.end(kernels.rms_norm(self.begin(x), self.weight))


class TestNorm(TestMove):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::rms_norm", norm(weight=1))

    @pytest.fixture
    def model(self):
        return Normed()

    @pytest.fixture
    def folded(self):
        return {"weight", "end.weight"}


class Grouped(nn.Module):
    """Rows in three groups, each with matrices of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 4, 6)), nn.Parameter(torch.randn(3, 6, 2))

    def forward(self, x):
        ends = torch.tensor([2, 5, 10])
        return kernels.grouped(kernels.grouped(x.flatten(0, 1), self.up, ends).relu(), self.down, ends)


class TestGroupedMatmul(TestMove):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::grouped", grouped_matmul())

    @pytest.fixture
    def model(self):
        return Grouped()

    @pytest.fixture
    def folded(self):
        return {"up", "down"}

    def test_every_group_scales_alone(self, report):
        assert [group.size for group in report.folds] == [3 * 6]


class Scanning(nn.Module):
    """A selective state space with five channels and three states."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.dt, self.b, self.c = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(4, 3), nn.Linear(4, 3)
        self.a, self.d = nn.Parameter(-torch.rand(5, 3)), nn.Parameter(torch.randn(5))
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        parts = [f(x).mT for f in (self.x, self.dt, self.b, self.c)]
        y = kernels.selective_scan(parts[0], parts[1].sigmoid(), self.a, parts[2], parts[3], self.d)
        return self.out(y.mT)


class TestScan(TestMove):
    @pytest.fixture
    def rule(self):
        return TraceRuleSpec("mtcore_kernels::scan", scan(d=5))

    @pytest.fixture
    def model(self):
        return Scanning()

    @pytest.fixture
    def folded(self):
        return {"x.weight", "x.bias", "out.weight"}

    def test_the_states_cancel(self, report):
        assert any({"b.weight", "c.weight"} <= set(g.parameters) and g.size == 3 for g in report.folds)

    def test_a_channel_exists_with_its_step_and_its_decay(self, report):
        group = next(g for g in report.symbols if "x.weight" in g.parameters)
        assert {"x.weight", "dt.weight", "a", "d", "out.weight"} <= set(group.parameters)
        states = next(g for g in report.symbols if "b.weight" in g.parameters)
        assert {"b.weight", "c.weight", "a"} <= set(states.parameters)
