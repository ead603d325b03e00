"""The symbols of torch's own layers."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mtcore.trace.symbols import CLType, Symbol, SymbolRules, SymInfo

LAST = frozenset({-1})
CHANNEL = frozenset({1})


def builtin_symbols() -> SymbolRules:
    """A new registry with the symbols of linear layers, convolutions, norms and embeddings."""
    rules = SymbolRules()
    rules.register(nn.Linear)(linear)
    rules.register([nn.Conv1d, nn.Conv2d, nn.Conv3d])(convolution)
    rules.register([nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])(convolution)
    rules.register([nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])(channel_norm)
    rules.register(nn.LayerNorm)(last_norm)
    rules.register(nn.RMSNorm)(last_norm)
    rules.register(nn.GroupNorm)(group_norm)
    rules.register(nn.Embedding)(embedding)
    return rules


def linear(module: nn.Module) -> SymInfo:
    return _in_out("in_features", "out_features", 1, 0, LAST)


def convolution(module: nn.Module) -> SymInfo:
    assert isinstance(module, _ConvNd)
    into, out = (0, 1) if isinstance(module, _ConvTransposeNd) else (1, 0)
    info = _in_out("in_channels", "out_channels", into, out, CHANNEL)
    if module.groups > 1 and module.in_channels != module.out_channels:
        for symbol in info.symbols.values():
            symbol.disable()
    return info


def channel_norm(module: nn.Module) -> SymInfo:
    assert isinstance(module, _BatchNorm)
    return _norm("num_features", CHANNEL)


def last_norm(module: nn.Module) -> SymInfo:
    return _norm("normalized_shape", LAST)


def group_norm(module: nn.Module) -> SymInfo:
    info = _norm("num_channels", CHANNEL)
    info.symbols["num_channels"].disable()
    return info


def embedding(module: nn.Module) -> SymInfo:
    out = Symbol(is_searchable=True, cl_type=CLType.OUTGOING, elastic_dims=LAST, parameter="weight", axis=1)
    return SymInfo({"embedding_dim": out})


def _in_out(into: str, out: str, in_axis: int, out_axis: int, dims: frozenset[int]) -> SymInfo:
    return SymInfo(
        {
            into: Symbol(cl_type=CLType.INCOMING, elastic_dims=dims, parameter="weight", axis=in_axis),
            out: Symbol(
                is_searchable=True, cl_type=CLType.OUTGOING, elastic_dims=dims, parameter="weight", axis=out_axis
            ),
        }
    )


def _norm(name: str, dims: frozenset[int]) -> SymInfo:
    symbol = Symbol(cl_type=CLType.INCOMING, elastic_dims=dims, parameter="weight", axis=0)
    return SymInfo({name: symbol}, is_shape_preserving=True)
