"""From one dialect of checkpoint to another where nothing is lost, with a proof for every layer."""

from mtopt_hf.convert.proof import LayerProof
from mtopt_hf.convert.run import DIALECTS, Conversion, convert_checkpoint

__all__ = ["DIALECTS", "Conversion", "LayerProof", "convert_checkpoint"]
