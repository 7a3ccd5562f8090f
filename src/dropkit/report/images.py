"""Small pictures inside the page: checked to be PNG data, their size read, so nothing else can stand in their place."""

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from typing import Any

_URI = re.compile(r"data:image/png;base64,([A-Za-z0-9+/]+={0,2})")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Png:
    """A PNG as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def is_small(self) -> bool:
        """Whether single pixels should stay squares when it is enlarged; a photo is smoothed."""
        return max(self.width, self.height) <= 64

    def scale_to(self, width: int) -> int:
        """Return by which whole number to enlarge it so that it is at most `width` pixels wide."""
        return max(width // max(self.width, 1), 1)


def read_png(uri: Any) -> Png | None:
    """Return the PNG of a data URI; None where the text is anything else.

    >>> read_png("javascript:alert(1)") is None
    True
    """
    found = _URI.fullmatch(uri) if isinstance(uri, str) else None
    if found is None:
        return None
    try:
        data = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        return None
    if len(data) < 24 or not data.startswith(_SIGNATURE):
        return None
    width, height = struct.unpack(">II", data[16:24])
    return Png(uri, width, height)
