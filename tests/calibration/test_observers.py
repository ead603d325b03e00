"""Magnitudes are gathered at the granularity that the quantizer stores."""

import torch

from mtcore.calibration import AmaxObserver
from mtcore.nn import TensorQuantizer


def observed(fmt, mode, *matrices):
    observer = AmaxObserver(TensorQuantizer(fmt, mode))
    for matrix in matrices:
        observer.update(matrix)
    return observer


def test_the_running_maximum_of_all_batches_is_kept(formats):
    observer = observed(formats["fp8"], "static", torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0, 0.0]]))
    assert observer.amax.tolist() == [[3.0]]
    assert observer.outer_amax is None
    assert observer.batches == 2


def test_a_two_level_format_keeps_only_the_outer_magnitude_where_blocks_are_dynamic(formats):
    observer = observed(formats["nvfp4"], "dynamic_blocks", torch.full((2, 16), -4.0))
    assert observer.amax is None
    assert observer.outer_amax.item() == 4.0


def test_nan_is_kept_until_the_end(formats):
    observer = observed(formats["fp8"], "static", torch.tensor([[torch.nan]]), torch.tensor([[1.0]]))
    assert not observer.finite


def test_an_empty_matrix_counts_as_no_data(formats):
    assert observed(formats["fp8"], "static", torch.zeros(0, 4)).batches == 0
