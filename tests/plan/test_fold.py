"""Folding of names that differ only in their numbers."""

from mtcore.plan.fold import fold_names, skeleton


def test_numbers_that_stand_alone_are_left_out_of_a_skeleton():
    assert skeleton("model.layers.11.mlp.experts.3.w1") == "model.layers.*.mlp.experts.*.w1"


def test_a_number_that_is_part_of_a_word_stays():
    assert skeleton("conv1.weight") == "conv1.weight"


def test_a_full_grid_of_numbers_is_written_as_ranges():
    names = [f"layers.{layer}.experts.{expert}.up" for layer in range(2) for expert in (0, 1, 2, 7)]
    assert fold_names(names) == "layers.[0-1].experts.[0-2,7].up"


def test_numbers_that_form_no_grid_are_written_as_a_star_rather_than_wrongly():
    assert fold_names(["layers.0.experts.1.up", "layers.1.experts.0.up"]) == "layers.*.experts.*.up"


def test_one_name_stays_as_it_is():
    assert fold_names(["layers.7.up"]) == "layers.7.up"


def test_a_name_without_numbers_stays_as_it_is():
    assert fold_names(["lm_head"]) == "lm_head"
