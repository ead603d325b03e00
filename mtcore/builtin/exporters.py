"""The neutral dialect: an artifact kept as it is, as a hook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.export import ExporterSpec
    from mtcore.plan import Holds


@hookimpl
def mtcore_exporters() -> Iterable[ExporterSpec]:
    from mtcore.export import ExporterSpec, write_artifact

    summary = "codes, scales and plan as they are, for `mtopt export`; no server reads it"
    # Scales on layers are no loss here, but few dialects hold them, and an artifact is to be written in any.
    holds: Holds = lambda module, extra: extra == "low_rank"  # noqa: E731  a name for its type
    yield ExporterSpec("artifact", summary, lambda plan: (), write_artifact, holds=holds, shards=True)
