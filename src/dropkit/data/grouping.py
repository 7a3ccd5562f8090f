"""Which pictures must stay on one side of a split: byte-identical ones, and those of one object."""

import re

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dropkit.data.pictures import Pictures
from dropkit.data.store import DIGEST_BYTES
from dropkit.errors import DropkitError

Indices = npt.NDArray[np.int64]

_SHOWN = 5


def groups_of(pictures: Pictures, pattern: str) -> Indices:
    """Return the number of each picture's group, [N]: pictures whose ids give the same text belong together.

    The text is what the first pair of parentheses in the pattern matches, or the whole match where there is none.
    Pictures of different classes may have one group: put the class's folder into the text to keep classes apart.

    Raises:
        DropkitError: if the pattern is no regular expression, or does not match every id.
    """
    try:
        rule = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise DropkitError(
            f"group is {pattern!r}, which is no regular expression ({error}). Such as '([^/]*)_[0-9]+' takes "
            "'cat/felix_12.png' into the group 'felix'."
        ) from None
    found = [rule.search(name) for name in pictures.ids]
    texts = [None if match is None else match[1 if rule.groups else 0] for match in found]
    without = [name for name, text in zip(pictures.ids, texts, strict=True) if text is None]
    if without:
        shown = ", ".join(repr(name) for name in without[:_SHOWN])
        raise DropkitError(
            f"group is {pattern!r}, which gives {len(without):,} of {len(texts):,} pictures no group, such as {shown}. "
            "Every picture needs one: widen the pattern, for example by '|' and a second way to read the name."
        )
    return np.unique(np.array(texts, dtype=object), return_inverse=True)[1].astype(np.int64)


def identical(pictures: Pictures, pool: Indices) -> Indices:
    """Return for each picture of pool the index of the first one in it with the same bytes."""
    first: dict[bytes, int] = {}
    digests = pictures.digests[pool].view(f"V{DIGEST_BYTES}").ravel().tolist()
    places = zip(digests, pool.tolist(), strict=True)
    return np.array([first.setdefault(digest, place) for digest, place in places], dtype=np.int64)


def together(pool: Indices, same: Indices, groups: Indices | None) -> Indices:
    """Return for each picture of pool the index of the first one that it must stay with, by bytes or by group.

    Args:
        pool: indices of pictures, sorted.
        same: what `identical` gives for them.
        groups: the number of each picture's group (of all pictures), None where there are none.
    """
    if groups is None:
        return same
    place = np.arange(len(pool))
    head = np.searchsorted(pool, same)
    _, first, number = np.unique(groups[pool], return_index=True, return_inverse=True)
    rows, columns = np.concatenate([place, place]), np.concatenate([head, first[number]])
    links = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(pool), len(pool)))
    component = connected_components(links, directed=False)[1]
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    return pool[first[number]]
