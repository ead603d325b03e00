"""Layouts: shapes that follow from features, also where codes do not fill their words."""

import pytest

from mtopt_hf.lint.config import Scheme
from mtopt_hf.lint.layouts import layout_of


def packed(bits, **more):
    weights = {"num_bits": bits, "type": "int", "strategy": "group", "group_size": 64, "symmetric": True, **more}
    return layout_of("compressed-tensors", Scheme("pack", weights))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_words_hold_codes_densely(bits):
    layout = packed(bits, symmetric=False)
    assert layout.wants["weight_packed"].shapes(128, 256) == ((128, 256 * bits // 32),)
    assert layout.features((128, 256 * bits // 32)) == (128, 256)
    assert layout.wants["weight_zero_point"].shapes(128, 256) == ((128 * bits // 32, 4),)


def test_a_matrix_of_experts_has_no_features():
    assert packed(4).features((4, 128, 32)) is None


@pytest.mark.parametrize("method", ["compressed-tensors", "modelopt", "other", ""])
def test_what_is_not_known_has_no_layout(method):
    assert layout_of(method, Scheme("unknown")) is None
