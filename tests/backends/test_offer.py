"""Kernels on offer: chosen once a use while they are, the reference otherwise."""

import logging

import pytest
import torch

from mtcore.backends import KernelSpec, builtin_kernels, kernel_for, offered, reference
from mtcore.errors import PlanError

CPU = torch.device("cpu")


def mine(x, moments, histogram):
    return reference.column_statistics(x, moments, histogram)


def no_cuda(use):
    return None if use.device.type == "cpu" else "needs a CPU"


SPEC = KernelSpec("mine.column_statistics", "column_statistics", no_cuda, mine)


def test_without_an_offer_the_reference_serves():
    assert kernel_for("column_statistics", CPU) is reference.column_statistics


def test_what_is_on_offer_is_chosen_once_and_logged_with_its_reasons(caplog):
    with caplog.at_level(logging.INFO, "mtcore"), offered([*builtin_kernels(), SPEC]) as offer:
        for _ in range(3):
            assert kernel_for("column_statistics", CPU) is mine
        assert kernel_for("column_statistics", torch.device("meta")) is reference.column_statistics
    lines = [str(choice) for choice in offer.chosen.values()]
    assert lines == [
        "column_statistics: mine.column_statistics (cpu)",
        "column_statistics: torch.column_statistics (meta); mine.column_statistics: needs a CPU",
    ]
    assert caplog.messages == lines


def test_a_use_has_its_format(formats):
    with offered(builtin_kernels()) as offer:
        kernel_for("sweep_amax", CPU, formats["nvfp4"])
    assert [str(choice.use) for choice in offer.chosen.values()] == ["sweep_amax nvfp4"]


def fails_inside():
    with offered([SPEC, *builtin_kernels()]):
        with offered(builtin_kernels()):
            assert kernel_for("column_statistics", CPU) is reference.column_statistics
        assert kernel_for("column_statistics", CPU) is mine
        raise ZeroDivisionError


def test_an_offer_ends_with_its_block_whatever_happens_inside():
    with pytest.raises(ZeroDivisionError):
        fails_inside()
    assert kernel_for("column_statistics", CPU) is reference.column_statistics


def test_an_operation_that_nobody_computes_is_an_error():
    with offered([SPEC]), pytest.raises(PlanError, match="no kernel computes add_gram on cpu"):
        kernel_for("add_gram", CPU)
