"""Looking up names: the nearest name, aliases, and what a catalog knows of plugins that are missing."""

import pytest

from mtcore.errors import UnknownNameError, look_up
from mtcore.plugins import Catalog

NUMBERS = {"one": 1, "two": 2}


def test_a_plain_mapping_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"^no number named 'tow'\. Did you mean 'two'\? Known: one, two$"):
        look_up("number", "tow", NUMBERS)


def test_an_alias_of_a_catalog_is_found():
    assert look_up("number", "eins", Catalog("number", NUMBERS, aliases={"eins": "one"})) == 1


def test_what_a_catalog_knows_is_kept_under_the_name_that_the_caller_uses():
    catalog = Catalog("figure", NUMBERS, aliases={"drei": "two"}, hint="plugin 'more' failed to load: OSError")
    with pytest.raises(UnknownNameError) as raised:
        look_up("number", "three", catalog)
    assert str(raised.value) == (
        "no number named 'three'. Known: drei, one, two. plugin 'more' failed to load: OSError"
    )


def test_no_record_at_all_says_so():
    with pytest.raises(UnknownNameError, match=r"no number named 'x'\. No number is registered$"):
        look_up("number", "x", {})
