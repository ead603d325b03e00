"""A store gives back what it kept, bit for bit, refuses what is not its own, and survives a full disk."""

import json
import resource

import pytest
import torch

from mtcore.calibration.statistics import AMAX, Collector, Needs, StatisticsStore, Unfinished
from mtcore.errors import StateError

KEY = {"weights": "w", "data": "d", "code": "c"}
HERE, THERE, ELSE = ("here", "input"), ("there", "input"), ("else", "input")
ALL = Needs(moments=True, histogram=True, blocks=(2,), sample=8, gram=True)


def statistics_of(value, needs=ALL):
    collector = Collector(needs)
    collector.update(value)
    return collector.result()


@pytest.fixture
def known():
    generator = torch.Generator().manual_seed(0)
    shared = statistics_of(torch.randn(6, 4, generator=generator))
    return {
        HERE: shared,
        THERE: shared,
        ELSE: statistics_of(torch.randn(6, 4, generator=generator).bfloat16(), AMAX),
    }


@pytest.fixture
def folder(tmp_path, known):
    StatisticsStore.open(tmp_path / "s", KEY).add(known)
    return tmp_path / "s"


def assert_same(one, two):
    assert one.keys() == two.keys()
    for site, statistics in one.items():
        for name, value in vars(statistics).items():
            other = getattr(two[site], name)
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other)
                assert value.dtype == other.dtype
            elif name == "block_counts":
                assert all(torch.equal(counts, other[width]) for width, counts in value.items())
            else:
                assert value == other


def test_what_was_kept_comes_back_with_the_same_bits(folder, known):
    found = StatisticsStore.open(folder, KEY).known
    assert_same(found, known)
    assert found[HERE] is found[THERE]  # shared statistics lie on the disk once


def test_the_same_statistics_give_the_same_files(folder, tmp_path, known):
    StatisticsStore.open(tmp_path / "again", KEY).add(known)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files


def test_more_statistics_lie_beside_the_others_whose_file_stays(folder, known):
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    more = {("more", "input"): statistics_of(torch.ones(2, 4))}
    StatisticsStore.open(folder, KEY).add(more)
    assert_same(StatisticsStore.open(folder, KEY).known, known | more)
    after = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert before.items() < after.items()
    assert len(after) == 2


def test_what_is_gathered_anew_takes_the_place_and_a_file_without_use_goes(folder, known):
    anew = {site: statistics_of(torch.ones(2, 4)) for site in known}
    StatisticsStore.open(folder, KEY).add({HERE: anew[HERE]})
    assert_same(StatisticsStore.open(folder, KEY).known, known | {HERE: anew[HERE]})
    StatisticsStore.open(folder, KEY).add({site: anew[site] for site in (THERE, ELSE)})
    assert_same(StatisticsStore.open(folder, KEY).known, anew)
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_of_several_processes_one_writes_and_all_know(tmp_path, known):
    store = StatisticsStore.open(tmp_path / "s", KEY)
    store.writes = False
    store.add(known)
    store.keep_trace("{}")
    assert_same(store.known, known)
    assert not store.directory.exists()


def test_statistics_in_files_can_be_let_go_of_and_are_read_again(folder, known):
    store = StatisticsStore.open(folder, KEY)
    store.let_go(store.known)
    assert_same(store.known, known)


@pytest.mark.parametrize("part", ["weights", "data", "code"])
def test_statistics_of_something_else_are_refused_and_it_is_named(folder, part):
    with pytest.raises(StateError, match=f"statistics of other {part}; name another directory"):
        StatisticsStore.open(folder, {**KEY, part: "another"})


def test_without_data_those_of_the_store_are_taken(folder, known):
    store = StatisticsStore.open(folder, {"weights": "w", "code": "c"})
    assert store.key == KEY
    assert_same(store.known, known)


@pytest.mark.parametrize("text", ["{", '{"version": 99, "key": {}}', '{"version": 2, "key": 3}', "[]"])
def test_a_manifest_that_is_none_is_refused(folder, text):
    (folder / "statistics.json").write_text(text)
    with pytest.raises(StateError, match=r"statistics\.json: no statistics of mtcore"):
        StatisticsStore.open(folder, KEY)


