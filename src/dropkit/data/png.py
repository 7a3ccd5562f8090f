"""Small pictures for a page: PNG files as text that stands in the page itself."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_PIXELS = 128  # a side: enough to see what a picture shows, and the page stays small


def data_uri(pixels: NDArray[np.uint8], most: int | None = MOST_PIXELS) -> str:
    """Return a picture uint8 [C, H, W] as the address of a PNG: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    A picture with a side of more than `most` pixels is made smaller, never larger; None leaves it as it is.

    Example:
        >>> data_uri(np.zeros((1, 2, 3), dtype=np.uint8))[:22]
        'data:image/png;base64,'
    """
    array: Any = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    image = Image.fromarray(array)
    if most is not None:
        image.thumbnail((most, most))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
