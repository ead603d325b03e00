"""Residual streams: channels that some matrices write, others read, and norms scale."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mtcore.trace import Slices, SymGroup


def residual_streams(model: nn.Module, symbols: Iterable[SymGroup]) -> tuple[SymGroup, ...]:
    """The groups of channels that are rows of some matrices, columns of others, and elements of some vector.

    Whether their channels may be turned, only numbers say.
    """
    return tuple(
        group for group in symbols if {"rows", "columns", "vector"} <= {_kind(model, m) for m in group.members}
    )


def _kind(model: nn.Module, member: Slices) -> str:
    last = model.get_parameter(member.parameter).dim() - 1
    if last == 0:
        return "vector"
    return "columns" if last in member.axes else "rows"
