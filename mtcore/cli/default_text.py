"""The text that `mtopt eval` scores when none is named: every second topic of Python's own documentation."""

from __future__ import annotations

import platform
from pathlib import Path

NAME = f"documentation topics of Python {platform.python_version()}, every second one"
"""How an answer calls this text; it comes with the interpreter, so its wording follows the version."""


def write_default_text(folder: Path) -> Path:
    """Writes the text into `folder` and returns its path: odd-numbered topics by name, a blank line between two.

    About 300 kB. The even-numbered topics are left for calibration.
    """
    from pydoc_data.topics import topics

    path = folder / "python-topics.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[1::2]), encoding="utf-8")
    return path
