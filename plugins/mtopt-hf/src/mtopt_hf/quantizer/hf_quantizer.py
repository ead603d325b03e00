"""MtcoreQuantizer: transformers' way into a quantized checkpoint, and back to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter
from transformers.quantizers.base import HfQuantizer

from mtcore.errors import ModelError
from mtcore.export import SourceFiles
from mtcore.quantization import compress, to_artifact
from mtopt_hf.checkpoint import checkpoint_tensors
from mtopt_hf.ct import COMPRESSED_TENSORS
from mtopt_hf.quantizer.apart import apart_conversions
from mtopt_hf.quantizer.config import MtcoreConfig
from mtopt_hf.quantizer.decode import Decode, Found
from mtopt_hf.quantizer.groups import read_groups
from mtopt_hf.quantizer.read import COMPANIONS
from mtopt_hf.quantizer.restore import restore


class MtcoreQuantizer(HfQuantizer):
    """Opens a compressed-tensors checkpoint as a model that mtcore quantized.

    Weights are decoded while they are loaded, through the model's own conversions of names and layouts; then every
    module that had codes becomes a quantized one with the scales of the file. Saving gives the same codes and
    scales, or those of the weights as they were trained since.
    """

    requires_calibration = True
    quantization_config: MtcoreConfig
    serialized_names: ClassVar[dict[str, list[str]]] = {"weight": list(COMPANIONS)}  # type: ignore[misc]

    def __init__(self, quantization_config: MtcoreConfig, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        self.found = Found(read_groups(quantization_config.content))

    def get_load_operations(self) -> dict[str, type[Decode]]:
        return {"dequantize": Decode}

    def get_weight_conversions(self) -> list[WeightConverter]:
        """For weights that no conversion of the model touches: by whole local names, since others contain them."""
        sources = [rf"\.{name}$" for name in COMPANIONS]
        return [WeightConverter(sources, ".weight", [Decode(self)])]

    def update_weight_conversions(self, weight_conversions: list[Any], model: PreTrainedModel) -> list[Any]:
        """Where a converter merges matrices, its operations are told to the one that decodes them.

        Experts that the hub stacks are merged from the matrices that our files hold.
        """
        apart = apart_conversions(model, weight_conversions)
        both = [*weight_conversions, *apart]
        updated: list[Any] = super().update_weight_conversions(both, model)  # type: ignore[no-untyped-call]
        for converter in updated:
            first, *rest = getattr(converter, "operations", None) or [None]
            if isinstance(first, Decode):
                converter.operations = [Decode(self, rest), *rest]
        return updated

    def _convert_model_for_quantization(self, model: PreTrainedModel) -> None:
        """Modules stay what they are; transformers would take some of them apart for its own reader."""

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **options: Any) -> PreTrainedModel:
        restore(model, self.found.coded)
        self.found.coded.clear()
        # what is saved has the names and layouts of the hub already
        model._weight_conversions = []  # type: ignore[assignment]
        if self.quantization_config.modules == "packed":
            compress(model)
        return model

    def get_state_dict_and_metadata(self, model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of a checkpoint, made from the weights as they are now."""
        if self.quantization_config.modules == "packed":
            raise ModelError("packed layers cannot be saved; open the checkpoint with modules='fake' for that")
        config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
        config.pop("quantization_config", None)
        with torch.no_grad():
            artifact = to_artifact(model, SourceFiles(config=config))
            return _apart(checkpoint_tensors(artifact, COMPRESSED_TENSORS)), {}

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return self.quantization_config.modules == "fake"

    @property
    def is_qat_trainable(self) -> bool:
        return self.is_trainable


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which no two share storage, which transformers takes for tied weights: those of experts do.

    All are contiguous, which it demands too: those of experts that lie transposed in memory are not.
    """
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        shared = tensor.data_ptr() in seen
        apart[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        seen.add(tensor.data_ptr())
    return apart
