"""OpRules: which rule handles which operation; third parties add theirs in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mtcore.errors import TraceError
from mtcore.trace.planes import Shadow

if TYPE_CHECKING:
    from mtcore.trace.rules.context import Call, RuleContext

RuleFunction = Callable[["RuleContext", "Call"], Shadow | Iterable[Shadow]]
"""Emits the operation's demands and returns the shadows of its results, in order."""

Replace = Callable[["Call"], Tensor | tuple[Tensor, ...] | None]
"""Gives the result instead of the operation, or None to let it run."""


@dataclass(frozen=True)
class Rule:
    """`makes_labels`: run it even when no operand has labels (a factory of zeros)."""

    run: RuleFunction
    makes_labels: bool = False


@dataclass(frozen=True)
class TraceRuleSpec:
    """The rule of one operation, as a record.

    Attributes:
        name: of the operation, without overload: "mylib::attend". Its in-place form `mylib::attend_` uses it too.
        run: emits the operation's demands and returns the shadows of its results, in order.
        makes_labels: run it even when no operand has labels.
        answer: gives the result instead of the operation where that depends on data (the experts of a router),
            or None to let it run.

    Raises:
        TraceError: a name that no operation is looked up by.

    Example:
        >>> TraceRuleSpec("mylib::shuffle", lambda context, call: context.get(call.args[0])).makes_labels
        False
        >>> TraceRuleSpec("shuffle", lambda context, call: context.get(call.args[0]))
        Traceback (most recent call last):
        mtcore.errors.TraceError: trace rule 'shuffle': name the operation as 'library::operation', without overload
    """

    name: str
    run: RuleFunction
    makes_labels: bool = False
    answer: Replace | None = None

    def __post_init__(self) -> None:
        library, _, op = self.name.partition("::")
        if not library or not op or "." in op:
            raise TraceError(
                f"trace rule {self.name!r}: name the operation as 'library::operation', without overload"
            )
        if op.endswith("_") and not op.endswith("__"):
            raise TraceError(
                f"trace rule {self.name!r}: an in-place form uses the plain one's; name it {self.name[:-1]!r}"
            )


class OpRules:
    """Rules by operation name, 'aten::add' or 'mylib::attend'; an in-place or out= form uses the plain one's.

    Example:
        >>> rules = OpRules()
        >>> rules.add("mylib::shuffle", lambda context, call: context.get(call.args[0]))
        >>> rules.find("mylib::shuffle") is not None
        True
    """

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._replacements: dict[str, Replace] = {}

    @classmethod
    def of(cls, specs: Iterable[TraceRuleSpec]) -> OpRules:
        """The rules of these records."""
        rules = cls()
        for spec in specs:
            rules.add(spec.name, spec.run, makes_labels=spec.makes_labels)
            if spec.answer is not None:
                rules.replace(spec.name, spec.answer)
        return rules

    def specs(self) -> tuple[TraceRuleSpec, ...]:
        """The rules as records, in the order in which their names were first registered."""
        return tuple(
            TraceRuleSpec(name, rule.run, rule.makes_labels, self._replacements.get(name))
            for name, rule in self._rules.items()
        )

    def add(self, names: str | Iterable[str], run: RuleFunction, *, makes_labels: bool = False) -> None:
        """Registers a rule; a later one for the same name wins."""
        for name in [names] if isinstance(names, str) else names:
            self._rules[name] = Rule(run, makes_labels)

    def replace(self, name: str, with_: Replace) -> None:
        """Lets `with_` answer instead of an operation, to steer what depends on data (expert routing)."""
        self._replacements[name] = with_

    def find(self, name: str) -> Rule | None:
        return self._rules.get(name)

    def answers(self, name: str) -> bool:
        """Whether something may answer instead of the operation."""
        return name in self._replacements

    def forced(self, call: Call) -> Tensor | tuple[Tensor, ...] | None:
        """The answer that takes the operation's place, if there is one."""
        replacement = self._replacements.get(call.name)
        return replacement(call) if replacement is not None else None


def aten(words: str) -> tuple[str, ...]:
    """The full names of ATen operations.

    Example:
        >>> aten("add mul")
        ('aten::add', 'aten::mul')
    """
    return tuple(f"aten::{word}" for word in words.split())
