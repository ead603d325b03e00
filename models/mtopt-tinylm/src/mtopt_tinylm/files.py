"""Files: the paths of what the package carries, and the texts themselves."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any


def checkpoint_dir() -> Path:
    """The checkpoint directory, as `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer` read it.

    It holds `config.json`, `generation_config.json`, `model.safetensors` (bf16), `tokenizer.json` and
    `tokenizer_config.json`.

    >>> sorted(path.suffix for path in checkpoint_dir().iterdir())
    ['.json', '.json', '.json', '.json', '.safetensors']
    """
    return _path("checkpoint")


def calibration_file() -> Path:
    """About 100 kB of English technical text, UTF-8, that the model was not trained on: for calibration.

    >>> calibration_file().name
    'calibration.txt'
    """
    return _path("text", "calibration.txt")


def evaluation_file() -> Path:
    """About 100 kB of other such text: for perplexity. It shares no document with the calibration text.

    >>> evaluation_file().name
    'evaluation.txt'
    """
    return _path("text", "evaluation.txt")


def calibration_text() -> str:
    """The content of `calibration_file()`.

    >>> len(calibration_text()) > 90_000
    True
    """
    return calibration_file().read_text(encoding="utf-8")


def evaluation_text() -> str:
    """The content of `evaluation_file()`.

    >>> len(evaluation_text()) > 90_000
    True
    """
    return evaluation_file().read_text(encoding="utf-8")


def metrics() -> dict[str, Any]:
    """What was measured when the model was made: perplexities, sizes, the training run.

    >>> metrics()["perplexity"] < metrics()["unigram_perplexity"] / 10
    True
    """
    loaded: dict[str, Any] = json.loads(_path("metrics.json").read_text(encoding="utf-8"))
    return loaded


def _path(*parts: str) -> Path:
    found = resources.files("mtopt_tinylm").joinpath(*parts)
    if not isinstance(found, Path):
        raise RuntimeError("mtopt_tinylm must be installed as plain files, not inside a zip archive")
    return found
