"""LintRuleContract: what every lint rule promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtcore.lint import ClientSpec, RuleSpec, lint, open_checkpoint
from mtcore.testing.exporters import digests


class LintRuleContract:
    """Override the fixtures `rule`, `client`, `good` and `planted`.

    `good` is a directory in which the rule finds nothing, `planted` one that breaks it for the client.
    """

    @pytest.fixture
    def rule(self) -> RuleSpec:
        raise NotImplementedError("override the fixture `rule`: the record that is tested")

    @pytest.fixture
    def client(self) -> ClientSpec:
        raise NotImplementedError("override the fixture `client`: one that the rule concerns")

    @pytest.fixture
    def good(self, tmp_path: Path) -> Path:
        raise NotImplementedError("override the fixture `good`: a directory without the fault")

    @pytest.fixture
    def planted(self, tmp_path: Path) -> Path:
        raise NotImplementedError("override the fixture `planted`: a directory with the fault")

    def test_it_concerns_the_client(self, rule: RuleSpec, client: ClientSpec) -> None:
        severity = rule.severity_for(client.name)
        assert severity in ("error", "warning", "note"), f"{rule.name} does not concern {client.name}: {severity}"

    def test_it_is_silent_on_a_good_checkpoint(self, rule: RuleSpec, client: ClientSpec, good: Path) -> None:
        findings = lint(open_checkpoint(good), [client], [rule]).findings
        assert not findings, f"{rule.name} finds fault with a good checkpoint: {findings[0].why}"

    def test_it_finds_a_planted_fault_and_says_where_why_and_what_to_do(
        self, rule: RuleSpec, client: ClientSpec, planted: Path
    ) -> None:
        report = lint(open_checkpoint(planted), [client], [rule])
        assert report.findings, f"{rule.name} found nothing in {planted}"
        for finding in report.findings:
            assert finding.where, "a finding without a place"
            assert finding.why, "a finding without a reason"
            assert finding.todo, "a finding without advice"

    def test_it_finds_the_same_again(self, rule: RuleSpec, client: ClientSpec, planted: Path) -> None:
        first, second = (lint(open_checkpoint(planted), [client], [rule]) for _ in range(2))
        assert first == second, f"{rule.name} finds {first.findings}, then {second.findings}"

    def test_it_only_reads(self, rule: RuleSpec, client: ClientSpec, planted: Path) -> None:
        before = digests(planted)
        lint(open_checkpoint(planted), [client], [rule])
        assert digests(planted) == before, f"{rule.name} changed files of the checkpoint"

    def test_it_needs_no_values(self, rule: RuleSpec, planted: Path) -> None:
        """A plan is linted by the headers that would be written."""
        list(rule.check(open_checkpoint(planted, has_values=False)))

    def test_an_empty_directory_is_no_trouble(self, rule: RuleSpec, client: ClientSpec, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        checkpoint = open_checkpoint(empty)
        list(rule.check(checkpoint))
        assert client.read(checkpoint).format, "a client takes every directory for something"
