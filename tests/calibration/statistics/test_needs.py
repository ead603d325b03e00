"""What several askers want is joined."""

from mtcore.calibration.statistics import AMAX, Needs, joined


def test_needs_of_one_value_are_joined():
    site = ("layer", "input")
    total = joined(
        [{site: Needs(sample=4, blocks=(16,))}, {site: Needs(sample=8, blocks=(32, 16)), ("b", "input"): AMAX}]
    )
    assert total == {site: Needs(sample=8, blocks=(16, 32)), ("b", "input"): AMAX}
