"""Statistics: what a calibration knows of the values in a model; it runs the data for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor

from mtcore.calibration.statistics.gather import all_at_once
from mtcore.calibration.statistics.needs import Site, Wanted, joined
from mtcore.calibration.statistics.record import TensorStatistics
from mtcore.errors import CalibrationError

Gather = Callable[[Wanted], Mapping[Site, TensorStatistics]]
"""Runs the data once and gives what is wanted of the values that it reached."""

NO_DATA = "give a forward_loop, or --calib; or choose a recipe with dynamic activations"


BEGIN_AT_ZERO = ("hidden_input",)
"""Slots that may be zero throughout a batch: a recurrent layer's state before its first step."""


def exercised(site: Site, statistics: TensorStatistics) -> Tensor | None:
    """The least magnitude that a batch of a value had, fp32 []; None where it may be zero."""
    return None if site[1] in BEGIN_AT_ZERO else statistics.least


class Statistics(Mapping[Site, TensorStatistics]):
    """Statistics of the unquantized model, by site.

    `need` runs the data at most once, for all that is missing. Scales that are folded into the model afterwards are
    told with `divide`, and need no data.
    """

    def __init__(
        self, gather: Gather | None, known: Mapping[Site, TensorStatistics] | None = None, advice: str = NO_DATA
    ) -> None:
        """
        Args:
            gather: None where there is no data.
            known: what is known already.
            advice: what a user can do where something is missing and there is no data.
        """
        self.substitute: Callable[[Site, Mapping[Site, TensorStatistics]], TensorStatistics | None] | None = None
        """What stands for a value that the data never reached, from what is known; None: nothing does."""
        self.folded = False
        """Whether values have changed since; what is gathered then is of another model."""
        self._advice = advice
        self._gather = gather
        self._known = dict(known or {})

    def need(self, wanted: Wanted, welcome: Wanted | None = None) -> None:
        """Make sure that all of this is known.

        Args:
            welcome: what is good to know besides, where there are data and they reach it.

        Raises:
            CalibrationError: there is no data; or a value was never reached, is zero throughout a batch, or is not
                finite. By name.
        """
        every = joined([wanted, welcome or {}]) if self._gather is not None else wanted
        missing = {site: needs for site, needs in every.items() if not self._covers(site, every)}
        if missing:
            if self._gather is None:
                raise CalibrationError(self._no_data(missing))
            self._known.update(self._gather(missing))
        if self.substitute is not None:
            self._fill(site for site in wanted if site not in self._known)
        unseen = [".".join(site) for site in wanted if site not in self._known]
        if unseen:
            raise CalibrationError(
                f"the calibration data never reached {len(unseen)} quantizers ({_some(unseen)}): give data that "
                "calls these modules, or skip them in the recipe (of experts, see `experts.unseen`)"
            )
        found = all_at_once([exercised(site, self._known[site]) for site in wanted])
        zero = [".".join(site) for site, some in zip(wanted, found, strict=True) if some is False]
        if zero:
            raise CalibrationError(
                f"{zero[0]}: it was zero throughout a batch of the calibration data ({len(zero)} tensors: "
                f"{_some(zero)}): give data that exercises the layer, or skip it in the recipe"
            )

    def divide(self, scales: Mapping[Site, Tensor]) -> None:
        """The columns of these values are divided by scales, fp32 [cols], from now on."""
        self.folded = True
        divided: dict[tuple[int, int], TensorStatistics] = {}  # sites that share statistics go on sharing them
        for site, by in scales.items():
            if site in self._known:
                both = id(self._known[site]), id(by)
                if both not in divided:
                    divided[both] = self._known[site].divided(by)
                self._known[site] = divided[both]

    def forget(self, sites: Iterable[Site] | None = None) -> None:
        """These values have changed in another way (all, where None): the data must run again for them."""
        self.folded = True
        for site in list(self._known) if sites is None else sites:
            self._known.pop(site, None)

    def __getitem__(self, site: Site) -> TensorStatistics:
        return self._known[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _fill(self, unseen: Iterable[Site]) -> None:
        assert self.substitute is not None
        seen = dict(self._known)
        for site in unseen:
            found = self.substitute(site, seen)
            if found is not None:
                self._known[site] = found

    def _no_data(self, missing: Wanted) -> str:
        names = [".".join(site) for site in missing]
        lacking = {
            name: None
            for site, needs in missing.items()
            for name, part in needs.parts().items()
            if site in self._known and not self._known[site].covers(part)
        }
        what = f"{' and '.join(lacking)} of " if lacking else ""
        return (
            f"this recipe needs calibration data to know {what}{len(names)} activations ({_some(names)}): "
            f"{self._advice}"
        )

    def _covers(self, site: Site, wanted: Wanted) -> bool:
        return site in self._known and self._known[site].covers(wanted[site])


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
