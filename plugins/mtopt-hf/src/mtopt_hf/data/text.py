"""A UTF-8 text file in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mtcore.errors import CalibrationError

_PIECE_CHARACTERS = 1 << 20  # text is tokenized in pieces of about this size; a huge file costs what is used


def text_pieces(path: Path) -> Iterator[str]:
    """The text of a file in pieces of whole lines.

    Raises:
        CalibrationError: it cannot be read, or is no text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            while lines := file.readlines(_PIECE_CHARACTERS):
                piece = "".join(lines)
                if "\0" in piece:
                    raise CalibrationError(f"{path}: it holds zero bytes, so it is no text")
                yield piece
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: not UTF-8 text (byte {error.start}: {error.reason})") from error
    except OSError as error:
        raise CalibrationError(f"{path}: it cannot be read: {error.strerror}") from error
