"""Repeated calls: the driver is told the same with other addresses, and nothing is repeated that could differ."""

import pytest
import torch

from mtcore.backends import format_key, reference
from mtcore.formats.catalog import FP8, FP8_ROW, INT4_B128, INT8_ROW, INT8_ROW_FULL, NVFP4
from mtopt_kernels import eight_bit, four_bit, launch, linear, nvfp4_vector, pairs, parts, prepack, replay, restart

KEY = format_key(INT8_ROW)
FOR_PROFILERS = range(6, 9)
"""Places, in what the driver is told, of what only profilers see."""


@pytest.fixture
def gpu(gpu, monkeypatch):
    monkeypatch.setattr(replay, "_KEPT", {})
    monkeypatch.setattr(replay, "can_restart", lambda device: True)
    return gpu


def tensors_in(arguments):
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from tensors_in(argument)


def assert_repeated(gpu, monkeypatch, function, arguments, others):
    """Assert that a call starts what one with `arguments` did, each tensor in its place, and that nothing is worked
    out; return the results of both."""
    first = function(*arguments)
    count = len(gpu.started)
    with monkeypatch.context() as patch:
        for module in (eight_bit, four_bit, launch, nvfp4_vector, pairs):
            patch.setattr(module, "start", lambda *_, **__: pytest.fail("worked out again"))
        second = function(*others)
    assert len(gpu.started) == 2 * count > 0
    now = {}
    for one, other in zip(gpu.started[:count], gpu.started[count:], strict=True):
        assert len(one) == len(other)
        for place, (then, again) in enumerate(zip(one, other, strict=True)):
            if isinstance(then, torch.Tensor):
                assert now.setdefault(then.data_ptr(), again) == again
            else:
                assert again == (None if place in FOR_PROFILERS else then)
    for then, again in zip(tensors_in([arguments, first]), tensors_in([others, second]), strict=True):
        assert (then.dtype, then.shape, then.stride()) == (again.dtype, again.shape, again.stride())
        if then.numel():
            assert now.get(then.data_ptr(), again.data_ptr()) == again.data_ptr()
    assert {tensor.data_ptr() for tensor in tensors_in([first])} <= {*now, 0}
    return first, second


def inputs(rows=64, cols=4096):
    return torch.randn(rows, cols).bfloat16()


@pytest.mark.parametrize("function", [launch.fake_quantize, launch.quantize], ids=lambda it: it.__name__)
@pytest.mark.parametrize("fmt", [FP8, NVFP4, INT4_B128, INT8_ROW], ids=lambda fmt: fmt.name)
def test_values_are_rounded_again(gpu, monkeypatch, function, fmt):
    def arguments():
        return inputs(), torch.ones(fmt.block.grid(64, 4096)), torch.ones(()), format_key(fmt)

    assert_repeated(gpu, monkeypatch, function, arguments(), arguments())


def test_rows_that_are_held_as_pairs_are_rounded_again(gpu, monkeypatch):
    one, other = ((inputs(cols=8192), None, None, format_key(FP8_ROW)) for _ in range(2))
    assert_repeated(gpu, monkeypatch, launch.quantize, one, other)


def test_codes_are_turned_into_values_again(gpu, monkeypatch):
    def arguments():
        stored = reference.quantize(inputs(), None, None, format_key(NVFP4))
        return *stored, 4096, torch.bfloat16, format_key(NVFP4)

    assert_repeated(gpu, monkeypatch, launch.dequantize, arguments(), arguments())


@pytest.mark.parametrize("tokens", [1, 9])
def test_layers_in_fp8_are_computed_again(gpu, monkeypatch, tokens):
    def arguments():
        codes = [torch.randn(width, 2048).to(torch.float8_e4m3fn) for width in (256, 64)]
        scales, bias = [torch.ones(1, 1), torch.ones(1, 1)], [torch.ones(256), torch.ones(64)]
        same = [256, 64], format_key(FP8), format_key(FP8)
        return inputs(tokens, 2048), codes, scales, [None, None], torch.ones(()), None, bias, *same

    assert_repeated(gpu, monkeypatch, linear.fp8_linears, arguments(), arguments())
    recorded = replay._KEPT.popitem()[1]
    assert recorded.counts, "the inner dimension is split"
    assert parts.counters(torch.device("cpu")).data_ptr() in gpu.started[-1]


