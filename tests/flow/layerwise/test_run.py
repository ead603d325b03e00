"""Block by block gives what the whole model gives; a run that is cut off anywhere ends with the same bytes."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from mtcore.errors import CalibrationError, StateError
from mtcore.files import TensorFile
from mtcore.flow import DataOptions, LayerwiseOptions
from mtcore.flow.layerwise.directory import RunDirectory
from mtcore.recipe import load_config


@pytest.fixture
def recipe(registry):
    """`recipe("fp8", "gptq")`: a preset with another algorithm."""

    def load(name, algorithm="max"):
        changes = [f"algorithm={algorithm}"]
        return load_config(name, formats=registry.formats, recipes=registry.recipes, overrides=changes)

    return load


@pytest.mark.parametrize("algorithm", ["max", "gptq"])
@pytest.mark.parametrize("name", ["fp8", "int8_static", "nvfp4", "mxfp4_weight_only"])
def test_the_checkpoint_is_that_of_a_run_on_the_whole_model_bit_for_bit(
    quantize, content, recipe, tmp_path, name, algorithm
):
    quantize(recipe(name, algorithm), tmp_path / "whole", None)
    quantize(recipe(name, algorithm), tmp_path / "blocks")
    assert content(tmp_path / "blocks") == content(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocks", "whole"]


@pytest.mark.parametrize("algorithm", ["rotate", "mse", "local_hessian"])
def test_every_algorithm_runs_on_one_block_at_a_time(quantize, recipe, tmp_path, algorithm):
    quantize(recipe("int8_static", algorithm), tmp_path / "out")
    assert (tmp_path / "out" / "layers.2.safetensors").exists()


@pytest.mark.parametrize("algorithm", ["smoothquant", "awq"])
def test_folds_inside_a_block_are_those_of_the_whole_model(quantize, recipe, tmp_path, algorithm):
    """Codes follow from the original inputs of a block, which are the same. Scales of inputs are taken after the
    fold, and the whole model's later blocks then see the folded earlier ones, which differ by rounding only: some
    200 roundings a block of 6e-8 each."""
    quantize(recipe("fp8", algorithm), tmp_path / "whole", None)
    quantize(recipe("fp8", algorithm), tmp_path / "blocks")
    for file in (tmp_path / "whole").glob("*.safetensors"):
        whole, blocks = TensorFile(file), TensorFile(tmp_path / "blocks" / file.name)
        assert whole.keys() == blocks.keys()
        for name, tensor in whole.items():
            if name.endswith("/input/"):
                torch.testing.assert_close(blocks[name], tensor, rtol=4e-5, atol=0)
            else:
                assert torch.equal(blocks[name].view(torch.uint8), tensor.view(torch.uint8)), name


def test_steps_follow_each_other_inside_every_block(quantize, recipe, tmp_path):
    quantize(recipe("int8_static", "[smoothquant, gptq]"), tmp_path / "out")
    assert TensorFile(tmp_path / "out" / "layers.0.safetensors")["layers.0.gate/weight/qdata"].dtype == torch.int8


@pytest.mark.parametrize("algorithm", ["smoothquant", "{method: svdquant, rank: 4}"])
def test_what_layers_hold_beside_codes_is_that_of_the_whole_model(quantize, recipe, tmp_path, algorithm):
    """The gates of this model stand behind a shift, which no fold passes; so their scales stay on the layer."""
    part = "pre_quant_scale" if algorithm == "smoothquant" else "up"
    for out, options in (("whole", None), ("blocks", LayerwiseOptions())):
        summary = quantize(recipe("int8_static", algorithm), tmp_path / out, options)
    held = [m for m in summary.plan.quantized if m.extras]
    assert {m.name for m in held} >= {"layers.0.gate", "layers.2.up"}
    for module in held:
        file = "layers." + module.name.split(".")[1] if module.name.startswith("layers") else "rest"
        whole, blocks = (TensorFile(tmp_path / out / f"{file}.safetensors") for out in ("whole", "blocks"))
        assert torch.equal(whole[f"{module.name}/extras/{part}"], blocks[f"{module.name}/extras/{part}"])


def test_without_data_only_weights_are_worked_on(quantize, content, tmp_path):
    quantize("int8_weight_only", tmp_path / "whole", None, calib=None)
    quantize("int8_weight_only", tmp_path / "blocks", calib=None)
    assert content(tmp_path / "blocks") == content(tmp_path / "whole")


def test_propagated_errors_reach_later_blocks_only(quantize, tmp_path):
    quantize("fp8", tmp_path / "kept")
    quantize("fp8", tmp_path / "propagated", LayerwiseOptions(propagate=True))

    def scale(out, block):
        return TensorFile(tmp_path / out / f"layers.{block}.safetensors")[f"layers.{block}.down/input/"]

    assert torch.equal(scale("kept", 0), scale("propagated", 0))
    assert not torch.equal(scale("kept", 2), scale("propagated", 2))


def test_batches_of_any_kind_are_data(quantize, content, tmp_path):
    batches = [torch.arange(16).view(1, 16), (torch.arange(8, 24).view(1, 16),)]
    quantize("fp8", tmp_path / "whole", None, calib=batches)
    quantize("fp8", tmp_path / "blocks", calib=iter(batches))
    assert content(tmp_path / "blocks") == content(tmp_path / "whole")


class Crash(BaseException):
    """The process is gone: nothing after it is done, no `except Exception` sees it."""


def crash_at(monkeypatch, step: int) -> list[str]:
    """The `step`-th flush to the disk does not happen any more. Gives what was flushed before."""
    flushed: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        if len(flushed) == step:
            raise Crash
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return flushed


@pytest.mark.parametrize(
    ("algorithm", "stride"), [("max", 5), ("gptq", 13), ("[smoothquant, {method: svdquant, rank: 4}]", 13)]
)
def test_a_run_that_is_cut_off_before_any_flush_ends_with_the_same_bytes(
    quantize, content, recipe, tmp_path, monkeypatch, algorithm, stride
):
    """A file takes two flushes; strides that are odd meet both, and every kind of file."""
    quantize(recipe("fp8", algorithm), tmp_path / "unbroken")
    expected, step = content(tmp_path / "unbroken"), 0
    while True:
        out = tmp_path / "out"
        with monkeypatch.context() as patch:
            crash_at(patch, step)
            try:
                quantize(recipe("fp8", algorithm), out)
            except Crash:
                assert not out.exists()
            else:
                break
        quantize(recipe("fp8", algorithm), out)
        assert content(out) == expected
        shutil.rmtree(out)
        step += stride
    assert step > 30


def test_a_finished_block_is_not_done_again(quantize, tmp_path, monkeypatch):
    from mtcore.flow.layerwise.units import Units

    worked = []
    do_block = Units._do_block

    def watched(self, number, calls):
        worked.append(number)
        if worked == [0, 1]:
            raise Crash
        do_block(self, number, calls)

    monkeypatch.setattr(Units, "_do_block", watched)
    with pytest.raises(Crash):
        quantize("fp8", tmp_path / "out")
    quantize("fp8", tmp_path / "out")
    assert worked == [0, 1, 1, 2]


def test_the_summary_is_that_of_the_whole_model_also_where_another_process_did_some_blocks(
    quantize, tmp_path, monkeypatch
):
    whole = quantize("fp8", tmp_path / "whole", None).calibration
    leave_unfinished(quantize, tmp_path / "out", monkeypatch)
    assert quantize("fp8", tmp_path / "out").calibration.to_json() == whole.to_json()
    assert len(whole.layers) > 3


def test_without_data_the_summary_tells_of_weights(quantize, tmp_path):
    told = quantize("mxfp4_weight_only", tmp_path / "out", calib=None).calibration
    assert told.layers
    assert {layer.output_error for layer in told.layers} == {None}


def test_an_interrupted_run_says_what_is_kept(quantize, tmp_path, monkeypatch, caplog):
    from mtcore.flow.layerwise.units import Units

    do_block = Units._do_block

    def stopped(self, number, calls):
        if number == 2:
            raise KeyboardInterrupt
        do_block(self, number, calls)

    monkeypatch.setattr(Units, "_do_block", stopped)
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        quantize("fp8", tmp_path / "out")
    assert "2 of 4 blocks are done and kept; the same call goes on" in caplog.text


def leave_unfinished(quantize, out, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        crash_at(patch, 20)
        with pytest.raises(Crash):
            quantize("fp8", out)


def test_an_unfinished_run_of_something_else_is_refused_by_name(quantize, tmp_path, monkeypatch):
    out = tmp_path / "out"
    leave_unfinished(quantize, out, monkeypatch)
    with pytest.raises(StateError, match="run of another recipe lies there") as caught:
        quantize("nvfp4", out)
    assert "--restart" in str(caught.value)
    with pytest.raises(StateError, match="another data"):
        quantize("fp8", out, data=DataOptions(samples=2, length=16, batch_size=2))
    with pytest.raises(StateError, match="another dialect, option or version"):
        quantize("fp8", out, LayerwiseOptions(propagate=True))
    with pytest.raises(StateError, match="another recipe and another data"):
        quantize("nvfp4", out, calib=None)


def test_restart_throws_an_unfinished_run_away(quantize, content, tmp_path, monkeypatch):
    leave_unfinished(quantize, tmp_path / "out", monkeypatch)
    quantize("nvfp4", tmp_path / "out", LayerwiseOptions(restart=True))
    quantize("nvfp4", tmp_path / "other")
    assert content(tmp_path / "out") == content(tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out"]


def test_a_kill_after_the_last_step_leaves_a_whole_result(quantize, content, tmp_path, monkeypatch):
    def crash(self):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("mtcore.flow.layerwise.directory.RunDirectory.remove", crash)
        with pytest.raises(Crash):
            quantize("fp8", tmp_path / "out")
    before = content(tmp_path / "out")
    summary = quantize("fp8", tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert summary.exported.size_bytes == sum(map(len, before.values()))
    assert not (tmp_path / "out.run").exists()


def test_an_old_output_stays_until_the_new_one_is_whole(quantize, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("old", "config.json"):
        (out / name).touch()
    with monkeypatch.context() as patch:
        crash_at(patch, 20)
        with pytest.raises(Crash):
            quantize("fp8", out, overwrite=True)
    assert (out / "old").exists()
    quantize("fp8", out, overwrite=True)
    assert not (out / "old").exists()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("restart", [False, True])
def test_files_that_no_run_left_are_not_cleared_away(quantize, tmp_path, restart):
    (tmp_path / "out.run").mkdir()
    (tmp_path / "out.run" / "model.safetensors").write_text("mine")
    with pytest.raises(StateError, match=r"holds model\.safetensors, which no run left"):
        quantize("fp8", tmp_path / "out", LayerwiseOptions(restart=restart))
    assert (tmp_path / "out.run" / "model.safetensors").read_text() == "mine"


def test_two_runs_of_one_output_do_not_mix(quantize, tmp_path, monkeypatch):
    def second(*_):
        quantize("fp8", tmp_path / "out")

    monkeypatch.setattr("mtcore.flow.layerwise.units.learn_chain", second)
    with pytest.raises(StateError, match="another run works there"):
        quantize("fp8", tmp_path / "out")


def test_a_damaged_journal_is_told(quantize, tmp_path):
    (tmp_path / "out.run").mkdir()
    (tmp_path / "out.run" / "journal.json").write_text("{}")
    with pytest.raises(StateError, match="no journal of a run"):
        quantize("fp8", tmp_path / "out")


def test_the_models_weights_are_as_they_were(toy, registry, quantize, tmp_path, monkeypatch):
    loaded = registry.load_model(f"toy:{toy}")
    before = {name: (p, p.data_ptr(), p.dtype) for name, p in loaded.model.named_parameters()}
    monkeypatch.setattr(type(registry), "load_model", lambda self, source: loaded)
    quantize("fp8", tmp_path / "out")
    assert {name: (p, p.data_ptr(), p.dtype) for name, p in loaded.model.named_parameters()} == before


def test_a_model_without_a_list_of_blocks_is_refused(toy, registry, quantize, tmp_path, monkeypatch):
    loaded = registry.load_model(f"toy:{toy}")
    del loaded.model.layers[1:]
    monkeypatch.setattr(type(registry), "load_model", lambda self, source: loaded)
    with pytest.raises(CalibrationError, match="no list of blocks"):
        quantize("fp8", tmp_path / "out")


def test_a_device_that_is_not_there_is_told(quantize, tmp_path):
    for name in ("cuda:99", "abacus"):
        with pytest.raises(CalibrationError, match=f"there is no device '{name}' here"):
            quantize("fp8", tmp_path / "out", LayerwiseOptions(device=name))
    assert not list(tmp_path.iterdir())


def test_bad_data_stop_with_the_layers_name_and_keep_what_is_done(toy, registry, quantize, tmp_path, monkeypatch):
    loaded = registry.load_model(f"toy:{toy}")
    loaded.model.layers[1].up.weight.data = torch.full_like(loaded.model.layers[1].up.weight, torch.nan)
    monkeypatch.setattr(type(registry), "load_model", lambda self, source: loaded)
    with pytest.raises(CalibrationError, match=r"layers\.1\.down"):
        quantize("fp8", tmp_path / "out")
    assert '"layers.0"' in (tmp_path / "out.run" / "journal.json").read_text()


def test_a_kill_while_the_run_directory_is_removed_leaves_a_run_that_the_same_call_ends(
    quantize, content, tmp_path, monkeypatch
):
    quantize("fp8", tmp_path / "unbroken")
    remove = RunDirectory.remove

    def killed(directory):
        unlink = Path.unlink

        def until_the_journal(path, **how):
            if path.name == "journal.json":
                raise KeyboardInterrupt
            unlink(path, **how)

        monkeypatch.setattr(Path, "unlink", until_the_journal)
        try:
            remove(directory)
        finally:
            monkeypatch.setattr(Path, "unlink", unlink)

    monkeypatch.setattr(RunDirectory, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        quantize("fp8", tmp_path / "out")
    monkeypatch.setattr(RunDirectory, "remove", remove)
    assert not list((tmp_path / "out.run").glob("*.safetensors"))
    summary = quantize("fp8", tmp_path / "out")
    assert len(summary.calibration.layers) == 10
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")
    assert not (tmp_path / "out.run").exists()
