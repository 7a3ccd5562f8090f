"""How large pictures are to be: "64", "48x64" or "native"."""

import re
from typing import Literal

from dropkit.errors import DropkitError

Size = tuple[int, int]
"""Height and width in pixels."""

SMALLEST, LARGEST = 4, 1024
FOLDER_SIZE: Size = (64, 64)
"""The size of pictures that come as files, where none is asked for."""


def parse_image_size(text: str) -> Size | Literal["native"]:
    """Return height and width as asked for by "N" or "HEIGHTxWIDTH", or "native": pictures as they are.

    Raises DropkitError when the text is anything else, or a side is not 4 to 1024 pixels long.

    >>> parse_image_size("64"), parse_image_size("48x64"), parse_image_size("native")
    ((64, 64), (48, 64), 'native')
    """
    if text == "native":
        return "native"
    found = re.fullmatch(r"([0-9]{1,9})(?:[x×]([0-9]{1,9}))?", text.strip().lower(), re.ASCII)
    if found:
        height, width = int(found[1]), int(found[2] or found[1])
        if min(height, width) >= SMALLEST and max(height, width) <= LARGEST:
            return height, width
    raise DropkitError(
        f"image_size is {text!r}: allowed are N or HEIGHTxWIDTH in pixels, each {SMALLEST} to {LARGEST}, such as 64 "
        "or 48x64, and native, which keeps pictures as they are."
    )


def describe_size(size: Size) -> str:
    """Return a size as people write it: width first.

    >>> describe_size((48, 64))
    '64x48'
    """
    return f"{size[1]}x{size[0]}"
