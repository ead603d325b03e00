"""Linting: which rules concern which client, and what is said of each."""

from mtcore.lint import EVERYONE, ClientSpec, Hit, Reading, RuleSpec, lint, open_checkpoint

CLIENTS = [ClientSpec(name, name, lambda checkpoint: Reading("toy", "by hand")) for name in ("one", "two")]


def rule(severity, *hits):
    return RuleSpec("rule", "it holds", severity, lambda checkpoint: hits)


def test_a_rule_has_its_own_severity_for_each_client(folder):
    report = lint(open_checkpoint(folder), CLIENTS, [rule({"one": "note", EVERYONE: "error"}, Hit("x", "y", "z"))])
    assert [(finding.severity, finding.clients) for finding in report.findings] == [
        ("error", ("two",)),
        ("note", ("one",)),
    ]
    assert report.loads("one")
    assert not report.loads("two")


def test_a_rule_that_does_not_concern_a_client_is_not_asked(folder):
    def check(checkpoint):
        raise AssertionError("asked")

    report = lint(open_checkpoint(folder), CLIENTS, [RuleSpec("rule", "it holds", {"three": "error"}, check)])
    assert report.findings == ()
    assert report.worst("one") is None


def test_a_hit_can_name_its_clients(folder):
    report = lint(open_checkpoint(folder), CLIENTS, [rule({EVERYONE: "warning"}, Hit("x", "y", "z", ("two",)))])
    assert report.worst("one") is None
    assert report.worst("two") == "warning"


def test_json_holds_verdict_reading_and_findings(folder):
    found = lint(open_checkpoint(folder), CLIENTS, [rule({"one": "error"}, Hit("x", "y", "z"))]).to_json()
    assert found["clients"]["one"] == {"loads": False, "format": "toy", "how": "by hand"}
    assert found["findings"][0]["where"] == "x"
