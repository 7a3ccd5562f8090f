"""Augmentation: a function of seed, epoch and picture; held to a slow definition, picture by picture."""

import random

import numpy as np
import pytest
import torch

from dropkit.errors import DropkitError
from dropkit.runs.augment import Augmentation, seeded

H, W = 17, 23


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (31, 3, H, W), dtype=torch.uint8, generator=generator)


NUMBERS = torch.arange(100, 131)


def test_none_changes_nothing(images):
    change = Augmentation.parse("none", seed=1)
    assert change.changes_nothing
    assert torch.equal(change(images, NUMBERS, epoch=0), images)


def test_a_flip_mirrors_about_half_of_the_pictures_and_leaves_the_others(images):
    flipped = Augmentation.parse("flip", seed=1)(images, NUMBERS, epoch=3)
    same = (flipped == images).all(dim=(1, 2, 3))
    mirrored = (flipped == images.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(same, ~mirrored)
    assert 5 < int(mirrored.sum()) < 26  # 31 fair coins: outside with a probability below 1e-4


def shifted(picture, down, right):
    """The definition, by numpy's own reflection."""
    padded = np.pad(picture, ((0, 0), (H, H), (W, W)), mode="reflect")
    return padded[:, H + down : 2 * H + down, W + right : 2 * W + right]


def test_a_crop_is_a_move_by_up_to_an_eighth_with_mirrored_borders(images):
    cropped = Augmentation.parse("crop", seed=5)(images, NUMBERS, epoch=0)
    moves = set()
    for before, after in zip(images.numpy(), cropped.numpy(), strict=True):
        found = [
            (down, right)
            for down in range(-(H // 8), H // 8 + 1)
            for right in range(-(W // 8), W // 8 + 1)
            if np.array_equal(shifted(before, down, right), after)
        ]
        assert len(found) == 1
        moves.add(found[0])
    assert len(moves) > 10


def test_every_move_is_equally_likely():
    change = Augmentation(seed=0, crop=True)
    images = torch.arange(17, dtype=torch.uint8).view(1, 1, 17, 1).expand(5000, 1, 17, 3).contiguous()
    first = change(images, torch.arange(5000), epoch=1)[:, 0, 8, 0].to(torch.int64)
    counts = torch.bincount(first - 6, minlength=5).double()
    expected = 1000.0
    assert len(counts) == 5
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 23.5  # 4 degrees of freedom, p = 1e-4


def test_what_a_picture_becomes_hangs_on_seed_epoch_and_picture_alone(images):
    change = Augmentation.parse("flip,crop", seed=7)
    whole = change(images, NUMBERS, epoch=2)
    torch.manual_seed(123)
    order = torch.randperm(31)
    parts = [change(images[some], NUMBERS[some], epoch=2) for some in order.split(7)]
    assert torch.equal(torch.cat(parts), whole[order])
    assert not torch.equal(change(images, NUMBERS, epoch=3), whole)
    assert not torch.equal(change(images, NUMBERS + 1, epoch=2), whole)
    assert not torch.equal(Augmentation.parse("flip,crop", seed=8)(images, NUMBERS, epoch=2), whole)


def test_pictures_smaller_than_a_crop_margin_are_left_in_place():
    tiny = torch.arange(2 * 7 * 5, dtype=torch.uint8).view(2, 1, 7, 5)
    assert torch.equal(Augmentation(0, crop=True)(tiny, torch.tensor([0, 1]), epoch=0), tiny)


FUNCTION = """
import random
import torch

def noisy(images):
    return images + torch.randint(0, 2, images.shape, dtype=torch.uint8) * random.randint(0, 1)

def half(images):
    return images.float() / 2

def failing(images):
    raise ValueError("boom")

def broken(images)
"""


def test_a_users_function_draws_the_same_when_it_is_called_again(images, tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION.replace("def broken(images)", ""))
    change = Augmentation.parse(f"{tmp_path}/mine.py:noisy", seed=7)
    before = torch.get_rng_state(), random.getstate()
    first = change(images, NUMBERS, epoch=2)
    torch.rand(3)
    random.random()
    assert torch.equal(change(images, NUMBERS, epoch=2), first)
    epochs = [change(images, NUMBERS, epoch=epoch) for epoch in range(20)]
    assert any(not torch.equal(other, first) for other in epochs)
    torch.set_rng_state(before[0])
    random.setstate(before[1])


def test_a_function_must_return_such_pictures_as_it_got(images, tmp_path):
    (tmp_path / "halves.py").write_text(FUNCTION.replace("def broken(images)", ""))
    change = Augmentation.parse(f"{tmp_path}/halves.py:half", seed=7)
    with pytest.raises(DropkitError, match=r"returned torch.float32 \[31, 3, 17, 23\], but a batch of uint8"):
        change(images, NUMBERS, epoch=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "unknown augmentation 'flop': allowed are none, flip, crop, flip,crop, module:function. Did you mean"),
        ("flip,", "unknown augmentation ''"),
        ("no_such_module:function", "the module 'no_such_module' cannot be imported"),
        ("math:no_such_function", "math has no function 'no_such_function'"),
        ("nowhere.py:function", "there is no file 'nowhere.py'"),
    ],
)
def test_a_wrong_augmentation_is_a_message(text, message):
    with pytest.raises(DropkitError, match=message.replace("(", r"\(")):
        Augmentation.parse(text, seed=0)


def test_a_file_that_fails_says_why(tmp_path):
    (tmp_path / "bad.py").write_text(FUNCTION)
    with pytest.raises(DropkitError, match="bad.py' fails when run \\(SyntaxError"):
        Augmentation.parse(f"{tmp_path}/bad.py:broken", seed=0)


def test_seeded_restores_every_generator():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    with seeded(9):
        torch.rand(5), random.random(), np.random.rand(3)  # noqa: NPY002
    again = torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(expected[0], again[0])
    assert expected[1:] == again[1:]


def test_every_batch_of_an_epoch_draws_anew(images, tmp_path):
    (tmp_path / "draws.py").write_text(FUNCTION.replace("def broken(images)", ""))
    change = Augmentation.parse(f"{tmp_path}/draws.py:noisy", seed=7)
    blank = torch.zeros_like(images)
    noise = [change(blank, NUMBERS + shift, epoch=2) for shift in range(0, 310, 31)]
    assert len({part.numpy().tobytes() for part in noise if part.any()}) == sum(bool(part.any()) for part in noise) > 1


def test_a_function_that_raises_is_a_message_with_its_place(images, tmp_path):
    (tmp_path / "fails.py").write_text(FUNCTION.replace("def broken(images)", ""))
    change = Augmentation.parse(f"{tmp_path}/fails.py:failing", seed=7)
    with pytest.raises(DropkitError, match=r"'failing' raised ValueError: boom \(.*fails.py, line 12\)"):
        change.try_out(images[:2])
