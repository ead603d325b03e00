"""The built-in rules for checkpoint files, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.lint.spec import RuleSpec


@hookimpl
def mtcore_lint_rules() -> Iterable[RuleSpec]:
    from mtcore.lint import file_rules

    return file_rules()
