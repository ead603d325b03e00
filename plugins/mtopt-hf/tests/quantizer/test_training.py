"""Training a quantized checkpoint that was opened again: transformers' Trainer, and what is saved afterwards."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")


def loss_of(model, ids):
    with torch.inference_mode():
        return float(model.eval()(ids, labels=ids).loss)


@pytest.mark.parametrize("recipe", ["fp8", "nvfp4"])
def test_a_few_steps_of_the_trainer_lower_the_loss_and_are_saved(recipe, written, open_as, ids, tmp_path):
    model = open_as(written(recipe).folder)
    before = loss_of(model, ids)
    options = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=8,
        per_device_train_batch_size=2,
        learning_rate=2e-3,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    Trainer(model, options, train_dataset=[{"input_ids": row, "labels": row} for row in ids]).train()
    after = loss_of(model, ids)
    assert after < 0.9 * before
    model.save_pretrained(tmp_path / "trained")
    assert loss_of(open_as(tmp_path / "trained"), ids) == after


def test_packed_layers_are_refused_by_the_trainer(written, open_as, ids, tmp_path):
    model = open_as(written("fp8").folder, "packed")
    options = TrainingArguments(str(tmp_path / "run"), max_steps=1, report_to=[], use_cpu=True)
    with pytest.raises(ValueError, match="quantiz"):
        Trainer(model, options, train_dataset=[{"input_ids": ids[0], "labels": ids[0]}])