@pytest.mark.parametrize(
    ("function", "fmt", "input_format"),
    [
        (linear.fp8_linears, FP8_ROW, FP8_ROW),
        (linear.int8_linears, INT8_ROW, INT8_ROW_FULL),
        (linear.int4_linears, INT4_B128, None),
    ],
    ids=["fp8", "int8", "int4"],
)
def test_layers_whose_inputs_scales_are_worked_out_are_computed_again(
    gpu, monkeypatch, function, fmt, input_format
):
    key, input_key = format_key(fmt), format_key(input_format) if input_format else ""

    def arguments():
        weights = (torch.randn(width, 512) for width in (256, 64, 1000))
        codes, scales, _ = zip(*(reference.quantize(it, None, None, key) for it in weights), strict=True)
        if fmt == INT4_B128:
            codes, scales = zip(*map(prepack.prepack_int4, codes, scales), strict=True)
        none = [None] * 3
        return inputs(1, 512), [*codes], [*scales], none, None, None, none, [256, 64, 1000], key, input_key

    assert_repeated(gpu, monkeypatch, function, arguments(), arguments())
    assert len(replay._KEPT.popitem()[1].results) == 3


@pytest.mark.parametrize("tokens", [1, 9, 300])
def test_layers_in_nvfp4_are_computed_again(gpu, monkeypatch, tokens):
    key = format_key(NVFP4)

    def arguments():
        weights = (torch.randn(width, 1024) for width in (256, 64))
        codes, scales, outer = zip(*(reference.quantize(it, None, None, key) for it in weights), strict=True)
        words, scales = zip(*map(prepack.prepack_nvfp4, codes, scales), strict=True)
        return inputs(tokens, 1024), [*words], [*scales], [*outer], None, None, [None, None], [256, 64], key, ""

    if tokens <= 256:
        assert_repeated(gpu, monkeypatch, linear.nvfp4_linears, arguments(), arguments())
    else:  # the products are torch's
        one, other = ([*(it[0] for it in arguments()[1:4]), 256, torch.bfloat16] for _ in range(2))
        linear.nvfp4_linears(*arguments())
        assert {key[0] for key in replay._KEPT} == {four_bit.four_bit_unpack.__wrapped__}
        replay._KEPT.clear()
        gpu.started.clear()
        assert_repeated(gpu, monkeypatch, four_bit.four_bit_unpack, one, other)


def test_what_has_other_arguments_is_another_call(gpu):
    x = inputs()
    kinds = [x, x[:, 1:], x.float(), x[:32], x[::2], x[:, :4000]]
    for matrix in kinds:
        launch.fake_quantize(matrix, None, None, KEY)
        launch.fake_quantize(matrix, None, None, format_key(INT4_B128))
        launch.quantize(matrix, None, None, KEY)
    assert len(replay._KEPT) == 3 * len(kinds)


def test_what_a_call_depends_on_beside_its_arguments_makes_it_another(gpu):
    early = [True]
    function = replay.replayed(launch.fake_quantize.__wrapped__, depends=lambda: early[0])
    for early[0] in (True, False, True):
        function(inputs(), None, None, KEY)
    assert len(replay._KEPT) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_call_that_computes_something_is_not_repeated(gpu, mode):
    @replay.replayed
    def reads(x):
        return torch.empty(int(x.float().sum()))

    x = torch.ones(4, 4096, dtype=torch.bfloat16)
    with mode():
        for _ in range(2):
            launch.fake_quantize(x.t(), None, None, KEY)  # works on a copy
            reads(x)
    assert list(replay._KEPT.values()) == [None, None]
    assert len(gpu.started) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_codes_seen_as_bytes_are_memory_of_the_calls_own(gpu, monkeypatch, mode):
    with mode():
        one, other = ((inputs(), torch.ones(1, 1), None, format_key(FP8)) for _ in range(2))
        assert_repeated(gpu, monkeypatch, launch.quantize, one, other)


def test_tensors_on_another_device_are_another_call(gpu, monkeypatch):
    x, amax = inputs(), torch.ones(64, 1)
    launch.fake_quantize(x, amax, None, KEY)
    monkeypatch.setattr(torch.Tensor, "get_device", lambda tensor: 0 if tensor is amax else -1)
    launch.fake_quantize(x, amax, None, KEY)
    assert len(replay._KEPT) == 2


