import pytest

from dropkit.data.sizes import parse_image_size
from dropkit.errors import DropkitError


def test_height_comes_first():
    assert parse_image_size("5x1024") == (5, 1024)
    assert parse_image_size("64") == (64, 64)


@pytest.mark.parametrize(
    "text", ["", "3", "1025", "64x3", "2048x64", "64x", "x64", "-64", "6.5", "64x64x3", "natve", "٦٤", "9" * 5000]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(DropkitError, match=r"image_size is .*N or HEIGHTxWIDTH in pixels, each 4 to 1024.*native"):
        parse_image_size(text)
