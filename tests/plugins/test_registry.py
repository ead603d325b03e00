"""The registry: what it holds, in which order, and how it answers for plugins that are missing or broken."""

import dataclasses

import pytest
import torch
from torch import nn

from mtcore.errors import CalibrationError, ModelError, PluginError, UnknownNameError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.loaded import LoadedModel
from mtcore.formats import builtin_formats
from mtcore.plugins import Registry, RunFacts, default_registry, find_plugins
from mtcore.trace import TraceInputs


def load(*extra, **options):
    return Registry.load(extra, discover=False, **options)


def test_the_built_ins_come_through_the_hooks():
    registry = load()
    assert list(registry.formats.values()) == list(builtin_formats())
    assert "nn.Linear" in registry.quant_modules
    assert "nn.Linear" in registry.symbols
    assert "aten::mm" in registry.trace_rules
    assert "max" in registry.algorithms
    assert registry.plugins[0].name == "builtin"
    assert registry.plugins[0].contributes["mtcore_formats"] == len(registry.formats)
    assert registry.failures == ()


def test_an_alias_finds_its_format_and_is_not_listed(make_plugin, make_format):
    formats = load(make_plugin("a", mtcore_formats=lambda: [make_format("fp5", ("five",))])).formats
    assert formats["five"] is formats["fp5"]
    assert "five" in formats
    assert "five" not in list(formats)


def test_records_stand_built_ins_first_then_plugin_by_plugin(make_plugin, make_format):
    one = make_plugin("z", mtcore_formats=lambda: [make_format("z1"), make_format("z2")])
    two = make_plugin("a", mtcore_formats=lambda: [make_format("a1")])
    names = [format.name for format in builtin_formats()]
    assert list(load(one, two).formats) == [*names, "z1", "z2", "a1"]


def test_a_registry_cannot_be_changed():
    registry = load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.formats = {}
    with pytest.raises(TypeError):
        registry.formats["x"] = None
    with pytest.raises(AttributeError):
        registry.formats.kind = "x"
    with pytest.raises(TypeError):
        registry.plugins[0].contributes["x"] = 1


def test_a_hook_that_raises_costs_its_plugin_everything_and_nobody_else_anything(make_plugin, make_format):
    def broken():
        yield make_format("half")
        raise OSError("table missing")

    bad = make_plugin("bad", mtcore_formats=broken, mtcore_load_model=lambda source: LoadedModel(nn.ReLU(), source))
    good = make_plugin("good", mtcore_formats=lambda: [make_format("whole")])
    registry = load(bad, good)
    assert "whole" in registry.formats
    assert "half" not in registry.formats
    assert [(f.plugin, f.error) for f in registry.failures] == [("bad", "OSError: table missing")]
    assert "table missing" in registry.failures[0].traceback
    assert [plugin.name for plugin in registry.plugins] == ["builtin", "good"]
    with pytest.raises(ModelError):
        registry.load_model("x")


def test_a_missing_name_tells_the_nearest_name_and_the_failed_plugin(make_plugin):
    def broken():
        raise RuntimeError("no table")

    registry = load(make_plugin("toy", mtcore_formats=broken))
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'nvfp4'\?.*plugin 'toy' failed to load: RuntimeError"
    ):
        registry.formats["nvpf4"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (lambda: ["fp5"], "mtcore_formats gave a str; it must give TensorFormat records"),
        (lambda: None, "mtcore_formats returned a NoneType; yield TensorFormat records"),
    ],
)
def test_a_record_of_another_type_names_hook_plugin_and_type(make_plugin, given, complaint):
    failure = load(make_plugin("toy", mtcore_formats=given)).failures[0]
    assert str(failure) == f"plugin 'toy' failed to load: {complaint}"


def test_a_record_needs_a_name_of_its_own(make_plugin, make_format):
    plugins = [
        make_plugin("twice", mtcore_formats=lambda: [make_format("x"), make_format("y", ("x",))]),
        make_plugin("nameless", mtcore_formats=lambda: [make_format("")]),
    ]
    assert [failure.error for failure in load(*plugins).failures] == [
        "mtcore_formats gave the number format 'x' twice",
        "mtcore_formats gave a number format with the name ''; a name is text",
    ]


@pytest.mark.parametrize("strict", [True, False])
def test_a_name_that_two_plugins_bring_is_an_error_that_names_both(make_plugin, make_format, strict):
    one = make_plugin("one", mtcore_formats=lambda: [make_format("fp5")])
    two = make_plugin("two", mtcore_formats=lambda: [make_format("other", aliases=("fp5",)), make_format("nvfp4")])
    with pytest.raises(PluginError) as raised:
        load(one, two, strict=strict)
    first, second = str(raised.value).splitlines()
    assert "number format 'fp5' is brought by plugin 'one' and by plugin 'two'" in first
    assert "number format 'nvfp4' is brought by plugin 'builtin' (mtcore" in second


def test_strict_mode_raises_all_failures_with_their_tracebacks(make_plugin):
    def broken():
        raise OSError("table missing")

    with pytest.raises(PluginError, match=r"plugin 'a' failed[^\n]*\nplugin 'b' failed") as raised:
        load(make_plugin("a", mtcore_formats=broken), make_plugin("b", mtcore_formats=broken), strict=True)
    assert "Traceback" in raised.value.__notes__[0]


