"""Pictures as text: what is read back is what was written."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dropkit.data.png import data_uri


def pixels_of(uri):
    """Return a data URI's picture as [H, W] or [H, W, C]."""
    head, _, text = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_pixel_comes_back(channels):
    picture = np.random.default_rng(channels).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    back = pixels_of(data_uri(picture))
    assert np.array_equal(back.reshape(5, 7, channels), np.moveaxis(picture, 0, -1))


def test_large_pictures_are_made_smaller_in_proportion():
    picture = np.full((3, 101, 509), 200, dtype=np.uint8)
    back = pixels_of(data_uri(picture))
    assert back.shape == (25, 128, 3)
    assert (back == 200).all()
    assert pixels_of(data_uri(picture, most=None)).shape == (101, 509, 3)
