"""Folding: names that differ only in their numbers, written as one name with ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import prod

_INNER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""Of a layer in a list; a number at an end may be all that tells a module from its neighbours."""
_NUMBER = re.compile(r"(?<![^._\[])\d+(?![^._\]])")


def skeleton(name: str) -> str:
    """The name with its numbers left out; names of one skeleton may be folded.

    Example:
        >>> skeleton("model.layers.11.mlp.up_proj"), skeleton("conv1.weight")
        ('model.layers.*.mlp.up_proj', 'conv1.weight')
    """
    return _NUMBER.sub("*", name)


def fold_names(names: Sequence[str]) -> str:
    """One name for all of `names`, which share a skeleton; '*' where the numbers form no full grid.

    Example:
        >>> fold_names([f"layers.{i}.up" for i in range(4)])
        'layers.[0-3].up'
        >>> fold_names(["layers.0.up", "layers.2.up", "layers.3.up"])
        'layers.[0,2-3].up'
        >>> fold_names([f"layers.{i}.up + layers.{i}.down" for i in range(4)])  # numbers that move together
        'layers.[0-3].up + layers.[0-3].down'
    """
    numbers = [tuple(map(int, _NUMBER.findall(name))) for name in names]
    axes = list(zip(*numbers, strict=True))
    full = prod(len(set(axis)) for axis in set(axes)) == len(set(numbers))
    spans = iter(_span(sorted(set(axis))) if full else "*" for axis in axes)
    return _NUMBER.sub(lambda _: next(spans), names[0])


def folded(findings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(name, message) pairs; those of one message whose names differ only in their numbers become one.

    Example:
        >>> folded([("layers.0.up", "too narrow"), ("layers.1.up", "too narrow"), ("head", "too narrow")])
        [('layers.[0-1].up', 'too narrow'), ('head', 'too narrow')]
    """
    names: dict[tuple[str, str], list[str]] = {}
    for name, message in findings:
        names.setdefault((skeleton(name), message), []).append(name)
    return [(fold_names(same), message) for (_, message), same in names.items()]


def leave_out(names: Iterable[str]) -> str:
    """What a user adds to a recipe to leave these modules as they are, and their like in other layers.

    Example:
        >>> print(leave_out(["layers.0.up", "layers.1.up"]))
        leave it out: --set 'rules.+={modules: ["layers.*.up"], skip: true}'
    """
    patterns = ", ".join(dict.fromkeys(f'"{_INNER_NUMBER.sub("*", name)}"' for name in names))
    return f"leave it out: --set 'rules.+={{modules: [{patterns}], skip: true}}'"


def _span(values: Sequence[int]) -> str:
    """'3' for one value, '[0-3,7]' for several."""
    if len(values) == 1:
        return str(values[0])
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return f"[{','.join(str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in runs)}]"
