"""What a run of the data told is kept while it runs: after a kill at any moment the same call goes on after it."""

import multiprocessing
import os
import signal

import pytest

from mtcore.calibration import forward_batch
from mtcore.calibration.statistics import AMAX, StatisticsStore
from mtcore.flow import DataOptions, pace, quantize_checkpoint, search_checkpoint
from mtcore.flow import statistics as module
from mtcore.plan import make_plan
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks
from mtcore.trace import analyze

DATA = DataOptions(samples=12, length=16, batch_size=2)
BATCHES = 6


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"{SOURCE}{write_toy_blocks(tmp_path_factory.mktemp('toy'), ToyShape(layers=2))}"


def run(kind, source, folder):
    """Search, or quantize; what the data told lies in `folder`/kept."""
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    more = {"calib": "some", "data": DATA, "registry": registry, "statistics": folder / "kept"}
    if kind == "search":
        search_checkpoint(source, ("nvfp4", "fp8"), **more)
    else:
        products = kind == "quantize with products"
        quantize_checkpoint(source, "nvfp4", folder / "out", dialect="toy", products=products, **more)


def keep_always():
    pace.EVERY_SECONDS, pace.SHARE = 0.0, float("inf")


def run_and_die(kind, source, folder, method, when):
    """Keeps after every batch, and is killed at the beginning of a call of a method of the store."""
    keep_always()
    before, calls = getattr(StatisticsStore, method), [0]

    def die(self, *args):
        calls[0] += 1
        if calls[0] == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, *args)

    setattr(StatisticsStore, method, die)
    run(kind, source, folder)


def content(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def unbroken(source, tmp_path_factory):
    made = {}
    for kind in ("search", "quantize", "quantize with products"):
        folder = tmp_path_factory.mktemp("unbroken")
        run(kind, source, folder)
        made[kind] = content(folder)
    return made


@pytest.mark.parametrize("kind", ["search", "quantize", "quantize with products"])
@pytest.mark.parametrize(
    ("method", "when", "kept"),
    [
        ("keep_unfinished", 1, 0),
        ("keep_unfinished", 5, 4),
        ("_save", 4, 3),
        ("_write", 4, 3),  # its tensors lie there, its manifest does not
        ("_keep_only", 4, 4),  # its manifest lies there, and what it replaced too
        ("_remove", 1, BATCHES),  # the whole lies there, and what was unfinished too
    ],
)
def test_a_killed_run_goes_on_after_what_was_kept_and_ends_with_the_same_bytes(
    kind, method, when, kept, source, unbroken, tmp_path, monkeypatch
):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "mtcore.testing.toy_blocks", "torch._dynamo"])
    process = processes.Process(target=run_and_die, args=(kind, source, tmp_path, method, when))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    calls = []
    monkeypatch.setattr(module, "forward_batch", lambda *args: (calls.append(1), forward_batch(*args)))
    run(kind, source, tmp_path)
    assert len(calls) == BATCHES - kept
    assert content(tmp_path) == unbroken[kind]


@pytest.mark.parametrize("folded", [False, True])
def test_what_a_model_with_folds_told_is_not_kept_as_that_of_the_model(
    folded, model, batch, specs, make_config, tmp_path
):
    plan = make_plan(model, make_config({"*weight_quantizer": "fp8"}), specs, analyze(model, batch))
    store = StatisticsStore.open(tmp_path / "kept", {"weights": "w", "data": "d"})

    def fail_in_the_second(batch):
        if batch is batches[1]:
            raise TimeoutError("the data were taken away")

    batches = [batch, batch.clone()]
    statistics = module.stored_statistics(model, plan, (), store, batches, fail_in_the_second)
    statistics.folded = folded
    with pytest.raises(TimeoutError):
        statistics.need({("2", "input"): AMAX})
    assert (tmp_path / "kept" / "unfinished.json").exists() == (not folded)
