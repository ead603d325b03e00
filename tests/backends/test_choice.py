"""Choosing a kernel: the highest priority that does not refuse, with the reasons against the others."""

import copy
import pickle

import pytest
import torch

from mtcore.backends import KernelSpec, Use, builtin_kernels, choose_kernel, gemm_registry, reference
from mtcore.errors import PlanError
from mtcore.plugins import Registry, default_registry

CPU = torch.device("cpu")


def refuses_cpu(use):
    return "needs a GPU" if use.device.type == "cpu" else None


def refuses_nothing(use):
    return None


def kernel(name, refuses, priority=0):
    return KernelSpec(name, "fake_quantize", refuses, reference.fake_quantize, priority)


def test_the_highest_priority_that_does_not_refuse_is_chosen_and_others_are_named_with_reasons(formats):
    kernels = [*builtin_kernels(), kernel("a", refuses_nothing), kernel("b", refuses_cpu, 10)]
    choice = choose_kernel(Use("fake_quantize", formats["nvfp4"], CPU), kernels)
    assert str(choice) == "fake_quantize nvfp4: a (cpu); b: needs a GPU"


def test_a_kernel_for_other_formats_altogether_is_not_named(formats):
    kernels = [*builtin_kernels(), kernel("b", refuses_cpu, 10), kernel("c", lambda use: "", 20)]
    choice = choose_kernel(Use("fake_quantize", formats["nvfp4"], CPU), kernels)
    assert str(choice) == "fake_quantize nvfp4: torch.fake_quantize (cpu); b: needs a GPU"


def test_without_plugins_every_operation_is_served_by_its_reference(formats):
    for op in ("fake_quantize", "quantize", "dequantize", "block_amax", "linear"):
        choice = choose_kernel(Use(op, formats["mxfp4"], CPU), Registry.load(discover=False).kernels.values())
        assert choice.is_reference
        assert choice.kernel.name == f"torch.{op}"


def test_when_all_refuse_the_error_names_each_with_its_reason(formats):
    with pytest.raises(PlanError, match="no kernel computes linear fp8 x int8 on cpu: no plugin brings one"):
        choose_kernel(Use("linear", formats["fp8"], CPU, formats["int8"]), [])
    with pytest.raises(PlanError, match="b: needs a GPU"):
        choose_kernel(Use("fake_quantize", formats["fp8"], CPU), [kernel("b", refuses_cpu)])


def test_a_choice_can_be_copied_and_pickled(formats):
    choice = choose_kernel(Use("fake_quantize", formats["nvfp4"], CPU), builtin_kernels())
    assert copy.deepcopy(choice) == choice
    assert pickle.loads(pickle.dumps(choice)) == choice


def test_a_registered_product_is_in_the_default_registry_until_it_is_taken_back():
    gemm_registry.register("a_script's", reference.linear, refuses_cpu)
    try:
        assert "a_script's" in default_registry().kernels
    finally:
        gemm_registry.unregister("a_script's")
    assert "a_script's" not in default_registry().kernels