def test_a_call_with_one_tensor_in_two_places_is_not_repeated(gpu):
    both, key = torch.ones(64, 1), format_key(INT8_ROW)
    for _ in range(2):
        launch.fake_quantize(inputs(), both, both, key)
    assert list(replay._KEPT.values()) == [None]
    assert all(isinstance(one, torch.Tensor) for one in gpu.started[1][9:12])


def test_what_was_recorded_for_two_tensors_is_repeated_for_one_in_both_places(gpu):
    codes, scale = torch.zeros(64, 2048).to(torch.float8_e4m3fn), torch.ones(1, 1)
    others, other = torch.zeros(64, 2048).to(torch.float8_e4m3fn), torch.ones(1, 1)
    last = [None, None], torch.ones(()), None, [None, None], [64, 64], format_key(FP8), format_key(FP8)
    linear.fp8_linears(inputs(1, 2048), [codes, others], [scale, other], *last)
    count = len(gpu.started)
    linear.fp8_linears(inputs(1, 2048), [codes, codes], [scale, scale], *last)
    then, now = gpu.started[count - 1], gpu.started[-1]
    assert len(gpu.started) == 2 * count
    for tensor in (others, other):
        place = next(i for i, it in enumerate(then) if it is tensor)
        assert now[place] == (codes if tensor is others else scale).data_ptr()


def test_nothing_is_rounded_and_nothing_returned_again(gpu):
    for _ in range(2):
        assert launch.fake_quantize(torch.empty(0, 16), None, None, KEY).shape == (0, 16)
        qdata, scale, _ = launch.quantize(torch.empty(0, 16), None, None, KEY)
        assert (qdata.shape, scale.shape) == ((0, 16), (0, 1))
    assert not gpu.started


def test_a_result_that_is_no_memory_of_the_calls_own_is_not_repeated(gpu):
    @replay.replayed
    def itself(x):
        return x

    @replay.replayed
    def part(x):
        return torch.empty(8)[:4]

    for function in (itself, part):
        function(inputs())
        assert replay._KEPT.popitem()[1] is None


def test_a_tensor_that_was_not_given_is_not_kept(gpu):
    hidden = torch.ones(64, 1)

    @replay.replayed
    def rounded(x):
        out = torch.empty(x.shape, dtype=x.dtype)
        launch.fake_quantize.__wrapped__(x, hidden, None, KEY)
        return out

    rounded(inputs())
    assert replay._KEPT.popitem()[1] is None


def test_a_kernel_that_reads_by_descriptors_is_not_repeated(gpu):
    codes, weight = (torch.zeros(size, 256, dtype=torch.float8_e4m3fn) for size in (200, 256))
    scale, key = torch.ones(1, 1), format_key(FP8)
    arguments = [weight], [scale], [None], [None], [256], torch.float16, key, key  # in which torch has no product
    linear.fp8_linears_of_codes(codes, scale, None, *arguments)
    assert list(replay._KEPT.values()) == [None]


def test_a_call_that_fails_leaves_nothing(gpu):
    @replay.replayed
    def failing(x):
        raise ValueError("no")

    with pytest.raises(ValueError):
        failing(inputs())
    assert not replay._KEPT
    assert not restart.overhearing()
    launch.fake_quantize(inputs(), None, None, KEY)
    assert replay._KEPT.popitem()[1] is not None


def test_nothing_is_recorded_while_a_cuda_graph_is(gpu, monkeypatch):
    monkeypatch.setattr(replay, "capturing", lambda device: True)
    launch.fake_quantize(inputs(), None, None, KEY)
    assert not replay._KEPT


def test_recordings_are_forgotten_before_they_are_too_many(gpu, monkeypatch):
    monkeypatch.setattr(replay, "MOST_KEPT", 3)
    for rows in range(1, 6):
        launch.fake_quantize(inputs(rows, 256), None, None, KEY)
    assert len(replay._KEPT) == 2


def test_where_kernels_are_not_restarted_nothing_is_recorded(gpu, monkeypatch):
    monkeypatch.setattr(replay, "can_restart", lambda device: False)
    for _ in range(2):
        launch.fake_quantize(inputs(), None, None, KEY)
    assert not replay._KEPT
    assert len(gpu.started) == 2
