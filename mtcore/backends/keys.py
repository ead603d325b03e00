"""Format keys: a format as a string, which the arguments of a torch operation can carry."""

from __future__ import annotations

import json
from functools import cache

from mtcore.formats import TensorFormat
from mtcore.formats.serial import format_from_dict, format_to_dict


@cache
def format_key(fmt: TensorFormat) -> str:
    """A format as a string that says everything about it.

    Example:
        >>> from mtcore.formats.catalog import NVFP4
        >>> format_of_key(format_key(NVFP4)) == NVFP4
        True
    """
    return json.dumps(format_to_dict(fmt), sort_keys=True)


@cache
def format_of_key(key: str) -> TensorFormat:
    """The format that `format_key` wrote down.

    Raises:
        FormatError: it was written by something else.
    """
    return format_from_dict(json.loads(key))
