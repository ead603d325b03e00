"""A toy loader keeps the contract of model loaders; and the contract finds what is wrong with a bad one."""

from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mtcore.errors import ModelError
from mtcore.flow.loaded import LoadedModel
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.testing import ModelLoaderContract


class Characters:
    bos_id = None

    def encode(self, text):
        return [ord(character) for character in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


@hookimpl
def mtcore_load_model(source):
    if not source.endswith(".toy"):
        return None
    model = nn.Linear(3, 2).eval()
    try:
        model.load_state_dict(load_file(source))
    except SafetensorError as error:
        raise ModelError(f"{source}: no safetensors file ({error}); copy it again") from error
    return LoadedModel(model, source, Characters(), example_inputs={"input": torch.zeros(1, 3)})


class TestToyLoader(ModelLoaderContract):
    @pytest.fixture
    def plugin(self):
        return SimpleNamespace(__name__="toy", mtcore_load_model=mtcore_load_model)

    @pytest.fixture
    def source(self, tmp_path):
        save_file(nn.Linear(3, 2).state_dict(), tmp_path / "good.toy")
        return str(tmp_path / "good.toy")

    @pytest.fixture
    def broken_sources(self, source, tmp_path):
        whole = (tmp_path / "good.toy").read_bytes()
        (tmp_path / "short.toy").write_bytes(whole[:-5])
        return [str(tmp_path / "short.toy")]


def load(answer):
    plugin = SimpleNamespace(__name__="bad", mtcore_load_model=hookimpl(lambda source: answer(source)))
    return Registry.load([plugin], discover=False)


def test_a_model_in_training_mode_is_found():
    loaded = load(lambda source: LoadedModel(nn.Dropout(), source)).load_model("x")
    with pytest.raises(AssertionError, match="in training mode"):
        ModelLoaderContract().test_the_model_is_in_eval_mode_and_has_values(loaded)


def test_a_model_on_the_meta_device_is_found():
    loaded = load(lambda source: LoadedModel(nn.Linear(2, 2, device="meta").eval(), source)).load_model("x")
    with pytest.raises(AssertionError, match=r"without values: \['weight', 'bias'\]"):
        ModelLoaderContract().test_the_model_is_in_eval_mode_and_has_values(loaded)


def test_a_loader_that_takes_everything_is_found():
    with pytest.raises(AssertionError, match="no ModelError was raised: return None for what is not yours"):
        ModelLoaderContract().test_a_source_of_somebody_else_is_left_to_others_quickly(
            load(lambda source: LoadedModel(nn.ReLU(), source))
        )


def test_random_weights_are_found():
    registry = load(lambda source: LoadedModel(nn.Linear(2, 2).eval(), source))
    with pytest.raises(AssertionError, match="weight of a second load: first differing element"):
        ModelLoaderContract().test_two_loads_give_the_same_values(registry.load_model("x"), registry, "x")
