"""The text that is scored when none is named."""

from pydoc_data.topics import topics

from mtcore.cli.default_text import write_default_text


def test_every_second_topic_is_in_the_text_and_the_others_are_not(tmp_path):
    text = write_default_text(tmp_path).read_text(encoding="utf-8")
    names = sorted(topics)
    assert all(topics[name] in text for name in names[1::2])
    assert text.startswith(topics[names[1]])
    assert sum(len(topics[name]) + 2 for name in names[1::2]) - 2 == len(text)
