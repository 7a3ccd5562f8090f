"""Batches: normalisation by the training split, and an order that only seed and epoch decide."""

import numpy as np
import pytest
import torch

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.runs.batches import Batches
from dropkit.runs.distributed import World

CPU = torch.device("cpu")


def batches(n=53, train=37, val=7, channels=3, seed=0):
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (n, channels, 5, 7), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % 3
    pictures = Pictures("made", images, labels, ("a", "b", "c"), tuple(map(str, range(n))), {}, "f")
    index = np.random.default_rng(1).permutation(n)
    parts = (np.sort(part) for part in np.split(index, [train, train + val]))
    return pictures, Batches(pictures, Split(*parts, seed=seed, how="by hand"), CPU)


def test_training_pictures_have_mean_0_and_standard_deviation_1_in_each_channel():
    _, data = batches()
    x, y = data.read(data.train)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    assert torch.equal(y, data.labels[data.train])


def test_validation_and_test_pictures_do_not_enter_the_statistics():
    pictures, data = batches()
    pictures.images[data.val] = 255
    again = Batches(pictures, Split(data.train.numpy(), data.val.numpy(), data.test.numpy(), 0, ""), CPU)
    assert torch.equal(again.mean, data.mean)
    assert torch.equal(again.inverse_std, data.inverse_std)


def test_a_channel_of_one_value_is_not_divided_by_zero():
    pictures, data = batches()
    pictures.images[:, 1] = 9
    again = Batches(pictures, Split(data.train.numpy(), data.val.numpy(), data.test.numpy(), 0, ""), CPU)
    assert torch.equal(again.read(again.train)[0][:, 1], torch.zeros(37, 5, 7))


def test_an_epoch_has_every_training_picture_once():
    _, data = batches()
    parts = list(data.epoch(seed=1, epoch=0, batch_size=10))
    assert [len(part) for part in parts] == [10, 10, 10, 7]
    assert torch.equal(torch.cat(parts).sort().values, data.train)
    assert data.steps(10) == 4


@pytest.mark.parametrize(("batch", "sizes"), [(12, [12, 12, 13]), (36, [37]), (37, [37]), (100, [37]), (1, [1] * 37)])
def test_a_single_picture_left_over_joins_the_batch_before(batch, sizes):
    _, data = batches()
    got = [len(part) for part in data.epoch(seed=1, epoch=0, batch_size=batch)]
    assert got == sizes
    assert data.steps(batch) == len(got)


def test_seed_and_epoch_decide_the_order():
    _, data = batches()
    order = {
        key: torch.cat(list(data.epoch(seed=key[0], epoch=key[1], batch_size=10))).tolist()
        for key in [(0, 0), (0, 1), (1, 0)]
    }
    assert len({tuple(value) for value in order.values()}) == 3
    _, again = batches()
    assert torch.cat(list(again.epoch(seed=0, epoch=1, batch_size=3))).tolist() == order[0, 1]


def test_the_probe_is_of_training_pictures_and_as_large_as_the_validation_set():
    _, data = batches()
    assert len(data.train_probe) == len(data.val)
    assert set(data.train_probe.tolist()) < set(data.train.tolist())
    _, other = batches(train=7, val=37)
    assert torch.equal(other.train_probe, other.train)


def test_given_statistics_normalise_and_make_grey_pictures_coloured():
    pictures, data = batches(channels=1)
    mean, std = (0.1, 0.2, 0.5), (0.3, 0.25, 0.125)
    split = Split(data.train.numpy(), data.val.numpy(), data.test.numpy(), 0, "")
    given = Batches(pictures, split, CPU, statistics=(mean, std))
    x, _ = given.read(given.val)
    plain = pictures.images[given.val] / 255
    for channel in range(3):
        torch.testing.assert_close(x[:, channel], (plain[:, 0] - mean[channel]) / std[channel])
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_features_take_the_place_of_the_pictures():
    pictures, data = batches()
    features = torch.arange(53.0)[:, None] * torch.ones(11)
    split = Split(data.train.numpy(), data.val.numpy(), data.test.numpy(), 0, "")
    x, y = Batches(pictures, split, CPU, features=features).read(data.test)
    assert x.shape == (9, 11)
    assert torch.equal(x[:, 0], data.test.float())
    assert torch.equal(y, pictures.labels[data.test])


def test_a_share_without_pictures_of_its_own_weighs_nothing():
    _, data = batches()
    batch = data.train[:3]
    shares = [World(rank, 3).share(3) for rank in range(3)]
    assert [data.weight_of(share, batch, None).item() for share in shares] == [1, 0, 0]
