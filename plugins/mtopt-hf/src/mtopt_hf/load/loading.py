"""The loader behind `mtcore_load_model`: any source that transformers can open."""

from __future__ import annotations

from mtcore.flow import LoadedModel
from mtopt_hf.load.config_only import load_config_only
from mtopt_hf.load.construct import log_warning, predicts_next
from mtopt_hf.load.directory import load_directory, quantized_as
from mtopt_hf.load.example import example_inputs
from mtopt_hf.load.gguf_file import load_gguf
from mtopt_hf.load.hub import fetch_model
from mtopt_hf.load.positions import stated_positions
from mtopt_hf.load.source import ConfigOnly, Directory, GgufFile, HubName, understand_source
from mtopt_hf.quiet import quiet_transformers
from mtopt_hf.tokenizer import HfTokenizer

LOADER = "hf"


def load_model(source: str) -> LoadedModel | None:
    """The model that `source` names, or None where it is nothing that this plugin opens.

    A source is a checkpoint directory, a GGUF file, `organisation/model` on the hub, `package:NAME`, or
    `config:PATH`, a model without weights that can be planned and traced. Code of a checkpoint runs only where
    `with-code:` stands before a directory or name. A checkpoint in the compressed-tensors dialect comes back in
    fp32, in which its weights and scales are exact, and quantizes activations as the client does; it cannot be
    quantized again.

    Raises:
        ModelError: the source is one of ours, but cannot be opened.
    """
    meaning = understand_source(source)
    if meaning is None:
        return None
    told: list[str] = []

    def warn(text: str) -> None:
        told.append(text)
        log_warning(text)

    with quiet_transformers():
        match meaning:
            case ConfigOnly(path):
                (model, files), tokenizer = load_config_only(path), None
            case Directory(path, code):
                model, tokenizer, files = load_directory(path, code=code, warn=warn)
            case HubName(name, code):
                model, tokenizer, files = load_directory(fetch_model(name, code=code), code=code, warn=warn)
            case GgufFile(path):
                model, tokenizer, files = load_gguf(path, warn=warn)
    return LoadedModel(
        model=model,
        source=source,
        tokenizer=None if tokenizer is None else HfTokenizer(tokenizer),
        files=files,
        example_inputs=example_inputs(model),
        predicts_next=predicts_next(model),
        loader=LOADER,
        quantized_as=quantized_as(files.config),
        warnings=tuple(told),
        positions=stated_positions(model),
    )
