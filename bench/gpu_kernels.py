"""Measures the kernels of mtopt-kernels on a CUDA GPU, beside torch's and nvidia-modelopt's: a table, and JSON.

    python bench/gpu_kernels.py --json out.json                          # everything, many minutes
    python bench/gpu_kernels.py --only streaming --formats fp8 nvfp4     # some of it, a minute
    python bench/gpu_kernels.py --only model --recipes bf16 fp8 --inductor token

Needs torch with CUDA, Triton, mtopt-kernels, and for the part `model` transformers; nvidia-modelopt is measured
where it is installed. Parts: streaming and quantizer (gpu_streaming.py), statistics, products, fp16 (gpu_half.py),
w4a8 and model (in files of these names).

Every result is checked before it is timed: bit for bit against mtcore.numerics, products against float64. Operands
are random and rotate past the L2 cache; launches are captured in a CUDA graph (rows marked "eager" are not); the
time is the median of several replays. "of copy": achieved bytes over those of a device-to-device copy of this run.

--compile-only fills the compilers' caches by every N-th launch, so that N processes share what takes long.
--inductor, of the models: what also runs compiled: forward, that of 32 texts (many), a token, or a token where
Inductor's kernels start before the last one has ended (early). All if it is not given, nothing if it names nothing;
it takes minutes. --layers-alone, of the models: also without computing layers together that read one value.
--json keeps what an earlier run on the same kind of card wrote there of the parts that this one leaves out, and of
the formats that --formats leaves out of the streaming kernels and the quantizers, with nvidia-modelopt's, and the
recipes that --recipes leaves out of the models. gpu_kernels_table.py makes docs/reference/kernels.md of such files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from gpu_bench import Bench
from gpu_half import half
from gpu_products import products
from gpu_statistics import statistics_of_values
from gpu_streaming import COLS, ELEMENTS, FORMATS, ROWS, quantizers, streaming
from gpu_w4a8 import w4a8


def model(bench: Bench) -> None:
    """See gpu_model.py."""
    from gpu_model import whole_model  # transformers is needed only for this

    whole_model(bench)


PARTS = {
    "streaming": streaming,
    "statistics": statistics_of_values,
    "quantizer": quantizers,
    "products": products,
    "fp16": half,
    "w4a8": w4a8,
    "model": model,
}


def kept(path: Path | None, device: str) -> list[dict[str, object]]:
    """The rows that earlier runs wrote to a file, but for that of the copy.

    Raises:
        SystemExit: they are another card's.
    """
    if path is None or not path.exists():
        return []
    known = json.loads(path.read_text())
    if known["device"] != device:
        raise SystemExit(f"{path} holds results of one {known['device']}, this is one {device}: name another file")
    return [row for row in known["rows"] if row["part"] != "copy"]


def written(path: Path, device: str, rows: list[dict[str, object]]) -> None:
    """Write all rows, in the order of the parts."""
    order = {name: number for number, name in enumerate(("copy", *PARTS))}
    rows = sorted(rows, key=lambda row: order[str(row["part"])])
    path.write_text(json.dumps({"device": device, "rows": rows}, indent=1) + "\n")


def copied(bench: Bench) -> None:
    """Measure what all else is held against."""
    sources = [torch.randn(ROWS, COLS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    targets = [torch.empty_like(x) for x in sources]
    calls = [lambda a=a, b=b: a.copy_(b) for a, b in zip(targets, sources, strict=True)]
    bench.copy = 4 * ELEMENTS / bench.row("copy", calls, 4 * ELEMENTS) / 1e3


def share(text: str) -> tuple[int, int]:
    """I and N of "I/N"."""
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 0 to N - 1, such as 0/4")
    return int(number), int(of)


def arguments() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS, formatter_class=formatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run; else all")
    parser.add_argument("--json", type=Path, help="file of results, made or added to")
    parser.add_argument(
        "--compile-only", type=share, metavar="I/N", help="make every N-th launch from I on, time none"
    )
    parser.add_argument(
        "--inductor", nargs="*", choices=("forward", "many", "token", "early"),
        default=["forward", "many", "token", "early"],
        help="what of the models runs under torch.compile as well; else all",
    )  # fmt: skip
    parser.add_argument("--layers-alone", action="store_true", help="of the models, as well")
    parser.add_argument("--recipes", nargs="+", default=[], help="of the models; else all of gpu_model.py")
    parser.add_argument(
        "--formats", nargs="+", choices=[fmt.name for fmt in FORMATS], default=[], metavar="NAME",
        help=f"of the streaming kernels and quantizers; else all: {', '.join(fmt.name for fmt in FORMATS)}",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if not torch.cuda.is_available():
        raise SystemExit(f"this times kernels on a CUDA GPU, and torch {torch.__version__} sees none here")
    bench = Bench(
        options.compile_only, inductor=options.inductor, formats=options.formats, recipes=options.recipes,
        layers_alone=options.layers_alone,
    )  # fmt: skip
    device = torch.cuda.get_device_properties(0)
    earlier = kept(options.json, device.name)
    bench.note(f"{device.name}, sm_{device.major}{device.minor}, torch {torch.__version__}")
    copied(bench)
    whole = set(options.only) - ({"streaming", "quantizer"} if options.formats else set())
    whole -= {"model"} if options.recipes else set()
    begun: set[str] = set()

    def save() -> None:
        now = {(row["part"], row["name"]) for row in bench.results}
        gone = whole & begun
        others = [row for row in earlier if row["part"] not in gone and (row["part"], row["name"]) not in now]
        written(options.json, device.name, others + bench.results)

    if options.json and bench.timing:
        bench.save = save
    for name in options.only:
        bench.part = name
        begun.add(name)
        PARTS[name](bench)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
