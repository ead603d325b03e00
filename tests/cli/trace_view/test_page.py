"""The page: escaped, self-contained, complete, and small for many identical layers."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mtcore.cli.trace_view.page import page, write_page
from mtcore.trace import Count

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&$title"


class Tags(HTMLParser):
    """Collects elements, attributes, and the text of the JSON element."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.facts, self._in_facts = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._in_facts = ("id", "facts") in attrs

    def handle_data(self, data):
        if self._in_facts:
            self.facts += data

    def handle_endtag(self, tag):
        self._in_facts = False

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


def strings(value):
    """All strings in a value from JSON."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in strings(item)]


@pytest.fixture
def tags(net, traced):
    return Tags(page(traced(net(3))))


def test_a_hostile_name_is_text_and_nothing_else(net, traced):
    text = page(traced(net(2, name=HOSTILE), source=HOSTILE))
    tags = Tags(text)
    assert "img" not in tags.tags
    assert tags.tags.count("script") == 2
    assert not any(name.startswith("on") for name, _ in tags.attributes)
    assert set(tags.values("data-pin")) <= set(json.loads(tags.facts))
    assert any(HOSTILE in value for value in tags.values("data-pin"))
    assert any(HOSTILE in text for text in strings(json.loads(tags.facts)))
    assert any(value.startswith(f"{HOSTILE}.[0-1]") for value in tags.values("data-name"))


def test_nothing_is_fetched_from_anywhere(net, traced):
    text = page(traced(net(2)))
    assert not re.search(r"https?:|//\w|url\(|@import|\bfetch\(|XMLHttpRequest", text)
    assert not {"src", "href"} & {name for name, _ in Tags(text).attributes}
    assert "default-src 'none'" in text


def test_every_cell_has_its_facts(tags):
    facts = json.loads(tags.facts)
    assert set(tags.values("data-group")) == {key for key in facts if key.startswith("g")}
    assert set(tags.values("data-pin")) <= set(facts)
    assert tags.values("data-pin")


def test_a_pinned_cell_carries_its_way(net, traced):
    facts = json.loads(Tags(page(traced(net(2)))).facts)
    pinned = facts["p layers.0.gate.weight [0]"]
    assert pinned["way"] == ["layers.0.gate.weight[axis 0: 0] pinned: aten::sigmoid in layers.0"]
    assert pinned["command"] == "mtopt trace zoo --explain layers.0.gate.weight:0:INDEX"


def test_a_fold_lists_what_is_multiplied_and_what_is_divided(tags):
    folds = [fact for fact in json.loads(tags.facts).values() if fact.get("title", "").startswith("Fold")]
    assert {heading for fold in folds for heading, _ in fold["members"]} == {
        "Multiplied by the scales",
        "Divided by the scales",
    }


def test_eighty_identical_layers_are_no_longer_than_two(net, traced):
    short, long = page(traced(net(2))), page(traced(net(80)))
    assert "layers.<wbr>[0-79]" in long
    assert len(long) < 1.01 * len(short)


def test_failures_and_unknown_operations_are_shown(net, traced):
    trace = traced(net(1))
    text = page(replace(trace, report=replace(trace.report, unknown_ops=(Count("aten::<odd>", 3),))))
    assert "<b>unknown op</b>aten::&lt;odd&gt; (3 times)" in text


def test_the_proof_is_on_the_page(net, traced):
    assert '<p class="proof">verified: all' in page(traced(net(1), verify=True))


def test_a_page_that_cannot_be_finished_leaves_nothing(net, traced, tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("before")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_page(tmp_path / "page.html", traced(net(1)))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "before"
