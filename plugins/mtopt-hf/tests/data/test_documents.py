"""Documents: texts, conversations and ids as token ids; what a record should have been is said with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mtcore.errors import CalibrationError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.loaded import LoadedModel
from mtopt_hf.data.documents import documents
from mtopt_hf.data.source import understand_data
from mtopt_hf.load import load_model
from mtopt_hf.tokenizer import HfTokenizer

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"


@pytest.fixture
def loaded(llama_checkpoint: Path) -> LoadedModel:
    model = load_model(str(llama_checkpoint))
    assert model is not None
    return model


@pytest.fixture
def with_template(loaded: LoadedModel) -> LoadedModel:
    assert isinstance(loaded.tokenizer, HfTokenizer)
    loaded.tokenizer.wrapped.chat_template = TEMPLATE
    return loaded


def jsonl(folder: Path, *records: object) -> str:
    file = folder / "a.jsonl"
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return str(file)


def rows(source: str, loaded: LoadedModel, **options: object) -> list[list[int]]:
    chosen = DataOptions(**options)  # type: ignore[arg-type]
    return list(documents(understand_data(source, chosen.format), loaded, chosen))


def texts(found: list[list[int]], loaded: LoadedModel) -> list[str]:
    assert loaded.tokenizer is not None
    return [loaded.tokenizer.decode(row) for row in found]


def test_texts_of_records_are_joined_by_a_blank_line(loaded: LoadedModel, tmp_path: Path) -> None:
    found = rows(jsonl(tmp_path, {"text": "one"}, {"text": ""}, {"text": "two"}), loaded)
    assert texts(found, loaded) == ["one\n\n", "two\n\n"]
    assert texts(rows(jsonl(tmp_path, {"body": "x"}), loaded, field="body"), loaded) == ["x\n\n"]


def test_a_conversation_is_written_by_the_models_own_template(with_template: LoadedModel, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    found = rows(jsonl(tmp_path, {"messages": talk}), with_template, chat=True)
    assert texts(found, with_template) == ["[user]hi[assistant]ho"]
    assert found[0][0] != 256  # the batch brings its own begin token


@pytest.mark.parametrize("messages", ["hi", [{"role": "user"}, 3], [[{"role": "user", "content": "x"}]]])
def test_a_record_that_is_no_conversation_is_named(
    with_template: LoadedModel, tmp_path: Path, messages: object
) -> None:
    with pytest.raises(CalibrationError, match=r"line 1: the chat template does not take 'messages'"):
        rows(jsonl(tmp_path, {"messages": messages}), with_template, chat=True)


def test_a_model_without_a_template_is_told(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no chat template"):
        rows(jsonl(tmp_path, {"messages": []}), loaded, chat=True)


def test_conversations_in_a_text_file_are_refused(with_template: LoadedModel, text_file: Path) -> None:
    with pytest.raises(CalibrationError, match="conversations come as records"):
        rows(str(text_file), with_template, chat=True)


def test_a_field_that_is_no_text_says_what_it_may_be(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"line 1: 'text' is a list, not a text; say --chat"):
        rows(jsonl(tmp_path, {"text": [1]}), loaded)


def test_ids_are_taken_as_they_are_from_every_kind_of_file(loaded: LoadedModel, tmp_path: Path) -> None:
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    np.save(tmp_path / "a.npy", ids)
    save_file({"input_ids": torch.from_numpy(ids)}, tmp_path / "a.safetensors")
    lines = jsonl(tmp_path, [1, 2, 3], {"input_ids": [4, 5, 6]})
    without = replace(loaded, tokenizer=None)
    for source in (str(tmp_path / "a.npy"), str(tmp_path / "a.safetensors"), lines):
        assert rows(source, without, format="ids") == ids.tolist()


def test_what_is_no_ids_is_told(loaded: LoadedModel, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    save_file({"tokens": torch.zeros(2, dtype=torch.int64)}, tmp_path / "a.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 20)
    for source, why in {
        str(tmp_path / "a.npy"): "float64 .* are no token ids",
        str(tmp_path / "object.npy"): "not readable as token ids",
        str(tmp_path / "a.safetensors"): "no tensor 'input_ids', but tokens",
        str(tmp_path / "broken.safetensors"): "not readable as token ids",
        jsonl(tmp_path, ["a"]): "line 1: no list of token ids",
    }.items():
        with pytest.raises(CalibrationError, match=why):
            rows(source, loaded, format="ids")


def test_text_for_a_model_without_a_tokenizer_is_refused(loaded: LoadedModel, text_file: Path) -> None:
    with pytest.raises(CalibrationError, match="no tokenizer"):
        rows(str(text_file), replace(loaded, tokenizer=None))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ([{"text": "one"}, {"text": "two"}], ["one\n\n", "two\n\n"]),
        (["one", "two"], ["one\n\n", "two\n\n"]),
    ],
)
def test_a_json_list_is_a_record_an_item(
    loaded: LoadedModel, tmp_path: Path, content: object, wanted: list[str]
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content, indent=1))
    assert texts(rows(str(tmp_path / "a.json"), loaded), loaded) == wanted


@pytest.mark.parametrize(("content", "wanted"), [([[1, 2], [3]], [[1, 2], [3]]), ([1, 2, 3], [[1, 2, 3]])])
def test_a_json_list_of_numbers_is_token_ids(
    loaded: LoadedModel, tmp_path: Path, content: object, wanted: list[list[int]]
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert rows(str(tmp_path / "a.json"), loaded) == wanted


def test_json_lines_under_the_name_of_json_are_lines(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert texts(rows(str(tmp_path / "a.json"), loaded), loaded) == ["one\n\n", "two\n\n"]


def test_texts_of_a_folder_are_joined_by_a_blank_line(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("two")
    jsonl(tmp_path, {"text": "one"})
    assert "".join(texts(rows(str(tmp_path), loaded), loaded)) == "one\n\ntwo\n\n"
    np.save(tmp_path / "c.npy", np.ones((2, 3), dtype=np.int64))
    with pytest.raises(CalibrationError, match=r"c\.npy: a directory is read as text and records"):
        rows(str(tmp_path), loaded)


def test_conversations_without_chat_are_told_of_the_option(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="conversations are read with --chat"):
        rows(jsonl(tmp_path, {"messages": []}), loaded)
