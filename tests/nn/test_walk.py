"""A walk finds what torch's own does, in the same order."""

from torch import nn

from mtcore.nn.walk import modules_by_name, modules_of


def model():
    shared = nn.Linear(2, 2)
    inner = nn.Sequential(shared, nn.ReLU())
    whole = nn.ModuleDict({"one": inner, "two": nn.Sequential(shared, inner)})
    whole.register_module("nothing", None)
    return whole


def test_every_module_is_found_under_all_its_names_in_the_order_of_torch():
    whole = model()
    assert list(modules_by_name(whole).items()) == list(whole.named_modules(remove_duplicate=False))


def test_every_module_is_listed_once():
    whole = model()
    assert modules_of(whole) == list(whole.modules())
