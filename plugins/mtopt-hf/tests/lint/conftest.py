"""Checkpoints that other tools wrote, and a way to spoil them.

`bench/lint_peers.py --record` made the files in `peers/`: JSON files, headers and scales. Weights are zeros here.
"""

import base64
import copy
import gzip
import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import mtopt_hf.hooks
from mtcore.lint import BITS, INDEX, SINGLE, lint, open_checkpoint
from mtcore.plugins import Registry

PEERS = Path(__file__).parent / "peers"


@dataclass
class Draft:
    """A checkpoint that is not written yet: JSON objects by file, and [dtype, shape, bytes] by tensor."""

    json: dict
    tensors: dict = field(default_factory=dict)

    def write(self, folder: Path, shards: int = 1) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        names = list(self.tensors)
        files = [names[start::shards] for start in range(shards)]
        titles = (
            [SINGLE] if shards == 1 else [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
        )
        for title, chosen in zip(titles, files, strict=True):
            (folder / title).write_bytes(safetensors({name: self.tensors[name] for name in chosen}))
        if shards > 1:
            where = {name: title for title, chosen in zip(titles, files, strict=True) for name in chosen}
            self.json[INDEX] = {"metadata": {}, "weight_map": where}
        for name, content in self.json.items():
            (folder / name).write_text(json.dumps(content))
        return folder

    @property
    def config(self) -> dict:
        return self.json["config.json"]

    @property
    def quantization(self) -> dict:
        return self.config["quantization_config"]

    @property
    def group(self) -> dict:
        """The first group of a compressed-tensors configuration."""
        return next(iter(self.quantization["config_groups"].values()))

    def first(self, ending: str) -> str:
        """The first tensor whose name ends so."""
        return next(name for name in self.tensors if name.endswith(ending))

    def put(self, name: str, dtype: str, shape: list, raw: bytes | None = None) -> None:
        self.tensors[name] = [dtype, shape, raw]

    def put_f32(self, ending: str, value: float) -> None:
        """Another value for the first tensor whose name ends so."""
        name = self.first(ending)
        self.put(name, "F32", self.tensors[name][1], struct.pack("<f", value) * math.prod(self.tensors[name][1]))


def safetensors(tensors: dict) -> bytes:
    header, data = {}, bytearray()
    for name, (dtype, shape, raw) in tensors.items():
        size = -(-math.prod(shape) * BITS[dtype] // 8)
        raw = bytes(size) if raw is None else raw
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def load_peer(name: str) -> Draft:
    content = json.loads(gzip.decompress((PEERS / f"{name}.json.gz").read_bytes()))
    tensors = {
        tensor: [dtype, shape, None if raw is None else base64.b64decode(raw)]
        for tensor, (dtype, shape, raw) in content["tensors"].items()
    }
    content["json"].pop(INDEX, None)
    return Draft(content["json"], tensors)


@pytest.fixture(scope="session")
def _drafts():
    return {
        file.name.removesuffix(".json.gz"): load_peer(file.name.removesuffix(".json.gz"))
        for file in PEERS.iterdir()
    }


@pytest.fixture
def peer(_drafts):
    """A draft of what another tool wrote, by name."""
    return lambda name: copy.deepcopy(_drafts[name])


@pytest.fixture(scope="session")
def registry():
    return Registry.load([mtopt_hf.hooks], discover=False)


@pytest.fixture
def judge(registry):
    """Lint a directory for some clients, or for all."""

    def judge(folder, *names):
        clients = [registry.clients[name] for name in names or registry.clients]
        return lint(open_checkpoint(folder), clients, registry.lint_rules.values())

    return judge
