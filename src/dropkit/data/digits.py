"""The handwritten digits that come with scikit-learn: data that are always there."""

import numpy as np

from dropkit.data.listing import Block, Listing, gather
from dropkit.data.pictures import Pictures, Reading


def read(how: Reading | None = None) -> Pictures:
    """Return the 1,797 digits as uint8 [1797, 1, 8, 8], without splits.

    The source counts ink in 17 levels, 0..16; level v becomes v * 255 / 16 rounded to the nearest whole
    number, so that 0 stays 0, 16 becomes 255 and all 17 levels remain distinct. Source: E. Alpaydin and C.
    Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), test set.

    >>> read().images.max().item()
    255
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    levels = source.images.astype(np.int64)
    images = ((levels * 255 + 8) // 16).astype(np.uint8)[:, None]
    listing = Listing(
        name="digits",
        class_names=tuple(str(name) for name in source.target_names),
        counts=[(None, len(images))],
        labels=source.target.astype(np.int64),
        ids=tuple(f"digits[{i}]" for i in range(len(images))),
        source=Block(images),
        stamp=["digits"],
    )
    return gather(listing, how or Reading())