def test_the_first_loader_that_answers_wins_and_is_named(make_plugin):
    asked = []

    def loader(name, answers):
        def load_model(source):
            asked.append(name)
            return LoadedModel(nn.ReLU(), source) if answers else None

        return make_plugin(name, mtcore_load_model=load_model)

    registry = load(loader("no", False), loader("yes", True), loader("late", True))
    loaded = registry.load_model("tiny")
    assert (asked, loaded.loader, loaded.source) == (["no", "yes"], "yes", "tiny")


def test_an_exception_of_a_loader_is_raised_as_it_is_with_the_plugins_name(make_plugin):
    def broken(source):
        raise ModelError(f"{source}: truncated")

    with pytest.raises(ModelError, match="tiny: truncated") as raised:
        load(make_plugin("toy", mtcore_load_model=broken)).load_model("tiny")
    assert raised.value.__notes__ == ["raised in mtcore_load_model of plugin 'toy'"]


def test_a_loader_that_returns_another_type_is_named(make_plugin):
    registry = load(make_plugin("toy", mtcore_load_model=lambda source: nn.ReLU()))
    with pytest.raises(PluginError, match="plugin 'toy': mtcore_load_model returned a ReLU; return a LoadedModel"):
        registry.load_model("tiny")


def test_nobody_knows_the_source_says_who_was_asked(make_plugin):
    with pytest.raises(ModelError, match=r"can load the model 'tiny'; no plugin for that is installed \(mtopt-hf"):
        load().load_model("tiny")
    shy = make_plugin("shy", mtcore_load_model=lambda source: None)
    with pytest.raises(ModelError, match="no plugin can load the model 'tiny'; asked: shy"):
        load(shy).load_model("tiny")


def test_a_source_that_is_no_path_is_said_to_be_none(make_plugin, tmp_path):
    registry = load(make_plugin("shy", mtcore_load_model=lambda source: None))
    with pytest.raises(ModelError, match=r"^nowhere: no such directory or file, and no plugin can load the model"):
        registry.load_model("nowhere")
    with pytest.raises(ModelError, match=r"^no plugin can load the model"):
        registry.load_model(str(tmp_path))


def test_batches_come_from_the_first_plugin_that_knows_the_data(make_plugin):
    def batches(source, options):
        return [{"x": torch.zeros(options.batch_size)}] if source == "zeros" else None

    registry = load(make_plugin("toy", mtcore_calibration_batches=batches))
    loaded = LoadedModel(nn.ReLU(), "relu")
    assert registry.calibration_batches("zeros", loaded, DataOptions(batch_size=3))[0]["x"].shape == (3,)
    with pytest.raises(CalibrationError, match="can make batches of 'ones' for 'relu'; asked: toy"):
        registry.calibration_batches("ones", loaded, DataOptions())


def test_a_trace_takes_given_inputs_then_a_plugins_then_its_own_guess(make_plugin):
    wide = nn.Sequential(nn.Conv2d(5, 4, 3))
    made = TraceInputs((torch.zeros(1, 5, 8, 8),))
    registry = load(make_plugin("toy", mtcore_example_inputs=lambda model: made if model is wide else None))
    assert registry.example_inputs(nn.ReLU()) is None
    assert registry.trace_model(wide).calls("0") == 1
    assert registry.trace_model(nn.Sequential(nn.ReLU()), torch.zeros(2)).calls("0") == 1
    assert registry.trace_model(nn.Sequential(nn.Linear(3, 3))).calls("0") == 1


def test_a_plugin_traces_before_the_built_in(make_plugin):
    report = load().trace_model(nn.ReLU(), torch.zeros(1))
    registry = load(make_plugin("toy", mtcore_trace_model=lambda model, inputs: report))
    assert registry.trace_model(nn.Tanh()) is report


def test_observers_see_every_phase_and_how_it_ended(make_plugin):
    seen = []
    plugin = make_plugin(
        "toy",
        mtcore_before_phase=lambda run, phase: seen.append((run.source, phase)),
        mtcore_after_phase=lambda phase, outcome: seen.append((phase, outcome.error)),
    )
    registry, stop = load(plugin), KeyboardInterrupt()
    with registry.phase(RunFacts("tiny", "fp8"), "plan"):
        pass
    with pytest.raises(KeyboardInterrupt), registry.phase(RunFacts("tiny", "fp8"), "calibrate"):
        raise stop
    assert seen == [("tiny", "plan"), ("plan", None), ("tiny", "calibrate"), ("calibrate", stop)]


def test_an_observer_that_raises_is_logged_and_stops_nothing(make_plugin, caplog):
    def broken(phase):
        raise OSError("disk full")

    registry, done = load(make_plugin("toy", mtcore_before_phase=broken)), []
    with registry.phase(RunFacts("tiny", "fp8"), "calibrate"):
        done.append(True)
    assert done
    assert "mtcore_before_phase of plugin 'toy' raised; the run goes on" in caplog.text
    assert "disk full" in caplog.text


def test_two_registries_of_the_same_plugins_agree(make_plugin, make_format):
    found = find_plugins([make_plugin("a", mtcore_formats=lambda: [make_format("x")])], discover=False)
    assert Registry.of(found).formats == Registry.of(found).formats


def test_the_default_registry_is_loaded_once():
    assert default_registry() is default_registry()
