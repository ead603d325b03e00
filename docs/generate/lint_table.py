"""Writes docs/reference/lint.md: every lint rule and client that the built-ins and mtopt-hf bring."""

from __future__ import annotations

import sys
from pathlib import Path

import mtopt_hf.hooks
from mtcore.lint import EVERYONE, RuleSpec
from mtcore.plugins import Registry

TARGET = Path(__file__).parents[1] / "reference" / "lint.md"

HEAD = """# Lint rules

`docs/generate/lint_table.py` wrote this page. `mtopt lint DIR` reads headers, JSON files and scales of a
checkpoint, whoever wrote it, and says by these rules what clients will do with it. It never reads a weight; of a
tensor of scales larger than 64 KiB it reads four pieces, unless `--all` is given.

An **error** means that the client refuses the checkpoint or computes wrong numbers, a **warning** that it loses
accuracy, ignores something that was written or has to be told how to load it, a **note** is good to know. The
exit code is 1 where a client named by `--client` has an error; with none named, where all have one.

A plugin adds clients with `mtcore_clients` and rules with `mtcore_lint_rules`; `mtcore.testing.LintRuleContract`
tests a rule.

"""


def page(registry: Registry) -> str:
    """The whole page."""
    clients = [f"| `{one.name}` | {one.summary} |" for one in registry.clients.values()]
    table = ["| client | what its rules were taken from |", "|---|---|", *clients, ""]
    table += [f"## {len(registry.lint_rules)} rules", "", "| rule | what must hold | otherwise |", "|---|---|---|"]
    table += [f"| `{rule.name}` | {rule.summary} | {severities(rule)} |" for rule in registry.lint_rules.values()]
    return HEAD + "\n".join(table) + "\n"


def severities(rule: RuleSpec) -> str:
    """ "error" for all, or client by client."""
    named = {client: severity for client, severity in rule.severity.items() if client != EVERYONE}
    parts = []
    for severity in dict.fromkeys(named.values()):
        parts.append(f"{severity} ({', '.join(client for client, one in named.items() if one == severity)})")
    if EVERYONE in rule.severity:
        parts.append(f"{rule.severity[EVERYONE]}{' (others)' if named else ''}")
    return ", ".join(parts)


def main() -> int:
    registry = Registry.load([mtopt_hf.hooks], discover=False)
    TARGET.write_text(page(registry))
    sys.stdout.write(f"{TARGET}: {len(registry.lint_rules)} rules, {len(registry.clients)} clients\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
