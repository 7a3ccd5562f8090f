import numpy as np
from sklearn.datasets import load_digits

from dropkit.data import digits


def test_the_pictures_are_scikit_learns_in_order_rounded_to_the_nearest_of_256_levels():
    pictures = digits.read()
    source = load_digits()
    assert pictures.shape == (1, 8, 8)
    off = pictures.images[:, 0].numpy() / 255 - source.images / 16
    assert np.abs(off).max() <= 0.5 / 255 + 1e-12
    assert np.array_equal(pictures.labels.numpy(), source.target)


def test_the_17_levels_span_the_range_and_stay_distinct():
    levels = np.unique(digits.read().images.numpy())
    assert len(levels) == 17
    assert (levels[0], levels[8], levels[16]) == (0, 128, 255)


def test_there_are_no_given_splits_and_every_id_is_different():
    pictures = digits.read()
    assert pictures.given == {}
    assert pictures.ids[17] == "digits[17]"
    assert len(set(pictures.ids)) == len(pictures) == 1797
    assert pictures.class_names == tuple("0123456789")
