"""save and load a quantized model without pickle: safetensors for tensors, versioned JSON for the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtcore.errors import MtcoreError, StateError
from mtcore.export.atomic import whole_directory
from mtcore.nn import QuantizerState, QuantModuleSpec, TensorQuantizer
from mtcore.plan import plan_from_dict, plan_to_dict
from mtcore.quantization.attached import Quantized, attach, is_quantized, quantized_of
from mtcore.quantization.convert import convert
from mtcore.quantization.tied import tied_tensors

VERSION = 1
STATE_FILE = "mtcore_state.json"
TENSOR_FILE = "mtcore_state.safetensors"

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Version → function that makes the next version's content of it; applied one after the other."""


def save_state(model: nn.Module, directory: str | Path, *, overwrite: bool = False) -> None:
    """Write a quantized model: its plan, parameters, buffers and calibrated scales.

    Raises:
        StateError: the model is not quantized. ExportError: the directory cannot be written.
    """
    plan = quantized_of(model).plan
    tensors, tied = tied_tensors(model.state_dict())
    with whole_directory(Path(directory), overwrite=overwrite) as work:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, work / TENSOR_FILE)
        content = {
            "plan": plan_to_dict(plan),
            "tied": tied,
            "disabled": sorted(name for name, q in _quantizers(model).items() if not q.enabled),
            "tensors_sha256": _sha256(work / TENSOR_FILE),
        }
        document = {"version": VERSION, "content": content, "sha256": _content_hash(content)}
        (work / STATE_FILE).write_text(json.dumps(document, indent=1), encoding="utf-8")


def load_state(
    directory: str | Path,
    model: nn.Module,
    specs: Mapping[str, QuantModuleSpec],
    *,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Restore a saved state onto a fresh model of the same architecture; no code of the file is executed.

    Args:
        directory: written by `save_state`.
        model: not quantized; its parameters may be on the meta device. Changed in place and returned.
        specs: quantized layers by name.
        device: where the tensors go; where None, those of the model, or the CPU for meta ones.

    Raises:
        StateError: the files are missing, damaged or of a newer version, or do not fit the model. The model is
            as it was.
    """
    directory = Path(directory)
    if is_quantized(model):
        raise StateError("the model is quantized already; load onto a fresh one")
    content = _read_content(directory)
    tensors = _read_tensors(directory, content, device)
    plan = plan_from_dict(content["plan"])
    try:
        root, journal = convert(model, plan, specs)
    except MtcoreError as error:
        raise StateError(f"{directory}: does not fit this model: {error}") from error
    try:
        for name, source in content["tied"].items():
            tensors[name] = tensors[source]
        _check_fit(root, tensors, directory)
        _restore(root, tensors, content, device)
    except BaseException:
        journal.undo()
        raise
    attach(root, Quantized(plan, journal))
    return root


def _read_content(directory: Path) -> dict[str, Any]:
    path = directory / STATE_FILE
    content: dict[str, Any]
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, content = document["version"], document["content"]
        if not isinstance(version, int) or not isinstance(content, dict):
            raise TypeError("version and content are of other types")
        intact = document["sha256"] == _content_hash(content)
    except FileNotFoundError as error:
        raise StateError(f"{directory}: holds no saved state ({STATE_FILE} is missing)") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"{path}: not a saved state ({type(error).__name__}: {error})") from error
    if version > VERSION:
        raise StateError(f"{path}: version {version} is newer than this mtcore reads ({VERSION}); upgrade mtcore")
    if not intact:
        raise StateError(f"{path}: damaged: its checksum does not match")
    for step in range(version, VERSION):
        if step not in MIGRATIONS:
            raise StateError(f"{path}: version {version} can no longer be read")
        content = MIGRATIONS[step](content)
    return content


def _read_tensors(
    directory: Path, content: Mapping[str, Any], device: torch.device | str | None
) -> dict[str, Tensor]:
    path = directory / TENSOR_FILE
    try:
        if _sha256(path) != content["tensors_sha256"]:
            raise StateError(f"{path}: damaged, or of another state: its checksum does not match")
        return load_file(path, device=str(device or "cpu"))
    except FileNotFoundError as error:
        raise StateError(f"{directory}: {TENSOR_FILE} is missing") from error
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path}: cannot be read ({error})") from error


def _check_fit(model: nn.Module, tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Compare names and shapes; calibrated amax buffers exist in the file only."""
    expected = model.state_dict()
    own = tuple(f"{name}." if name else "" for name, m in model.named_modules() if isinstance(m, QuantizerState))
    problems = [f"{name}: missing in the file" for name in expected if name not in tensors]
    for name, tensor in tensors.items():
        if name not in expected:
            if not name.startswith(own):
                problems.append(f"{name}: in the file, but not in the model")
        elif expected[name].shape != tensor.shape:
            problems.append(f"{name}: {list(tensor.shape)} in the file, {list(expected[name].shape)} in the model")
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise StateError(f"{directory}: does not fit this model: {'; '.join(problems[:10])}{more}")


def _restore(
    model: nn.Module, tensors: Mapping[str, Tensor], content: Mapping[str, Any], device: torch.device | str | None
) -> None:
    on_meta = any(tensor.is_meta for tensor in model.state_dict().values())
    model.load_state_dict(dict(tensors), assign=on_meta)
    if on_meta:
        for name, source in content["tied"].items():
            _tie(model, name, source)
    elif device is not None:
        model.to(device)
    for name in content["disabled"]:
        _quantizers(model)[name].disable()


def _tie(model: nn.Module, name: str, source: str) -> None:
    """Make two parameters one again; buffers were given the very same tensor."""
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    if attribute in module._parameters:
        setattr(module, attribute, model.get_parameter(source))


def _quantizers(model: nn.Module) -> dict[str, TensorQuantizer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, TensorQuantizer)}


def _content_hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
