"""What layers do for each other, found by the tracer and expected by an oracle that does not use the tracer.

An oracle looks at names, at the values that modules read, and at the outputs of scaled copies of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.trace.folds import FoldGroup
from mtcore.trace.invariance import Invariance
from mtcore.trace.report import TraceReport
from mtcore.trace.slices import Slices

SIBLINGS = {
    "qkv_shared": [
        {"q_proj", "k_proj", "v_proj"},
        {"query", "key", "value"},
        {"q_lin", "k_lin", "v_lin"},
        set("qkv"),
    ],
    "gate_up_shared": [{"gate_proj", "up_proj"}, {"w1", "w3"}, {"wi_0", "wi_1"}],
}
"""Modules that read one value, if the values that they read are equal."""

CHAINS = {
    "v_o": [("v_proj", "o_proj"), ("v_proj", "out_proj"), ("v_proj", "dense"), ("v", "o"), ("v_lin", "out_lin")],
    "up_down": [("up_proj", "down_proj"), ("w3", "w2"), ("wi_1", "wo")],
}
"""The first's rows times s and the second's columns divided by s: expected where the outputs then stay."""

WIDTHS = [
    ("up_proj", "down_proj"),
    ("gate_proj", "down_proj"),
    ("fc1", "fc2"),
    ("c_fc", "c_proj"),
    ("w1", "w2"),
    ("wi", "wo"),
    ("wi_1", "wo"),
    ("lin1", "lin2"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("intermediate.dense", "output.dense"),
    ("intermediate_dense", "output_dense"),
]
"""The rows of the first and the columns of the second are the width of one MLP."""

ROLES = (*SIBLINGS, *CHAINS, "mlp_dim", "residual")
Marks = dict[str, tuple[list[str], list[str]]]


def roles(model: nn.Module, inputs: Mapping[str, Any], report: TraceReport, invariance: Invariance) -> Marks:
    """By role, the instances that were found and those that were expected but missed."""
    read = _values_read(model, inputs)
    linear = {n for n, m in model.named_modules() if n in read and getattr(_weight(m), "ndim", 0) == 2}
    shared = [set(group.modules) for group in report.shared_inputs]
    out: Marks = {role: ([], []) for role in ROLES}

    def mark(role: str, name: str, *, found: bool) -> None:
        out[role][0 if found else 1].append(name)

    for role, patterns in SIBLINGS.items():
        for parent, names in _instances(linear, patterns):
            if all(_equal(read[names[0]], read[name]) for name in names[1:]):
                mark(role, parent, found=any(set(names) <= group for group in shared))
    for role, chains in CHAINS.items():
        for parent, (first, second) in _instances(linear, chains):
            if any(bool(x.any()) for x in read[first]) and _scales(model, invariance, first, second):
                mark(role, parent, found=_linked(model, report, first, second))
    for parent, (first, second) in _instances(linear, WIDTHS):
        mark("mlp_dim", parent, found=_one_width(model, report, first, second))
    if (stream := _stream(model, read)) is not None:
        mark("residual", "", found=_in_one_group(report, stream))
    return out


def _instances(linear: set[str], patterns: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """Parents with the names of a pattern below them; each parent once."""
    for parent in dict.fromkeys(_parents(linear)):
        for pattern in patterns:
            names = [
                f"{parent}.{n}" if parent else n for n in (sorted(pattern) if isinstance(pattern, set) else pattern)
            ]
            if set(names) <= linear:
                yield parent, names
                break


def _parents(names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        parent = name.rpartition(".")[0]
        yield parent
        yield parent.rpartition(".")[0]


def _weight(module: nn.Module) -> Tensor | None:
    weight = module._parameters.get("weight")
    return weight if not isinstance(module, nn.Embedding) else None


def _values_read(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, list[Tensor]]:
    """The first tensor that each module was called with, call by call, in the order of the first calls."""
    read: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            read.setdefault(name, []).append(tensors[0].detach().clone() if tensors else torch.empty(0))

        return note

    hooks = [m.register_forward_pre_hook(watch(n), with_kwargs=True) for n, m in model.named_modules() if n]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return read


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(
        x.numel() == y.numel() and torch.equal(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)
    )


def _scales(model: nn.Module, invariance: Invariance, first: str, second: str) -> bool:
    """Whether rows of one layer and columns of the other may be scaled; head h of many reads h // repeats."""
    a, b = model.get_submodule(first), model.get_submodule(second)
    if not isinstance(a, nn.Linear) or not isinstance(b, nn.Linear):
        return False
    rows, columns = a.out_features, b.in_features
    if columns % rows:
        return False
    head = getattr(model.get_submodule(first.rpartition(".")[0]), "head_dim", rows)
    if not isinstance(head, int) or rows % head:
        return False
    channel = torch.arange(rows).view(-1, head).repeat_interleave(columns // rows, 0).flatten()
    up = [Slices(_name(model, p), (0,), tuple(range(rows)), tuple(range(rows))) for p in a.parameters()]
    down = Slices(_name(model, b.weight), (1,), tuple(range(columns)), tuple(channel.tolist()))
    check = invariance.check(FoldGroup(f"{first} → {second}", rows, tuple(up), (down,)))
    return check.exact and check.effect > 1e-9


def _name(model: nn.Module, parameter: Tensor) -> str:
    """The first name of a parameter, which may have several."""
    return next(name for name, p in model.named_parameters() if p is parameter)


def _linked(model: nn.Module, report: TraceReport, first: str, second: str) -> bool:
    a, b = (_name(model, model.get_submodule(n).weight) for n in (first, second))
    sides = [({s.parameter for s in g.up}, {s.parameter for s in g.down}) for g in report.folds]
    return any((a in up and b in down) or (b in up and a in down) for up, down in sides)


def _one_width(model: nn.Module, report: TraceReport, first: str, second: str) -> bool:
    """Whether every input channel of the second lies in a group with the first."""
    a, b = (_name(model, model.get_submodule(n).weight) for n in (first, second))
    together = [g for g in report.symbols if {a, b} <= set(g.parameters)]
    covered = {(s.axes, i) for g in together for s in g.members if s.parameter == b for i in s.indices}
    weight = model.get_parameter(b)
    module = model.get_submodule(second)
    return len(covered) >= (weight.shape[0] if "Conv1D" in type(module).__name__ else weight.shape[1])


def _stream(model: nn.Module, read: Mapping[str, list[Tensor]]) -> list[set[str]] | None:
    """Sets of parameters, of each of which one lies on the residual stream.

    They are those of the embedding, of each block, and of the norm if one is called next after the blocks.

    None where there is no stack of blocks as deep as the config says, or the embedding has another width.
    """
    config = getattr(getattr(model, "config", None), "get_text_config", lambda: None)()
    depth, width = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    try:
        embedding = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    names = {id(m): n for n, m in model.named_modules()}
    if not isinstance(embedding, nn.Embedding) or embedding.embedding_dim != width:
        return None
    stacks = [
        (n, m)
        for n, m in model.named_modules()
        if isinstance(m, nn.ModuleList) and len(m) == depth and all(f"{n}.{i}" in read for i in range(depth))
    ]
    if not stacks or names[id(embedding)] not in read:
        return None
    here = names[id(embedding)]
    stack, members = max(stacks, key=lambda s: _common(s[0], here))
    first_names = {id(p): n for n, p in model.named_parameters()}
    blocks = [{first_names[id(p)] for p in block.parameters()} for block in members]
    order = list(read)
    after = order[max(order.index(n) for n in order if n.startswith(f"{stack}.")) + 1 :]
    own = [list(model.get_submodule(n).parameters(recurse=False)) for n in after[:1]]
    norms = [parameters for parameters in own if parameters and tuple(parameters[0].shape) == (width,)]
    last = [{first_names[id(p)] for p in norms[0]}] if norms else []
    return [{first_names[id(embedding.weight)]}, *blocks, *last]


def _common(a: str, b: str) -> int:
    """How many of the first parts two dotted names share."""
    pairs = zip(a.split("."), b.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _in_one_group(report: TraceReport, parts: list[set[str]]) -> bool:
    return any(all(part & set(group.parameters) for part in parts) for group in report.symbols)
