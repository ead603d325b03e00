"""A name on a model hub: the files of the model, fetched once into the hub's own cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from mtcore.errors import ModelError
from mtopt_hf.load.directory import COMPANIONS, CONFIG

_WANTED = [CONFIG, "*.safetensors", "*.safetensors.index.json", *COMPANIONS, "additional_chat_templates/*.jinja"]
_CODE = ["*.py"]


def fetch_model(name: str, *, code: bool = False) -> Path:
    """The directory of a model on the hub, without pickle files, and without Python files unless `code` is true.

    Raises:
        ModelError: it is not there, may not be read, or the hub cannot be reached.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED + _CODE if code else _WANTED))
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name}: no such directory or file, and as the name of a model on the hub it cannot be fetched: "
            "the hub cannot be reached (offline?). Fetch it elsewhere and give the directory"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name}: it cannot be fetched from the hub: {reason}") from error
