"""Scores survive a kill after every batch, belong to what they were made from, and are never read damaged."""

import json

import pytest

from mtcore.errors import StateError
from mtcore.opt import AS_IT_IS, Decision, ScoreBook, builtin_searchers

FISHER, OUTPUT_ERROR = builtin_searchers()
KEY = {"weights": "w", "data": "d"}
DECISIONS = (Decision(("up",), 1, {AS_IT_IS: 16, "low": 4}), Decision(("odd",), 1, {AS_IT_IS: 16}))


def opened(folder, spec=FISHER, choices="c" * 64, **key):
    return ScoreBook.open(folder, spec, choices, {**KEY, **key})


def test_what_was_added_is_there_for_the_next_process(tmp_path):
    book = opened(tmp_path)
    book.add({"up": {"low": 0.1}}, of=2)
    again = opened(tmp_path)
    assert (again.batches, again.of, again.complete) == (1, 2, False)
    again.add({"up": {"low": 0.2}}, of=2)
    assert opened(tmp_path).complete
    assert opened(tmp_path).totals.means(DECISIONS) == {"up": {"low": (0.1 + 0.2) / 2}}


def test_searchers_and_choices_have_books_of_their_own(tmp_path):
    opened(tmp_path).add({"up": {"low": 0.1}}, of=1)
    assert not opened(tmp_path, spec=OUTPUT_ERROR).batches
    assert not opened(tmp_path, choices="d" * 64).batches


@pytest.mark.parametrize("part", ["weights", "data"])
def test_scores_of_something_else_are_refused_by_name(tmp_path, part):
    opened(tmp_path).add({"up": {"low": 0.1}}, of=1)
    with pytest.raises(StateError, match=f"scores of other {part}"):
        opened(tmp_path, **{part: "other"})


def test_data_that_are_not_named_are_taken_from_the_book(tmp_path):
    opened(tmp_path).add({"up": {"low": 0.1}}, of=1)
    assert ScoreBook.open(tmp_path, FISHER, "c" * 64, {"weights": "w"}).key["data"] == "d"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0}', '{"version": 1}'])
def test_a_damaged_book_is_refused_with_its_name(tmp_path, text):
    book = opened(tmp_path)
    book.add({"up": {"low": 0.1}}, of=1)
    book.path.write_text(text)
    with pytest.raises(StateError, match=r"no scores of mtcore.*search again"):
        opened(tmp_path)


def test_a_file_that_cannot_be_written_says_what_is_kept(tmp_path, monkeypatch):
    book = opened(tmp_path)
    book.add({"up": {"low": 0.1}}, of=2)
    before = book.path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mtcore.opt.book.write_json", full)
    with pytest.raises(StateError, match=r"No space left on device.*1 batches are kept"):
        book.add({"up": {"low": 0.2}}, of=2)
    assert book.path.read_bytes() == before
    assert json.loads(before)["batches"] == 1
