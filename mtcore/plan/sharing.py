"""Parameters that several modules share: quantizing one of the modules would untie them."""

from __future__ import annotations

from torch import nn


def shared_parameters(model: nn.Module) -> dict[str, str]:
    """Module name → why it must stay, for every module that holds a parameter which another module holds too.

    The same module object under two names (a shared layer) is no such case: it stays one object.
    """
    holders: dict[int, list[tuple[str, str]]] = {}
    for name, module in model.named_modules():
        for parameter, value in module._parameters.items():
            if value is not None:
                holders.setdefault(id(value), []).append((name, parameter))
    reasons = {}
    for places in holders.values():
        for name, parameter in places:
            others = [other for other, _ in places if other != name]
            if others:
                reasons[name] = (
                    f"its {parameter} is tied to that of {others[0]}; quantizing one of them would untie the two"
                )
    return reasons
