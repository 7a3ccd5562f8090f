import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from dropkit.data import picture_files, store
from dropkit.data.pictures import load
from dropkit.errors import DropkitError


@pytest.fixture
def pets(tmp_path):
    """A folder of seven pictures of different sizes."""
    for i in range(7):
        path = tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (31 + i, 37, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pets"


def npz(folder):
    rng = np.random.default_rng(3)
    arrays = {"train_images": rng.integers(0, 256, (11, 5, 7, 3), dtype=np.uint8), "train_labels": np.arange(11) % 3}
    np.savez(folder / "tiny.npz", **arrays)
    return folder / "tiny.npz"


def everything(pictures):
    return pictures.read(np.arange(len(pictures)))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("kind", ["folder", "npz", "digits"])
def test_streamed_pictures_are_the_ones_that_memory_would_hold(pets, tmp_path, kind, kept):
    source = {"folder": pets, "npz": npz(tmp_path), "digits": "digits"}[kind]
    spool = tmp_path / "run" if kept else None
    held, streamed = load(source, stream="no"), load(source, stream="yes", spool=spool)
    assert torch.equal(everything(streamed), held.images)
    assert np.array_equal(streamed.digests, held.digests)
    for name in ("fingerprint", "ids", "class_names", "given", "shape", "notes", "is_folder"):
        assert getattr(streamed, name) == getattr(held, name)
    assert torch.equal(streamed.labels, held.labels)


def refuse_to_decode(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("decoded again")

    for name in ("decode", "read_header"):
        monkeypatch.setattr(picture_files, name, refuse)


def test_another_process_finds_what_was_decoded(pets, tmp_path, monkeypatch):
    first = load(pets, stream="yes", spool=tmp_path / "run")
    refuse_to_decode(monkeypatch)
    for stream in ("yes", "auto"):
        again = load(pets, stream=stream, spool=tmp_path / "run")
        assert again.images is None
        assert torch.equal(everything(again), everything(first))
        assert (again.fingerprint, again.notes) == (first.fingerprint, first.notes)


CHANGES = {
    "pixels": lambda pets: Image.new("RGB", (37, 31)).save(pets / "dog" / "0.png"),
    "time": lambda pets: os.utime(pets / "dog" / "0.png", ns=(time.time_ns(), time.time_ns() + 10**9)),
    "name": lambda pets: (pets / "dog" / "0.png").rename(pets / "dog" / "1.png"),
    "class": lambda pets: (pets / "dog").rename(pets / "eel"),
    "fewer": lambda pets: (pets / "dog" / "0.png").unlink(),
    "size": lambda pets: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_decoded_anew(pets, tmp_path, monkeypatch, change):
    load(pets, stream="yes", spool=tmp_path / "run")
    CHANGES[change](pets)
    size = "native" if change == "size" else None
    with monkeypatch.context() as patch:
        refuse_to_decode(patch)
        with pytest.raises(AssertionError, match="decoded again"):
            load(pets, stream="yes", spool=tmp_path / "run", image_size=size)
    if change != "size":
        assert torch.equal(everything(load(pets, stream="yes", spool=tmp_path / "run")), load(pets).images)


def test_bad_pictures_of_a_spool_are_told_again_and_stop_who_wants_to_stop(pets, tmp_path):
    (pets / "dog" / "bad.png").touch()
    first = load(pets, stream="yes", spool=tmp_path / "run", on_bad_image="skip")
    again = load(pets, stream="yes", spool=tmp_path / "run", on_bad_image="skip")
    assert first.skipped == again.skipped == (("dog/bad.png", "the file is empty"),)
    assert (again.ids, again.notes) == (first.ids, first.notes)
    with pytest.raises(DropkitError, match=r"1 of 8 pictures .*cannot be read"):
        load(pets, stream="yes", spool=tmp_path / "run")


@pytest.mark.parametrize("spool", [True, False])
def test_bad_pictures_that_stop_leave_nothing_behind(pets, tmp_path, monkeypatch, spool):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(store.tempfile, "tempdir", str(temporary))
    (pets / "dog" / "bad.png").touch()
    with pytest.raises(DropkitError, match="cannot be read"):
        load(pets, stream="yes", spool=tmp_path / "run" if spool else None)
    assert os.listdir(temporary) == []
    assert not (tmp_path / "run").exists()


def test_a_spool_is_removed_at_the_end(pets, tmp_path):
    pictures = load(pets, stream="yes", spool=tmp_path / "run")
    assert len(os.listdir(tmp_path / "run")) == 2
    pictures.remove_spool()
    assert not (tmp_path / "run").exists()
    load(pets).remove_spool()


def test_pictures_stream_by_themselves_where_memory_is_short(pets, tmp_path, monkeypatch):
    needed = 7 * 3 * 64 * 64
    for available, copies, streams in ((2 * needed, 1, False), (2 * needed, 2, True), (2 * needed - 2, 1, True)):
        monkeypatch.setattr(store, "available_memory", lambda available=available: available)
        assert (load(pets, copies=copies).images is None) == streams
        assert load(pets, copies=copies, stream="no").images is not None


def test_a_folder_for_the_spool_that_cannot_be_made_is_an_error(pets, tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(DropkitError, match=r"cannot use the folder .*run'"):
        load(pets, stream="yes", spool=tmp_path / "run")


def test_progress_is_shown_when_wanted_and_never_else(pets, tmp_path, monkeypatch, capsys):
    from dropkit.data import counting

    monkeypatch.setattr(counting, "QUIET_FOR", -1.0)
    monkeypatch.setattr(counting, "PLAIN_EVERY", -1.0)
    load(pets)
    load(npz(tmp_path))
    assert capsys.readouterr() == ("", "")
    load(pets, progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert "looking at pictures: 7 of 7" in told.err
    assert "reading pictures: 7 of 7" in told.err


def test_labels_and_pictures_stay_together_whichever_thread_is_first(pets):
    pictures = load(pets, image_size="31x37")
    assert pictures.ids == tuple(f"cat/{i}.png" for i in (1, 3, 5)) + tuple(f"dog/{i}.png" for i in (0, 2, 4, 6))
    wanted = np.random.default_rng(0).integers(0, 256, (31, 37, 3), dtype=np.uint8)
    assert np.array_equal(pictures.images[3].permute(1, 2, 0).numpy(), wanted)


def test_runs_of_different_sizes_in_one_folder_do_not_share_a_spool(pets, tmp_path):
    small, large = (load(pets, stream="yes", spool=tmp_path / "run", image_size=size) for size in (5, 7))
    assert (small.shape, large.shape) == ((3, 5, 5), (3, 7, 7))
    assert len(os.listdir(tmp_path / "run")) == 4
