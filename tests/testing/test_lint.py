"""LintRuleContract: it holds for a built-in rule."""

import pytest

from mtcore.lint import ClientSpec, Reading, file_rules
from mtcore.testing import LintRuleContract


class TestUnreadableJson(LintRuleContract):
    @pytest.fixture
    def rule(self):
        return next(rule for rule in file_rules() if rule.name == "json-unreadable")

    @pytest.fixture
    def client(self):
        return ClientSpec("mine", "a server of ours", lambda checkpoint: Reading("plain", "as it is"))

    @pytest.fixture
    def good(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        return tmp_path

    @pytest.fixture
    def planted(self, tmp_path):
        (tmp_path / "config.json").write_text("{")
        return tmp_path
