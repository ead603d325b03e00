"""The built-in rules: one for each kind of fault that the reader names."""

import re
from pathlib import Path

import mtcore.lint
from mtcore.lint import Hit, file_rules, open_checkpoint

SOURCES = [Path(mtcore.lint.__file__).with_name(name).read_text() for name in ("headers.py", "checkpoint.py")]


def test_every_fault_that_the_reader_can_name_has_a_rule():
    named = {kind for text in SOURCES for kind in re.findall(r'(?:wrong|_fault|Fault)\(\s*"([a-z-]+)"', text)}
    assert named == {rule.name for rule in file_rules()}


def test_a_rule_gives_the_faults_of_its_kind(folder):
    (folder / "config.json").write_text("{")
    by_name = {rule.name: rule for rule in file_rules()}
    hits = list(by_name["json-unreadable"].check(open_checkpoint(folder)))
    assert [hit.where for hit in hits] == ["config.json"]
    assert isinstance(hits[0], Hit)
    assert list(by_name["file-missing"].check(open_checkpoint(folder))) == []
