"""LoRA on a quantized checkpoint: adapters learn, codes stay. Collected where peft is installed (extra `peft`)."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")


def test_adapters_learn_on_top_of_quantized_layers_which_stay_as_they_are(written, open_as, ids, tmp_path):
    base = open_as(written("nvfp4").folder)
    frozen = {name: p.detach().clone() for name, p in base.named_parameters()}
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for _ in range(40):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    for name, p in base.named_parameters():
        plain = name.replace(".base_layer", "")
        if plain in frozen:
            assert torch.equal(p, frozen[plain]), name
    model.save_pretrained(tmp_path / "adapter")
    with torch.inference_mode():
        expected = model.eval()(ids).logits
        again = PeftModel.from_pretrained(open_as(written("nvfp4").folder), tmp_path / "adapter").eval()
        assert torch.equal(again(ids).logits, expected)
