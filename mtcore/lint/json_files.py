"""A JSON object from a file that anybody may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LARGEST = 256 * 2**20  # bytes; the index of a million tensors has 120 MB


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: why not, in a few words: it is no regular file, too large, no JSON, or no object.
    """
    if not path.is_file():
        raise ValueError("it is no regular file" if path.exists() or path.is_symlink() else "there is no such file")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"not readable as JSON: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"not readable as JSON: an object was expected, not {type(content).__name__}")
    return content