def test_a_flipped_bit_is_found(folder):
    (file,) = folder.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(StateError, match=r"damaged .*checksum"):
        StatisticsStore.open(folder, KEY)


def test_a_missing_tensor_file_is_a_clear_error(folder):
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(StateError, match="safetensors"):
        StatisticsStore.open(folder, KEY)


def test_a_manifest_that_lies_about_its_records_is_refused(folder):
    manifest = json.loads((folder / "statistics.json").read_text())
    manifest["parts"][0]["sites"][0]["record"] = 9
    (folder / "statistics.json").write_text(json.dumps(manifest))
    with pytest.raises(StateError, match="damaged"):
        StatisticsStore.open(folder, KEY)


@pytest.mark.parametrize("parts", [None, [{"file": "x"}]])
def test_a_manifest_without_its_parts_is_refused(folder, parts):
    manifest = json.loads((folder / "statistics.json").read_text())
    (folder / "statistics.json").write_text(json.dumps({**manifest, "parts": parts}))
    with pytest.raises(StateError, match="damaged"):
        StatisticsStore.open(folder, KEY)


def test_an_unfinished_run_is_found_by_the_same_wish_on_the_same_data_alone(folder, known):
    store, wanted = StatisticsStore.open(folder, KEY), dict.fromkeys(known, ALL)
    store.keep_unfinished(Unfinished(wanted, 3, known))
    found = store.unfinished(wanted)
    assert found.batches == 3
    assert_same(found.known, known)
    assert store.unfinished(dict.fromkeys(known, AMAX)) is None
    store.key["data"] = "another"
    assert store.unfinished(wanted) is None


def test_finished_statistics_remove_the_unfinished_ones(folder, known):
    store = StatisticsStore.open(folder, KEY)
    store.keep_unfinished(Unfinished(dict.fromkeys(known, ALL), 3, known))
    store.add({})
    assert store.unfinished(dict.fromkeys(known, ALL)) is None
    assert len(list(folder.iterdir())) == 2


def test_a_trace_is_kept_for_the_same_weights(folder):
    store = StatisticsStore.open(folder, KEY)
    assert store.trace() is None
    store.keep_trace("{}")
    assert StatisticsStore.open(folder, KEY).trace() == "{}"
    store.key["weights"] = "others"
    assert store.trace() is None


def test_a_full_disk_is_named_and_leaves_what_was_there(folder, known):
    # A limit on the size of a file stops the same writes as a full disk does, and needs no disk.
    store = StatisticsStore.open(folder, KEY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StateError) as raised:
            store.add({("big", "input"): statistics_of(torch.ones(64, 64))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full" in str(raised.value)
    assert_same(StatisticsStore.open(folder, KEY).known, known)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_a_kill_left_half_written_is_removed_and_what_is_of_use_stays(folder, known):
    store, wanted = StatisticsStore.open(folder, KEY), dict.fromkeys(known, ALL)
    more = {("more", "input"): statistics_of(torch.ones(2, 4))}
    store.keep_unfinished(Unfinished(wanted | dict.fromkeys(more, ALL), 3, known | more))
    whole = content(folder)
    for name in ("unfinished-1.safetensors.partial", "unfinished-2.safetensors", "statistics-3.safetensors"):
        (folder / name).write_bytes(b"half")
    StatisticsStore.open(folder, KEY).tidy()
    assert content(folder) == whole


def test_unfinished_work_that_was_finished_after_all_is_removed(folder, known):
    whole = content(folder)
    store = StatisticsStore.open(folder, KEY)
    # as after a kill between the manifest of the whole and the removal of the unfinished
    store.keep_unfinished(Unfinished({HERE: ALL, THERE: ALL}, 3, {site: known[site] for site in (HERE, THERE)}))
    StatisticsStore.open(folder, KEY).tidy()
    assert content(folder) == whole


def test_there_is_nothing_to_tidy_in_a_directory_that_does_not_exist(tmp_path):
    StatisticsStore.open(tmp_path / "none", KEY).tidy()
    assert not (tmp_path / "none").exists()
