"""A toy language model of blocks whose weights lie in files; its loader, data and dialect as a plugin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.export import Artifact, ExporterSpec, QuantizedModule, SourceFiles
from mtcore.files import TensorFile, peak_bytes, save_tensors
from mtcore.flow import DataOptions, LayerwiseOptions, quantize_checkpoint
from mtcore.flow.loaded import LoadedModel
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.quantization.api import Config

SOURCE = "toy:"
"""How a folder of toy weights is named as a source: `toy:FOLDER`."""


@dataclass(frozen=True)
class ToyShape:
    """Sizes of a ToyBlocks; a block has 12 · width² weights."""

    layers: int = 3
    width: int = 32
    vocabulary: int = 64
    dtype: str = "bfloat16"


class ToyBlock(nn.Module):
    """A gated layer with a residual; `shift` is the same for all blocks, like a table of positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 4 * width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        h = self.norm(x) + shift
        y: Tensor = x + self.down(torch.relu(self.gate(h)) * self.up(h))
        return y


class ToyBlocks(nn.Module):
    """Token ids int64 [batch, length] → logits [batch, length, vocabulary]."""

    def __init__(self, shape: ToyShape) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(ToyBlock(shape.width) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x: Tensor = self.embed(input_ids)
        shift = torch.linspace(0, 0.1, input_ids.shape[1], dtype=x.dtype, device=x.device)[:, None]
        for layer in self.layers:
            x = layer(x, shift)
        y: Tensor = self.head(self.norm(x))
        return y


def write_toy_blocks(folder: Path, shape: ToyShape) -> Path:
    """Write seeded weights, one file a block and one for the rest, never holding more than one tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(shape)))
    weights = _Weights(shape)
    for number in range(shape.layers):
        prefix = f"layers.{number}."
        names = [name for name in weights if name.startswith(prefix)]
        save_tensors(folder / f"block-{number:05d}.safetensors", names, weights)
    rest = [name for name in weights if not name.startswith("layers.")]
    save_tensors(folder / "rest.safetensors", rest, weights)
    return folder


def open_toy_blocks(folder: Path) -> ToyBlocks:
    """The model of a folder; its parameters are views of the files."""
    with torch.device("meta"):
        model = ToyBlocks(ToyShape(**json.loads((folder / "config.json").read_text())))
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in TensorFile(file).items():
            owner, _, parameter = name.rpartition(".")
            model.get_submodule(owner)._parameters[parameter] = nn.Parameter(tensor, requires_grad=False)
    return model.eval()


def quantize_toy(
    folder: Path,
    out: Path,
    recipe: Config,
    max_memory: int | None = None,
    samples: int = 4,
    statistics: Path | None = None,
) -> int:
    """Quantize toy weights block by block, for tests that run this in a process of its own.

    Returns:
        The most memory that the process ever held, in bytes; 0 where the system does not tell.
    """
    quantize_checkpoint(
        f"{SOURCE}{folder}",
        recipe,
        out,
        calib="some",
        dialect="toy",
        data=DataOptions(samples=samples, length=16, batch_size=2),
        registry=Registry.load([ToyBlocksPlugin()], discover=False),
        layerwise=LayerwiseOptions(max_memory=max_memory),
        statistics=statistics,
    )
    return peak_bytes() or 0


class ToyBlocksPlugin:
    """Loads `toy:FOLDER`, makes batches of any source name, and writes the dialect "toy"."""

    @hookimpl
    def mtcore_load_model(self, source: str) -> LoadedModel | None:
        if not source.startswith(SOURCE):
            return None
        model = open_toy_blocks(Path(source.removeprefix(SOURCE)))
        files = SourceFiles(config={"model_type": "toy"})
        return LoadedModel(model, source, files=files, example_inputs={"input_ids": torch.arange(8)[None]})

    @hookimpl
    def mtcore_calibration_batches(
        self, source: str, loaded: LoadedModel, options: DataOptions
    ) -> list[Any] | None:
        if not isinstance(loaded.model, ToyBlocks):
            return None
        seed = int.from_bytes(hashlib.sha256(source.encode()).digest()[:4])
        size = (options.samples, options.length)
        vocabulary = loaded.model.embed.num_embeddings
        ids = torch.randint(vocabulary, size, generator=torch.Generator().manual_seed(seed))
        return [{"input_ids": batch} for batch in torch.split(ids, options.batch_size)]

    @hookimpl
    def mtcore_exporters(self) -> Iterator[ExporterSpec]:
        yield ExporterSpec(
            "toy",
            "codes and scales under the names in memory",
            lambda plan: (),
            _write,
            holds=lambda module, extra: True,
        )


class _Weights(Mapping[str, Tensor]):
    """Weights that are made when they are asked for, the same every time; large ones repeat a piece."""

    _PIECE = 1 << 20

    def __init__(self, shape: ToyShape) -> None:
        with torch.device("meta"):
            self._shapes = {name: p.shape for name, p in ToyBlocks(shape).named_parameters()}
        self._dtype = getattr(torch, shape.dtype)

    def __getitem__(self, name: str) -> Tensor:
        size, seed = self._shapes[name], int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
        count = size.numel()
        piece = torch.randn(min(count, self._PIECE), generator=torch.Generator().manual_seed(seed))
        values = piece.repeat(-(-count // len(piece)))[:count].view(size)
        if len(size) == 1:
            values = values / 8 + 1
        elif not name.startswith("embed"):
            values = values / size[-1] ** 0.5
        return values.to(self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


class _Coded(Mapping[str, Tensor]):
    """All tensors of an artifact under flat names, read one by one."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    def __getitem__(self, name: str) -> Tensor:
        if "/" not in name:
            return self._artifact.tensors[name]
        module, slot, part = name.split("/")
        found = self._artifact.modules[module]
        if slot == "extras":
            return _extras(found)[part]
        return found.weights[slot].tensors()[part] if part else found.activations[slot].multiplier()

    def __iter__(self) -> Iterator[str]:
        yield from self._artifact.tensors
        for name, found in self._artifact.modules.items():
            for slot, q in found.weights.items():
                yield from (f"{name}/{slot}/{part}" for part in q.tensors())
            yield from (f"{name}/{slot}/" for slot in found.activations)
            yield from (f"{name}/extras/{part}" for part in _extras(found))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _extras(module: QuantizedModule) -> dict[str, Tensor]:
    """What a layer holds beside codes and scales."""
    scale = {} if module.pre_quant_scale is None else {"pre_quant_scale": module.pre_quant_scale}
    return scale if module.low_rank is None else {**scale, "up": module.low_rank.up, "down": module.low_rank.down}


def _write(artifact: Artifact, folder: Path) -> None:
    coded = _Coded(artifact)
    groups: dict[str, list[str]] = {}
    for name in coded:
        groups.setdefault(".".join(name.split(".")[:2]) if name.startswith("layers.") else "rest", []).append(name)
    for group, names in groups.items():
        file = folder / f"{group}.safetensors"
        if not file.exists():
            save_tensors(file, names, coded)
    (folder / "config.json").write_text(json.dumps(dict(artifact.source.config)))
