"""What happens while a run goes on: one log line a phase."""

from __future__ import annotations

import logging

from mtcore.plugins import PhaseOutcome, RunFacts

LOG = logging.getLogger(__name__)


def begun(run: RunFacts, phase: str) -> None:
    """A phase has begun."""
    LOG.info("%s: %s begins", run.source, phase)


def ended(run: RunFacts, phase: str, outcome: PhaseOutcome) -> None:
    """A phase has ended."""
    LOG.info("%s: %s ended after %.1f s%s", run.source, phase, outcome.seconds, ", badly" if outcome.error else "")
