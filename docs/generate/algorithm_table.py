"""Writes docs/reference/algorithms.md: every calibration algorithm with its options, from the records."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtcore.calibration import AlgorithmSpec, builtin_algorithms, options_help
from mtcore.recipe.foreign.algorithms import FOREIGN

TARGET = Path(__file__).parents[1] / "reference" / "algorithms.md"

HEAD = """# Calibration algorithms

`docs/generate/algorithm_table.py` wrote this page from the algorithms' records. `mtopt algorithms` lists them,
`mtopt algorithms gptq` shows one. A recipe names one, or several that run in order:

```yaml
include: nvfp4
algorithm:
  - {method: smoothquant, size: rms}
  - {method: gptq, order: importance}
```

On the line: `--set algorithm.method=mse --set algorithm.sweep=false`, or
`--set "algorithm=[smoothquant, gptq]"`.
Names, options and their limits are checked before anything is loaded. How statistics, chains and bad data are
treated is told under [Calibration](../explanation/calibration.md); what each algorithm gives on a real model under
[Accuracy](accuracy.md).

"""

ORDER = """
**In what order.** First what turns or scales channels (`rotate`, `smoothquant`, `awq`), then what sets scales
(`max`, `percentile`, `entropy`, `mse`, `local_hessian`, `headroom`), last what rounds or splits weights (`gptq`,
`autoround`, `svdquant`).

The first step sets every scale, as `max` does where it is about something else. A later one changes what it
is about and keeps the rest: `[percentile, gptq]` cuts activations off and rounds weights, `[mse, {method:
headroom}]` searches weights and gives activations room. A chain that would undo its own rounding, such as
`[gptq, smoothquant]`, is refused; of one whose
step has no effect the plan tells.
"""

ELSEWHERE = """
## Under other names

A configuration of Model-Optimizer (`quant_cfg`) is read with its own names, options and defaults:

| Model-Optimizer | here |
|---|---|
"""


def page(specs: Iterable[AlgorithmSpec]) -> str:
    """The whole page."""
    known = tuple(specs)
    lines = ["| algorithm | what it does | what it costs |", "|---|---|---|"]
    lines += [f"| [`{spec.name}`](#{spec.name}) | {spec.summary} | {spec.cost} |" for spec in known]
    sections = [line for spec in known for line in section(spec)]
    return HEAD + "\n".join(lines) + "\n" + ORDER + "\n".join(sections) + "\n" + ELSEWHERE + elsewhere()


def section(spec: AlgorithmSpec) -> Iterator[str]:
    """One algorithm: what it does, and its options."""
    yield from ("", f"({spec.name})=", f"## {spec.name}", "", f"{spec.summary[0].upper()}{spec.summary[1:]}.")
    if spec.linear_only:
        layers = "linear layers and stacked experts" if spec.experts else "linear layers"
        yield f"For {layers}; weights of others get what `max` gives, and the plan names them."
    options = options_help(spec.options)
    if options:
        yield from ("", "| option | default | allowed | what it means |", "|---|---|---|---|")
        yield from (f"| `{o.name}` | `{o.default}` | {o.allowed} | {o.meaning} |" for o in options)


def elsewhere() -> str:
    """One row an algorithm of Model-Optimizer."""
    rows = []
    for name, known in FOREIGN.items():
        options = {"1 / alpha_step" if there == "alpha_step" else there: o for there, o in known.options.items()}
        renamed = "".join(f"; `{there}` is `{here}`" for there, here in options.items() if there != here)
        rows.append(f"| `{name}` | `{known.here}`{renamed} |\n")
    return "".join(rows)


def main() -> int:
    known = tuple(builtin_algorithms())
    TARGET.write_text(page(known), encoding="utf-8")
    sys.stdout.write(f"{TARGET}: {len(known)} algorithms\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
