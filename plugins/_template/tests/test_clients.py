"""The rule keeps its contract: silent on a good checkpoint, clear about a planted fault."""

import pytest
import torch
from safetensors.torch import save_file

from mtcore.testing import LintRuleContract
from mtopt_template.clients import SERVER, WIDTH


class TestWidth(LintRuleContract):
    @pytest.fixture
    def rule(self):
        return WIDTH

    @pytest.fixture
    def client(self):
        return SERVER

    @pytest.fixture
    def good(self, tmp_path):
        save_file({"up.weight": torch.zeros(2, 8)}, tmp_path / "model.safetensors")
        return tmp_path

    @pytest.fixture
    def planted(self, tmp_path):
        save_file({"up.weight": torch.zeros(2, 7)}, tmp_path / "model.safetensors")
        return tmp_path
