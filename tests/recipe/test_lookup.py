"""A name that is not there is reported with what the catalog itself knows about it."""

import pytest

from mtcore.errors import UnknownNameError
from mtcore.plugins.catalog import Catalog
from mtcore.recipe.lookup import find


def test_a_plain_mapping_offers_the_nearest_name():
    assert find("format", "a", {"a": 1}) == 1
    with pytest.raises(UnknownNameError, match="Did you mean 'fp8'"):
        find("format", "fp9", {"fp8": 1})


def test_a_registrys_own_message_is_kept():
    catalog = Catalog("format", {"fp8": 1}, aliases={"e4m3": "fp8"}, hint="plugin x failed to load")
    assert find("format", "e4m3", catalog) == 1
    with pytest.raises(UnknownNameError, match="plugin x failed to load"):
        find("format", "fp9", catalog)
