"""Bad input, end to end: one clear line, and nothing half-written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

import mtopt_tinylm
from mtcore.cli.main import run

ONE_MEGABYTE = 1_000_000
MTOPT = (sys.executable, "-c", "from mtcore.cli.main import main; main()")


@pytest.fixture
def quantize(tmp_path, capsys):
    """Runs `mtopt quantize` on the embedded model into an empty folder, options replaced as asked for.

    Gives the exit code and what stood on stderr, after checking that the output folder is still empty.
    """
    outputs = tmp_path / "outputs"
    outputs.mkdir()

    def call(model=None, *, recipe="fp8", calib=None, out="checkpoint", leaves=(), extra=()):
        model = model or mtopt_tinylm.checkpoint_dir()
        calib = calib or mtopt_tinylm.calibration_file()
        line = ["quantize", model, "--recipe", recipe, "--calib", calib, "-o", outputs / out]
        small = ["--samples", "2", "--length", "32"]
        code = run([str(part) for part in (*line, *small, *extra)])
        shown = capsys.readouterr()
        assert shown.out == ""
        assert sorted(path.name for path in outputs.iterdir()) == sorted(leaves)
        return code, shown.err

    call.outputs = outputs
    return call


@pytest.fixture
def broken(tmp_path):
    """A copy of the embedded checkpoint that a test may break."""
    copy = tmp_path / "broken"
    shutil.copytree(mtopt_tinylm.checkpoint_dir(), copy)
    return copy


def error_line(stderr):
    """The one line that says what is wrong; progress lines may stand before it."""
    lines = [line for line in stderr.splitlines() if line.startswith(("error:", "internal error:", "warning:"))]
    assert len(lines) == 1, stderr
    assert stderr.splitlines()[-1] == lines[0], "nothing stands behind the error"
    return lines[0]


def test_an_unknown_recipe_is_answered_with_the_nearest_name(quantize):
    code, err = quantize(recipe="nvpf4")
    assert code == 1
    assert error_line(err).startswith("error: no recipe named 'nvpf4'. Did you mean 'nvfp4'?")


def test_an_unknown_dialect_is_answered_before_the_model_is_loaded(quantize):
    code, err = quantize(extra=["--dialect", "compressed-tensor"])
    assert code == 1
    assert err.startswith("error: no target named 'compressed-tensor'. Did you mean 'compressed-tensors'?")


def test_a_directory_without_a_model_is_named(quantize, tmp_path):
    (tmp_path / "photos").mkdir()
    code, err = quantize(tmp_path / "photos")
    assert code == 1
    assert str(tmp_path / "photos") in error_line(err)
    assert "config.json" in err


def test_a_model_that_is_not_there_is_named(quantize, tmp_path):
    code, err = quantize(tmp_path / "nowhere")
    assert code == 1
    assert str(tmp_path / "nowhere") in error_line(err)


@pytest.mark.parametrize("keep", [0, 7, 5_000, ONE_MEGABYTE])
def test_a_truncated_weight_file_is_named(quantize, broken, keep):
    os.truncate(broken / "model.safetensors", keep)
    code, err = quantize(broken)
    assert code == 1
    assert "model.safetensors" in error_line(err)


def test_a_text_that_is_too_short_says_how_much_is_needed(quantize, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("Too short.\n")
    code, err = quantize(calib=text)
    assert code == 1
    assert "short.txt" in error_line(err)
    assert "need" in err


def test_a_text_that_is_not_there_is_named(quantize, tmp_path):
    code, err = quantize(calib=tmp_path / "none.txt")
    assert code == 1
    assert "none.txt" in error_line(err)


def test_static_scales_without_a_text_say_that_they_need_one(tmp_path, capsys):
    line = ["quantize", mtopt_tinylm.checkpoint_dir(), "--recipe", "fp8", "-o", tmp_path / "out"]
    assert run([str(part) for part in line]) == 1
    assert "data" in error_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_an_output_directory_that_exists_is_left_alone(quantize):
    existing = quantize.outputs / "checkpoint"
    existing.mkdir()
    (existing / "precious.txt").write_text("mine")
    code, err = quantize(leaves=["checkpoint"])
    assert code == 1
    assert err.startswith(f"error: {existing}: exists already")
    assert [path.read_text() for path in existing.iterdir()] == ["mine"]


def test_force_replaces_an_output_directory(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("old.txt", "config.json"):
        (out / name).write_text("old")
    line = ["quantize", mtopt_tinylm.checkpoint_dir(), "--recipe", "int8", "-o", out, "--force", "--json"]
    assert run([str(part) for part in line]) == 0
    assert set(json.loads(capsys.readouterr().out)["files"]) == {path.name for path in out.iterdir()}
    assert "old.txt" not in os.listdir(out)
    assert os.listdir(tmp_path) == ["out"]


def test_features_that_no_block_divides_are_named_before_anything_is_changed(quantize, broken):
    config = AutoConfig.from_pretrained(broken, intermediate_size=1000, num_hidden_layers=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(broken)
    code, err = quantize(broken, recipe="nvfp4")
    assert code == 1
    problems = [line for line in err.splitlines() if "are not a multiple" in line]
    assert len(problems) == 1, "both layers have one problem"
    assert "model.layers.[0-1].mlp.down_proj: 1000 input features are not a multiple of block 16" in problems[0]
    assert "rule #1 of recipe nvfp4" in problems[0]
    assert "leave it out: --set 'rules.+={modules: [\"model.layers.*.mlp.down_proj\"], skip: true}'" in problems[0]


def test_a_full_disk_is_said_and_nothing_stays(quantize):
    # A limit on the size of a file stops the same writes as a full disk does, and needs no disk.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ONE_MEGABYTE, before[1]))
    try:
        code, err = quantize(recipe="int8")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert "nothing was left behind" in error_line(err)


def test_a_disk_that_is_really_full_is_called_full(quantize):
    disk = quantize.outputs / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        code, err = quantize(recipe="int8", out="disk/checkpoint", leaves=["disk"])
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert code == 1
    assert "the disk is full; nothing was written" in error_line(err)


@pytest.mark.parametrize(
    ("signal_number", "code", "last_line"),
    [(signal.SIGINT, 130, "interrupted: no checkpoint was written"), (signal.SIGTERM, 143, "")],
)
def test_an_interrupted_run_leaves_nothing_behind(tmp_path, signal_number, code, last_line):
    texts = mtopt_tinylm.calibration_file()
    line = [
        "quantize",
        mtopt_tinylm.checkpoint_dir(),
        "--recipe",
        "nvfp4",
        "--calib",
        texts,
        "-o",
        tmp_path / "out",
    ]
    process = subprocess.Popen(
        [*MTOPT, *map(str, line)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        # A shell starts background jobs with the interrupt ignored, which a child would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    seen = process.stderr.readline()
    while not seen.startswith("plan:"):  # calibration comes next, and takes seconds
        assert seen, "the run ended before it could be interrupted"
        seen = process.stderr.readline()
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.strip() == last_line
    assert os.listdir(tmp_path) == []
