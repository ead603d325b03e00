"""Spoils small checkpoints in thousands of ways, lints and opens each: `mutated_checkpoints.py --count 10000`.

Of every mutant it is asked: does `mtopt lint` end without an exception, soon, and without much memory? Does opening
it give one line that says what is wrong, or a model? And how much damage is not noticed at all?
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mtopt_hf.hooks
from mtcore.errors import MtcoreError
from mtcore.files import peak_bytes
from mtcore.lint import lint, open_checkpoint
from mtcore.plugins import Registry
from mtopt_hf.load import load_model

TESTS = Path(__file__).parents[1] / "plugins" / "mtopt-hf" / "tests" / "lint"
BASES = (
    "hf-llama",
    "mo-nvfp4",
    "mo-fp8-kv",
    "lc-nvfp4",
    "lc-w4a16-asym",
    "lc-fp8-kv",
    "mo-nvfp4-moe",
    "hf-qwen3-moe",
)
JUNK: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        3,
        2**31,
        2**63,
        10**30,
        1e308,
        "",
        "x",
        "re:(",
        "../..",
        "*",
        [],
        {},
        [[]],
        [None],
        {"": {}},
    ),
    ["re:((a+)+)+$"],
    "A" * 1000,
    {"num_bits": "8", "type": 3, "strategy": [], "dynamic": "x"},
)


def _drafts() -> Any:
    spec = importlib.util.spec_from_file_location("lint_drafts", TESTS / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def _shard(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(folder.glob("*.safetensors")))


def _header(file: Path) -> tuple[dict[str, Any], bytes]:
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def _put(file: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def flip_header(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    raw = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    for _ in range(rng.randint(1, 4)):
        raw[rng.randrange(8 + length)] = rng.randrange(256)
    file.write_bytes(bytes(raw))


def claim_length(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    claimed = rng.choice([0, 1, 8, 99_999_999, 100_000_001, 2**31, 2**40, 2**63, 2**64 - 1])
    file.write_bytes(struct.pack("<Q", claimed) + file.read_bytes()[8:])


def cut(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    raw = file.read_bytes()
    file.write_bytes(raw[: rng.randrange(len(raw))])


def lengthen(folder: Path, rng: random.Random) -> None:
    with _shard(folder, rng).open("ab") as stream:
        stream.write(rng.randbytes(rng.randint(1, 64)))


def entry(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    header, data = _header(file)
    name = rng.choice([name for name in header if name != "__metadata__"])
    match rng.randrange(5):
        case 0:
            header[name] = rng.choice(JUNK)
        case 1:
            header[name][rng.choice(["dtype", "shape", "data_offsets"])] = rng.choice(JUNK)
        case 2:
            header[name]["shape"] = [rng.choice([0, 1, 3, 2**40, -1, 128]) for _ in range(rng.randint(0, 4))]
        case 3:
            header[name]["data_offsets"] = [rng.randrange(len(data) + 9), rng.randrange(len(data) + 9)]
        case _:
            del header[name][rng.choice(["dtype", "shape", "data_offsets"])]
    _put(file, header, data)


def drop_tensor(folder: Path, rng: random.Random) -> None:
    """A tensor goes, and its data with it."""
    file = _shard(folder, rng)
    header, data = _header(file)
    name = rng.choice([name for name in header if name != "__metadata__"])
    first, last = header.pop(name)["data_offsets"]
    for other in header.values():
        if "data_offsets" in other and other["data_offsets"][0] >= last:
            other["data_offsets"] = [place - (last - first) for place in other["data_offsets"]]
    _put(file, header, data[:first] + data[last:])


def rename_tensor(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    header, data = _header(file)
    name = rng.choice([name for name in header if name != "__metadata__"])
    new = rng.choice(["", "x", name + "_", name.replace("layers.0", "layers.9"), name.upper(), "a" * 5000])
    header[new] = header.pop(name)
    _put(file, header, data)


def double_tensor(folder: Path, rng: random.Random) -> None:
    if rng.random() < 0.5:
        file = _shard(folder, rng)
        header, data = _header(file)
        name = rng.choice([name for name in header if name != "__metadata__"])
        text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}"
        file.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + data)
    else:
        shutil.copyfile(_shard(folder, rng), folder / "model-extra.safetensors")


def scale(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    header, data = _header(file)
    scales = [name for name in header if "scale" in name and name != "weight_scale"]
    if not scales:
        return lengthen(folder, rng)
    first, last = header[rng.choice(scales)]["data_offsets"]
    bad = rng.choice([b"\xff", b"\x7f", b"\x00", b"\x80"])
    _put(file, header, data[:first] + bad * (last - first) + data[last:])
    return None


def a_weight(folder: Path, rng: random.Random) -> None:
    file = _shard(folder, rng)
    header, data = _header(file)
    names = [name for name in header if name.endswith(("weight", "weight_packed", "qweight"))]
    first, _ = header[rng.choice(names)]["data_offsets"]
    _put(file, header, data[:first] + b"\1" + data[first + 1 :])


def json_value(folder: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(folder.glob("*.json")))
    content = json.loads(file.read_text())
    place, keys = content, []
    while isinstance(place, (dict, list)) and place and (not keys or rng.random() < 0.7):
        keys.append((place, rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))))
        place = place[keys[-1][1]]
    holder, key = keys[-1]
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = rng.choice(JUNK)
    file.write_text(json.dumps(content))


def json_text(folder: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(folder.glob("*.json")))
    raw = file.read_bytes()
    at = rng.randrange(len(raw))
    file.write_bytes(
        rng.choice(
            [
                raw[:at],
                raw[:at] + rng.randbytes(2) + raw[at + 2 :],
                b"",
                b"[" * 50_000,
                b"null",
                b"9" * 9000,
                raw + b"}",
            ]
        )
    )


def index(folder: Path, rng: random.Random) -> None:
    file = folder / "model.safetensors.index.json"
    content = json.loads(file.read_text())
    names = list(content["weight_map"])
    away = ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "", ".", "..", "nul\0", "no.safetensors", 3, None]
    for name in rng.sample(names, rng.randint(1, 3)):
        content["weight_map"][name] = rng.choice([*away, *content["weight_map"].values()])
    file.write_text(json.dumps(content))


def file_kind(folder: Path, rng: random.Random) -> None:
    file = rng.choice([*sorted(folder.glob("*.safetensors")), folder / "config.json"])
    kept = folder.parent / f"{folder.name}.outside"
    match rng.randrange(6):
        case 0:
            file.unlink()
        case 1:
            shutil.move(file, kept)
            file.symlink_to(kept)
        case 2:
            file.unlink()
            file.symlink_to(file)
        case 3:
            file.unlink()
            file.mkdir()
        case 4:
            file.unlink()
            os.mkfifo(file)
        case _:
            shutil.move(file, file.with_name("renamed" + file.suffix))


def other_config(folder: Path, rng: random.Random) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(
        rng.choice([{"hidden_size": 96}, {"vocab_size": 999}, {"num_hidden_layers": 3}, {"model_type": "gpt2"}])
    )
    (folder / "config.json").write_text(json.dumps(config))


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "bytes of the header": flip_header,
    "length of the header": claim_length,
    "cut": cut,
    "lengthened": lengthen,
    "an entry of the header": entry,
    "a tensor dropped": drop_tensor,
    "a tensor renamed": rename_tensor,
    "a tensor doubled": double_tensor,
    "a scale": scale,
    "a weight": a_weight,
    "a value in a JSON file": json_value,
    "the text of a JSON file": json_text,
    "the index": index,
    "the kind of a file": file_kind,
    "the config of another model": other_config,
}


@dataclass
class Outcome:
    """What happened to the mutants: by kind, how many, how many were noticed by lint, and by loading."""

    count: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    loaded: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(count: int, seed: int, *, load_every: int = 1) -> Outcome:
    """Spoil, lint and open `count` checkpoints.

    Args:
        load_every: open only each so many-th of the unquantized ones; opening costs the most.
    """
    drafts, rng = _drafts(), random.Random(seed)
    registry = Registry.load([mtopt_hf.hooks], discover=False)
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as place:
        for number in range(count):
            kind, base = rng.choice(list(KINDS)), rng.choice(BASES)
            shards = 3 if kind == "the index" else rng.choice([1, 3])
            folder = drafts.load_peer(base).write(Path(place, str(number)), shards)
            before = set(
                lint(open_checkpoint(folder), registry.clients.values(), registry.lint_rules.values()).findings
            )
            KINDS[kind](folder, rng)
            _judge(folder, kind, f"{number} ({kind}, {base})", registry, before, outcome)
            if base.startswith("hf-") and number % load_every == 0:
                _open(folder, kind, f"{number} ({kind}, {base})", outcome)
            shutil.rmtree(folder)
            Path(f"{folder}.outside").unlink(missing_ok=True)
    return outcome


def _judge(folder: Path, kind: str, who: str, registry: Registry, before: set[Any], outcome: Outcome) -> None:
    start = time.process_time()
    outcome.count[kind] += 1
    try:
        report = lint(open_checkpoint(folder), registry.clients.values(), registry.lint_rules.values())
        json.dumps(report.to_json())
        outcome.noticed[kind] += (
            not {finding for finding in report.findings if finding.severity != "note"} <= before
        )
        if any("\n" in finding.why for finding in report.findings):
            outcome.faults.append(f"{who}: a reason of several lines")
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        outcome.faults.append(f"{who}: lint raised {type(error).__name__}: {error}")
    outcome.slowest = max(outcome.slowest, time.process_time() - start)


def _open(folder: Path, kind: str, who: str, outcome: Outcome) -> None:
    outcome.loaded += 1
    try:
        load_model(str(folder))
    except MtcoreError as error:
        outcome.refused[kind] += 1
        if "\n" in str(error) or len(str(error)) > 4000:
            outcome.faults.append(f"{who}: no clear line: {str(error)[:200]!r}")
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        outcome.faults.append(f"{who}: loading raised {type(error).__name__}: {str(error)[:200]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load-every", type=int, default=1)
    arguments = parser.parse_args()
    before, start = peak_bytes() or 0, time.process_time()
    outcome = run(arguments.count, arguments.seed, load_every=arguments.load_every)
    print(f"{'kind':30} mutants noticed refused by loading")
    for kind in KINDS:
        print(f"{kind:30} {outcome.count[kind]:7} {outcome.noticed[kind]:7} {outcome.refused[kind]:7}")
    print(
        f"{arguments.count} mutants linted, {outcome.loaded} of them opened, {len(outcome.faults)} faults of ours"
    )
    grown = ((peak_bytes() or 0) - before) / 2**20
    took = time.process_time() - start
    print(f"slowest lint {outcome.slowest:.2f} CPU s, memory grew by {grown:.0f} MiB, {took:.0f} CPU s in all")
    for fault in outcome.faults[:20]:
        print(" ", fault)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
