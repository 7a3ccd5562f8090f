import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from dropkit.data import store
from dropkit.data.store import DiskPixels, DiskWriter, MemoryWriter, Spool, Stored, in_pieces, nameless_file
from dropkit.errors import DropkitError

SHAPE = (3, 5, 7)


def pixels(count=11, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def on_disk(images):
    with nameless_file() as file:
        writer = DiskWriter(file, images.shape[1:])
        writer.append(images[:4])
        writer.append(np.asfortranarray(images[4:]))
        return writer.held()


@pytest.mark.parametrize("indices", [[3, 1, 1, 9], [], range(11), [10, 0], [2, 3, 4, 8, 9, 5]])
def test_records_are_read_in_the_order_asked(indices):
    images = pixels()
    got = on_disk(images).read(np.array(indices, dtype=np.int64))
    assert got.dtype == torch.uint8
    assert np.array_equal(got.numpy(), images[list(indices)])


def test_systems_without_preadv_read_the_same(monkeypatch):
    monkeypatch.delattr(os, "preadv", raising=False)
    images = pixels()
    assert np.array_equal(on_disk(images).read(np.array([7, 2, 3])).numpy(), images[[7, 2, 3]])


@pytest.mark.parametrize("index", [-1, 11])
def test_an_index_beyond_the_pictures_is_refused(index):
    with pytest.raises(IndexError, match="11 pictures"):
        on_disk(pixels()).read(np.array([0, index]))


@pytest.mark.parametrize("without", [True, False])
def test_many_threads_read_at_once(monkeypatch, without):
    if without:
        monkeypatch.delattr(os, "preadv", raising=False)
    images = pixels(101)
    held, wrong = on_disk(images), []

    def work(seed):
        for _ in range(50):
            indices = np.random.default_rng(seed).integers(0, 101, 7)
            if not np.array_equal(held.read(indices).numpy(), images[indices]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_that_was_cut_short_meanwhile_is_an_error_and_not_other_pixels(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(pixels().tobytes())
    held = DiskPixels(path.open("r+b"), 11, SHAPE, path)
    os.truncate(path, 10 * 105 + 50)
    with pytest.raises(DropkitError, match="cut short"):
        held.read(np.array([10]))


def test_all_pictures_come_in_pieces(monkeypatch):
    monkeypatch.setattr(store, "_PIECE", 2 * 105)
    images = pixels()
    for held in (torch.from_numpy(images), on_disk(images)):
        pieces = list(in_pieces(held))
        assert [len(piece) for piece in pieces] == [2, 2, 2, 2, 2, 1]
        assert np.array_equal(np.concatenate(pieces), images)


def test_memory_is_filled_and_what_is_left_over_is_no_picture():
    writer = MemoryWriter(11, SHAPE)
    writer.append(pixels()[:7])
    writer.append(pixels()[7:9])
    assert np.array_equal(writer.held().numpy(), pixels()[:9])


def test_more_than_there_is_memory_for_says_what_to_do():
    with pytest.raises(DropkitError, match=r"need .* GB of memory.*--stream yes"):
        MemoryWriter(2**55, SHAPE)


def keep(spool, images=None):
    images = pixels() if images is None else images
    with spool.writing(0) as file:
        writer = DiskWriter(file, SHAPE)
        writer.append(images)
        digests = np.arange(len(images) * 16, dtype=np.uint8).reshape(-1, 16)
        spool.keep(file, Stored(writer.held(), digests, {"shape": list(images.shape), "answer": 42}))


def test_what_was_kept_is_found_whole(tmp_path):
    spool = Spool(tmp_path / "run", "abc")
    assert spool.find() is None
    keep(spool)
    found = Spool(tmp_path / "run", "abc").find()
    assert np.array_equal(found.held.read(np.arange(11)).numpy(), pixels())
    assert found.digests[:, 0].tolist() == [i * 16 for i in range(11)]
    assert found.facts["answer"] == 42
    assert Spool(tmp_path / "run", "abd").find() is None
    assert all(name.startswith(".pictures-") for name in os.listdir(tmp_path / "run"))


@pytest.mark.parametrize("damage", ["shorter", "longer", "no facts", "facts cut", "no pictures"])
def test_what_is_not_whole_is_not_used(tmp_path, damage):
    spool = Spool(tmp_path, "abc")
    keep(spool)
    facts = spool.path.with_suffix(".json")
    if damage in ("shorter", "longer"):
        os.truncate(spool.path, spool.path.stat().st_size + (1 if damage == "longer" else -1))
    elif damage == "facts cut":
        facts.write_text(facts.read_text()[:-5])
    else:
        (facts if damage == "no facts" else spool.path).unlink()
    assert spool.find() is None
    keep(spool)
    assert spool.find() is not None


class Interrupting:
    """What takes the place of pictures that somebody stops the reading of."""

    def __array__(self, *args, **kwargs):
        raise KeyboardInterrupt

    def __len__(self):
        return 11


@pytest.mark.parametrize("before", [True, False])
def test_an_error_leaves_nothing_behind(tmp_path, before):
    folder = tmp_path / "run"
    if before:
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        keep(Spool(folder, "abc"), Interrupting())
    assert os.listdir(tmp_path) == (["run"] if before else [])
    assert not before or os.listdir(folder) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path):
    with (
        pytest.raises(DropkitError, match=r"need 1000000\.0 GB on the disk of .*--image-size"),
        Spool(tmp_path / "run" / "deep", "abc").writing(10**15),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_meanwhile_is_told():
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(DropkitError, match="No space left.*Make room"),
    ):
        DiskWriter(file, SHAPE).append(pixels())


@pytest.mark.parametrize("other", [True, False])
def test_removed_pictures_can_still_be_read_by_who_has_them_open(tmp_path, other):
    spool = Spool(tmp_path / "run", "abc")
    keep(spool)
    if other:
        (tmp_path / "run" / "config.json").touch()
    held = spool.find().held
    held.remove()
    held.remove()
    assert os.listdir(tmp_path) == (["run"] if other else [])
    assert np.array_equal(held.read(np.array([3])).numpy(), pixels()[[3]])


def test_all_spools_of_a_folder_are_removed_and_nothing_else(tmp_path):
    keep(Spool(tmp_path, "abc"))
    keep(Spool(tmp_path, "abd"))
    (tmp_path / ".pictures-abc.raw.17.part").touch()
    (tmp_path / "config.json").write_text(json.dumps({}))
    store.remove_spools(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


def test_pictures_stream_where_the_processes_would_fill_half_of_the_memory(monkeypatch):
    monkeypatch.setattr(store, "available_memory", lambda: 1000)
    assert not store.must_stream(500, 1)
    assert store.must_stream(501, 1)
    assert store.must_stream(251, 2)
