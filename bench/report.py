"""Prints what a benchmark found, and keeps it where it is asked to."""

from __future__ import annotations

import json
from pathlib import Path


def report(found: object, path: Path | None) -> None:
    """In JSON; `path`: of a file to write it to as well."""
    text = json.dumps(found, indent=1)
    print(text)
    if path is not None:
        path.write_text(text + "\n")
