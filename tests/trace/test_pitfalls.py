"""The traps of tracing by execution: each once gave a wrong group, lost a right one, or was hard to see."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtcore.trace import Analysis, Invariance, OpRules, TraceInputs, analyze, builtin_rules, recursive_trace


class Net(nn.Module):
    """Children and parameters by name, and the function that is its forward."""

    def __init__(self, body, **parts):
        super().__init__()
        self.body = body
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)

    def forward(self, *args):
        return self.body(self, *args)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pairs(report):
    """{(upper parameters, lower parameters)} of the fold groups."""
    return {
        (tuple(sorted({s.parameter for s in g.up})), tuple(sorted({s.parameter for s in g.down})))
        for g in report.folds
    }


def prove(model, *inputs, **options):
    """Analyses and checks every fold numerically, with a control; gives the report."""
    analysis = Analysis(model, inputs, **options)
    report = analysis.report
    assert report.failures == ()
    assert report.rule_errors == ()
    invariance = Invariance(model, TraceInputs(inputs))
    for group in report.folds:
        check = invariance.check(group)
        assert check.exact, check
        assert group.size == 1 or check.powered, check
    return report


def x(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


UP_DOWN = (("up.weight",), ("down.weight",))


def mlp(between, **parts):
    def body(self, t):
        return self.down(between(self, self.up(t)))

    return Net(body, up=nn.Linear(4, 6, bias=False), down=nn.Linear(6, 3, bias=False), **parts)


def test_01_a_write_into_a_view_changes_what_the_whole_scales_with():
    def write(self, h):
        out = torch.zeros(2, 5, 6)
        for t in range(5):
            out[:, t] = torch.tanh(h[:, t]) if t else h[:, t]
        return out

    assert UP_DOWN not in pairs(prove(mlp(write), x(2, 5, 4)))

    def write_linear(self, h):
        out = torch.zeros(2, 5, 6)
        for t in range(5):
            out[:, t] = 2 * h[:, t]
        return out

    assert UP_DOWN in pairs(prove(mlp(write_linear), x(2, 5, 4)))


def test_01_a_write_is_seen_through_an_older_view_and_through_the_base():
    def body(self, h):
        first = h[:, :3]
        h[:, 0] = torch.exp(h[:, 1])
        return torch.cat([first, h[:, 3:]], 1)

    report = prove(mlp(body), x(2, 4))
    (group,) = [g for g in report.folds if g.up[0].parameter == "up.weight"]
    # row 0 is overwritten and row 1 is read by the exponential: both are out
    assert set(group.up[0].indices) == {2, 3, 4, 5}


def test_02_zeros_agree_with_every_scale():
    def scatter(self, h):
        return torch.zeros(7, 6).index_add_(0, torch.tensor([1, 3]), h)

    assert UP_DOWN in pairs(prove(mlp(scatter), x(2, 4)))
    assert UP_DOWN in pairs(prove(mlp(lambda self, h: F.pad(h, (0, 0, 1, 1))), x(2, 4)))


def test_02_numbers_other_than_zero_do_not():
    assert UP_DOWN not in pairs(prove(mlp(lambda self, h: F.pad(h, (0, 0, 1, 1), value=1.0)), x(2, 4)))


def test_03_planes_follow_a_view_that_their_own_strides_do_not_allow():
    def views(self, h):
        return h.view(2, 3, 2).transpose(1, 2).contiguous().view(2, 6)

    assert UP_DOWN in pairs(prove(mlp(views), x(2, 4)))


def test_04_a_tensor_on_a_reused_address_has_no_old_labels():
    def churn(self, h):
        for _ in range(50):
            torch.randn(2, 6).exp_()  # dies at once; its address is free again
            h = torch.tanh(h + torch.randn(2, 6))
        return h

    assert UP_DOWN not in pairs(prove(mlp(churn), x(2, 4)))


def test_05_what_the_model_returns_is_pinned():
    model = Net(
        lambda self, t: (self.down(self.up(t)), self.up(t)),
        up=nn.Linear(4, 6, bias=False), down=nn.Linear(6, 3, bias=False),
    )  # fmt: skip
    assert UP_DOWN not in pairs(prove(model, x(2, 4)))


def test_06_tied_parameters_are_one_node():
    model = mlp(lambda self, h: h)
    model.down = nn.Linear(6, 4, bias=False)
    model.tied = nn.Linear(4, 6, bias=False)
    model.tied.weight = model.up.weight
    model.body = lambda self, t: self.tied(self.down(self.up(t)))
    assert prove(model, x(2, 4)).folds == ()  # sigma = -sigma


def test_07_unseen_parameters_are_reported():
    model = mlp(lambda self, h: h, extra=nn.Linear(2, 2))
    assert analyze(model, x(2, 4)).uncalled == ("extra",)


def test_07_a_stack_of_which_a_matrix_is_not_reached_is_pinned():
    def body(self, t):
        h = F.layer_norm(t, (4,)) * self.norm
        return torch.stack([F.linear(h, self.experts[i]) for i in self.used])

    model = Net(body, norm=torch.rand(4) + 0.5, experts=torch.randn(3, 5, 4))
    model.used = [0, 1, 2]
    assert prove(model, x(2, 4)).folds
    model.used = [0, 2]
    assert prove(model, x(2, 4)).folds == ()


def test_07_a_list_of_which_a_module_is_not_called_is_pinned():
    def body(self, t):
        h = F.layer_norm(t, (4,)) * self.norm
        return torch.stack([self.experts[i](h) for i in self.used])

    model = Net(body, norm=torch.rand(4) + 0.5, experts=nn.ModuleList(nn.Linear(4, 5) for _ in range(3)))
    model.used = [0, 1, 2]
    assert prove(model, x(2, 4)).folds
    model.used = [0, 2]
    assert prove(model, x(2, 4)).folds == ()


@pytest.mark.parametrize("act", [F.relu, F.leaky_relu, torch.abs, lambda h: h * 3, lambda h: -h / 2])
def test_08_positive_scales_pass_homogeneous_functions(act):
    assert UP_DOWN in pairs(prove(mlp(lambda self, h: act(h)), x(2, 4)))


@pytest.mark.parametrize(
    "act", [F.gelu, F.silu, F.relu6, lambda h: h.clamp(max=0.5), lambda h: F.relu(h) ** 2, torch.sort]
)
def test_08_other_functions_break_them(act):
    def between(self, h):
        out = act(h)
        return out if isinstance(out, torch.Tensor) else out[0]

    assert UP_DOWN not in pairs(prove(mlp(between), x(2, 4)))


def test_09_two_free_factors_keep_one_of_them():
    model = mlp(lambda self, h: h * self.gate, gate=torch.rand(6) + 0.5)
    assert UP_DOWN in pairs(prove(model, x(2, 4)))


def test_09_a_bilinear_unit_keeps_a_fold():
    def body(self, t):
        return self.down(self.up(t) * self.gate(t))

    parts = {name: nn.Linear(4, 6, bias=False) for name in ("up", "gate")}
    model = Net(body, down=nn.Linear(6, 3, bias=False), **parts)
    assert len(prove(model, x(2, 4)).folds) == 1


def test_12_a_wrong_channel_map_is_caught():
    model = mlp(lambda self, h: F.relu(h))
    (group,) = analyze(model, x(2, 4)).folds
    below = group.down[0]
    rolled = dataclasses.replace(below, channels=below.channels[1:] + below.channels[:1])
    wrong = dataclasses.replace(group, down=(rolled,))
    invariance = Invariance(model, TraceInputs((x(2, 4),)))
    assert invariance.check(group).exact
    assert not invariance.check(wrong).exact


@pytest.mark.parametrize("kernel", ["math", "flash"])
def test_13_attention_kernels_give_the_same_groups(kernel):
    def body(self, t):
        q, k, v = (p(t).view(2, 5, -1, 4).transpose(1, 2) for p in (self.q, self.k, self.v))
        backend = (
            torch.nn.attention.SDPBackend.MATH
            if kernel == "math"
            else torch.nn.attention.SDPBackend.FLASH_ATTENTION
        )
        with torch.nn.attention.sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.o(out.transpose(1, 2).reshape(2, 5, 16))

    parts = {"q": 16, "k": 8, "v": 8}
    layers = {name: nn.Linear(6, n, bias=False) for name, n in parts.items()}
    model = Net(body, o=nn.Linear(16, 6, bias=False), **layers)
    report = prove(model, x(2, 5, 6))
    sizes = {(g.up[0].parameter, g.down[0].parameter): g.size for g in report.folds}
    assert sizes == {("q.weight", "k.weight"): 8, ("v.weight", "o.weight"): 8}
    (heads,) = report.blocks
    assert (heads.size, heads.state) == (2, "searchable")


def test_14_an_unknown_operation_pins_and_is_counted():
    library = torch.library.Library("mtcore_test_a", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda t: t * 2, "CompositeExplicitAutograd")
    model = mlp(lambda self, h: torch.ops.mtcore_test_a.twice(h))
    report = prove(model, x(2, 4))
    assert [(c.what, c.times) for c in report.unknown_ops] == [("mtcore_test_a::twice", 1)]
    assert report.folds == ()
    rules = builtin_rules()
    rules.add("mtcore_test_a::twice", lambda context, call: context.get(call.args[0]))
    assert UP_DOWN in pairs(prove(model, x(2, 4), rules=rules))


def test_14_a_rule_that_raises_pins_and_is_counted():
    rules = builtin_rules()

    def broken(context, call):
        raise RuntimeError("oops")

    rules.add("aten::relu", broken)
    report = analyze(mlp(lambda self, h: F.relu(h)), x(2, 4), rules=rules)
    assert report.folds == ()
    assert report.rule_errors[0].what == "aten::relu: RuntimeError: oops"


def test_14_without_any_rules_nothing_is_claimed():
    assert analyze(mlp(lambda self, h: F.relu(h)), x(2, 4), rules=OpRules()).folds == ()


def test_15_complex_rotation_ties_the_pair():
    def rotate(self, h):
        pairs_ = torch.view_as_complex(h.reshape(2, 3, 2))
        return torch.view_as_real(pairs_ * torch.polar(torch.ones(3), torch.arange(3.0))).reshape(2, 6)

    (group,) = prove(mlp(rotate), x(2, 4)).folds
    assert group.size == 3


def test_15_a_triangular_solve_is_linear_in_its_right_hand_side():
    def solve(self, h):
        return torch.linalg.solve_triangular(torch.tril(torch.ones(2, 2)), h, upper=False)

    assert UP_DOWN in pairs(prove(mlp(solve), x(2, 4)))


def test_16_a_stack_of_matrices_may_be_summed_over_its_first_axis():
    def body(self, t):
        h = torch.einsum("ibh,hnd->ibnd", t, self.w)
        return torch.einsum("ibnd,hnd->ibh", h, self.o)

    model = Net(body, w=torch.randn(4, 2, 3), o=torch.randn(4, 2, 3))
    (group,) = prove(model, x(5, 2, 4)).folds
    assert group.size == 6


def test_16_stacked_experts_fold_each_for_itself():
    def body(self, t):
        return torch.bmm(F.relu(torch.bmm(t, self.up.mT)), self.down.mT)

    model = Net(body, up=torch.randn(3, 6, 4), down=torch.randn(3, 5, 6))
    (group,) = prove(model, x(3, 2, 4)).folds
    assert group.size == 18


def test_16b_common_terms_of_a_sum_cancel():
    assert UP_DOWN in pairs(prove(mlp(lambda self, h: h * self.w + h, w=torch.rand(6)), x(2, 4)))


def test_17_many_writes_into_one_storage_stay_cheap():
    def fill(self, h):
        out = torch.zeros(2, 400, 6)
        for t in range(400):
            out[:, t] = h
        return out

    assert UP_DOWN in pairs(prove(mlp(fill), x(2, 4)))


def test_offsets_are_known_without_class_names():
    def body(self, t):
        return self.lin(F.layer_norm(t, (4,)) * (1 + self.w))

    (group,) = prove(Net(body, w=torch.randn(4) * 0.1, lin=nn.Linear(4, 3)), x(2, 4)).folds
    assert [side.offset for side in group.up] == [1.0]


def test_a_parameter_with_and_without_an_offset_is_pinned():
    def body(self, t):
        return self.lin(F.layer_norm(t, (4,)) * (1 + self.w)) + (self.w * t).sum()

    assert prove(Net(body, w=torch.randn(4), lin=nn.Linear(4, 3, bias=False)), x(2, 4)).folds == ()


def test_two_tokens_added_at_one_place_must_agree():
    def body(self, t):
        h = torch.stack([self.up(t), self.other(t)])
        return self.down(torch.zeros(1, 6).index_add_(0, torch.tensor([0, 0]), h))

    parts = {name: nn.Linear(4, 6, bias=False) for name in ("up", "other")}
    report = prove(Net(body, down=nn.Linear(6, 3, bias=False), **parts), x(4))
    assert pairs(report) == {(("other.weight", "up.weight"), ("down.weight",))}


def test_a_forward_that_fails_claims_nothing():
    def body(self, t):
        h = self.down(self.up(t))
        raise ValueError(h.shape)

    model = Net(body, up=nn.Linear(4, 6), down=nn.Linear(6, 3))
    report = analyze(model, x(2, 4))
    assert report.folds == ()
    assert report.failures


def test_the_output_under_the_tracer_is_the_output():
    model = mlp(lambda self, h: F.gelu(h))
    graphs = recursive_trace(model, x(2, 4))
    assert graphs.replay(model)


def test_a_fault_of_the_tracer_is_no_failure_of_the_model(monkeypatch):
    from mtcore.trace.storage import StoragePlanes

    def broken(self, tensor, shadow):
        raise RuntimeError("bookkeeping")

    model = mlp(lambda self, h: h)
    monkeypatch.setattr(StoragePlanes, "birth", lambda self, tensor, shadow: None)
    monkeypatch.setattr(StoragePlanes, "write", broken)
    report = analyze(mlp(lambda self, h: h.relu_()), x(2, 4))
    assert report.failures == ()
    assert report.folds == ()
    assert "bookkeeping" in report.rule_errors[0].what
    assert [c.name for c in report.called] == ["", "up", "down"]
    assert analyze(model, x(2, 4)).rule_errors == ()
