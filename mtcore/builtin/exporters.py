"""The neutral dialect: an artifact kept as it is, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.export import ExporterSpec


@hookimpl
def mtcore_exporters() -> Iterable[ExporterSpec]:
    from mtcore.export import ExporterSpec, write_artifact

    summary = "codes, scales and plan as they are, for `mtopt export`; no server reads it"
    yield ExporterSpec("artifact", summary, lambda plan: (), write_artifact, shards=True)
