"""Scans: the recurrence of selective state spaces, as one kernel."""

from __future__ import annotations

import torch

from mtcore.trace.planes import Shadow, spread
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import RuleFunction


def scan(*, x: int = 0, dt: int = 1, a: int = 2, b: int = 3, c: int = 4, d: int | None = None) -> RuleFunction:
    """The rule of h_t = exp(dt_t a) h_{t-1} + dt_t b_t x_t, y_t = c_t · h_t + d x_t, by the places of its operands.

    With D channels, N states and L tokens: x and dt [..., D, L], a [D, N], b and c [..., N, L], d [D], and the
    result [..., D, L]. Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
    section 3.2, with the simplified discretisation of b.

    The result scales with x; b and c cancel along the states; dt, a and d keep their values. A channel of x exists
    with its dt, its row of a and its d, a state of b with that of c and with its column of a.

    Example:
        >>> from mtcore.trace import TraceRuleSpec
        >>> TraceRuleSpec("ssm::selective_scan", scan(d=5)).name
        'ssm::selective_scan'
    """

    def rule(context: RuleContext, call: Call) -> Shadow:
        given, steps, decay = (context.get(call.args[place]) for place in (x, dt, a))
        shape = call.args[x].shape
        time = len(shape) - 1
        for held in (steps, decay):
            context.pin(held)
        for tokens in (given, steps):
            for plane in tokens.dim:
                context.statistic(plane, [time])
        lines = context.equal_along(given, [time])
        _states(context, call, (b, c, a))
        channels = context.meet(Shadow((), given.dim), Shadow((), steps.dim), shape, shape)
        rows = Shadow((), tuple(p[:, :1] for p in decay.dim if p.stride(1) == 0 or p.shape[1] == 1))
        column = torch.Size([call.args[a].shape[0], 1])
        channels = context.meet(Shadow((), channels), rows, shape, column)
        out = Shadow(spread(lines, shape), channels, given.wild)
        if d is None or len(call.args) <= d or call.args[d] is None:
            return out
        weight = context.get(call.args[d])
        own = Shadow(tuple(p[:, None] for p in weight.scale), tuple(p[:, None] for p in weight.dim), weight.wild)
        through = context.multiply(given, own, shape, column)
        return context.add(out, through, shape, shape)

    return rule


def _states(context: RuleContext, call: Call, places: tuple[int, int, int]) -> None:
    """b and c are contracted over the states at every pair of tokens; a has a column for each state."""
    into, out, decay = (context.get(call.args[place]) for place in places)
    shape = call.args[places[0]].shape
    turned = [tuple(p.mT for p in planes) for planes in (out.scale, out.dim)]
    across = [*shape[:-2], shape[-1], shape[-2]]
    products = context.contract(Shadow(turned[0], turned[1], out.wild), into, across, shape)
    context.pin(products)
    columns = Shadow((), tuple(p[:1].mT for p in decay.dim if p.stride(0) == 0 or p.shape[0] == 1))
    context.meet(Shadow((), into.dim), columns, shape, torch.Size([shape[-2], 1]))
