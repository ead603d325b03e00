"""Statistics of the values in a model, gathered in one run of the data, from which algorithms decide."""

from mtcore.calibration.statistics.collector import Collector
from mtcore.calibration.statistics.gather import Gathering, gather
from mtcore.calibration.statistics.known import Statistics
from mtcore.calibration.statistics.needs import AMAX, Needs, Site, Wanted, joined
from mtcore.calibration.statistics.record import TensorStatistics
from mtcore.calibration.statistics.store import StatisticsStore, Unfinished

__all__ = [
    "AMAX",
    "Collector",
    "Gathering",
    "Needs",
    "Site",
    "Statistics",
    "StatisticsStore",
    "TensorStatistics",
    "Unfinished",
    "Wanted",
    "gather",
    "joined",
]
