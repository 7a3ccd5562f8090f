"""Pictures inside the page: PNG data and nothing else."""

import base64
from types import ModuleType

import pytest

from dropkit.report.images import read_png


def test_a_png_is_read_with_its_size(synthetic_details: ModuleType) -> None:
    uri = synthetic_details.png((13, 7), "a")
    png = read_png(uri)
    assert png is not None
    assert (png.uri, png.width, png.height) == (uri, 13, 7)


@pytest.mark.parametrize(
    "uri",
    [
        None,
        7,
        "",
        "javascript:alert(1)",
        "https://example.org/a.png",
        "data:text/html;base64,AAAA",
        "data:image/svg+xml;base64,AAAA",
        "data:image/png;base64,AAAA",
        "data:image/png;base64,A",
        "data:image/png;base64," + base64.b64encode(b"GIF89a" + b"0" * 30).decode(),
    ],
)
def test_anything_else_is_none(uri: object) -> None:
    assert read_png(uri) is None


def test_a_png_with_something_behind_it_is_none(synthetic_details: ModuleType) -> None:
    uri = synthetic_details.png((13, 7), "a")
    assert read_png(uri + '" onerror="alert(1)') is None
    assert read_png(" " + uri) is None
    assert read_png(uri + "\n") is None


def test_small_pictures_keep_their_pixels_and_grow_by_whole_numbers(synthetic_details: ModuleType) -> None:
    small, large = (read_png(synthetic_details.png((width, 5), "a")) for width in (31, 67))
    assert small is not None
    assert large is not None
    assert (small.is_small, large.is_small) == (True, False)
    assert (small.scale_to(340), large.scale_to(340), large.scale_to(31)) == (10, 5, 1)
