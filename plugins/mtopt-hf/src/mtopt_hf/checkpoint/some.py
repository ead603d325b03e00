"""Names in a message: the first ones, how many more there are, and the rule that leaves them out."""

from __future__ import annotations

from collections.abc import Iterable

from mtcore.plan import leave_out

_EXCLUDE = "exclude it"

_SHOWN = 3  # modules named in one problem; a large model has thousands


def some(names: Iterable[str]) -> str:
    """The first names, each once, and how many more there are.

    Example:
        >>> some(["a", "b", "a", "c", "d"])
        'a, b, c and 1 more'
    """
    known = list(dict.fromkeys(names))
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def with_remedy(problem: str, modules: Iterable[str]) -> str:
    """A problem that ends in "exclude it", with the rule that does."""
    return problem.removesuffix(_EXCLUDE) + leave_out(modules) if problem.endswith(_EXCLUDE) else problem


def together(problems: Iterable[tuple[str, str]]) -> list[str]:
    """(name, problem) pairs, those with one problem on one line.

    Example:
        >>> together([("up", "too wide"), ("down", "too wide")])
        ['up, down: too wide']
    """
    names: dict[str, list[str]] = {}
    for name, problem in problems:
        names.setdefault(problem, []).append(name)
    return [f"{some(same)}: {problem}" for problem, same in names.items()]
