"""Keys and rates as small CPU tensors: data to compiled code, which then is not compiled anew for each step or rate.

A key is int64 [4]: seed (in two's complement), site, step, first sample. A rate is int64 [2]: threshold, bits.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dropkit.masks.keys import Key
from dropkit.masks.rate import Rate

MASK64 = (1 << 64) - 1
# All of int64 but its highest value, which torch's generator leaves out.
SEEDS = (-(1 << 63), (1 << 63) - 1)


def key_words(seed: int, site: int = 0, step: int = 0, first_sample: int = 0) -> Tensor:
    """Return a key as a tensor.

    >>> key_words(2**64 - 1, 3, 5, 7)
    tensor([-1,  3,  5,  7])
    """
    return _words(seed - (1 << 64) if seed >> 63 else seed, site, step, first_sample)


def rate_words(rate: Rate) -> Tensor:
    """Return a rate as a tensor.

    >>> rate_words(Rate.of(0.5))
    tensor([32768,    16])
    """
    return _words(rate.threshold, rate.bits)


def rate_with_words(p: float, bits: int | None = None) -> tuple[Rate, Tensor]:
    """Return the rate of a probability, and that as a tensor, which is kept for later calls: nobody may change it.

    >>> rate_with_words(0.5)
    (Rate(bits=16, threshold=32768), tensor([32768,    16]))
    """
    # Compiled code takes no notice of what is kept: it would be compiled anew for each new probability.
    if torch.compiler.is_compiling():
        return _with_words(p, bits)
    known = _KNOWN.get((p, bits))
    if known is None:
        known = _with_words(p, bits)
        if type(known[1]) is Tensor and len(_KNOWN) < 1024:  # a tracer's tensor has no values to keep
            _KNOWN[p, bits] = known
    return known


_KNOWN: dict[tuple[float, int | None], tuple[Rate, Tensor]] = {}


def _with_words(p: float, bits: int | None) -> tuple[Rate, Tensor]:
    rate = Rate.of(p, bits)
    return rate, rate_words(rate)


def _words(*words: int) -> Tensor:
    # An inference tensor could not be saved for a backward pass later on.
    with torch.inference_mode(False):
        return torch.tensor(words, dtype=torch.int64, device="cpu")


SIXTEEN_BITS = rate_words(Rate(16, 0))  # what noise takes a unit


class Draw(NamedTuple):
    """A key and a rate as plain integers: what one call of a kernel takes."""

    seed: int
    site: int
    step: int
    first_sample: int
    threshold: int
    bits: int

    @classmethod
    def of(cls, key: "AnyKey", rate: Tensor) -> "Draw":
        """Read both tensors; a key that has been read is taken as it is, and one that is missing drawn."""
        if isinstance(key, Draw):
            return key
        if key is None:
            # What `dropkit.masks.ops.fresh_key` draws, without the tensor around it.
            seed = torch.empty((), dtype=torch.int64, device="cpu").random_(*SEEDS).item()
            site = step = first_sample = 0
        else:
            seed, site, step, first_sample = key.tolist()
        threshold, bits = rate.tolist()
        if bits not in (16, 32) or not 0 <= threshold <= 1 << bits:
            Rate(bits, threshold)  # says what is wrong
        return cls(int(seed) & MASK64, site, step, first_sample, threshold, bits)

    def key_words(self) -> Tensor:
        """Return the key as a tensor again."""
        return key_words(self.seed, self.site, self.step, self.first_sample)

    @property
    def key(self) -> Key:
        """The key, as the reference takes it."""
        return Key(self.seed, self.site, self.step, self.first_sample)

    @property
    def rate(self) -> Rate:
        """The rate, as the reference takes it."""
        return Rate(self.bits, self.threshold)

    @property
    def drops_none(self) -> bool:
        """Whether every unit is kept."""
        return self.threshold == 0

    @property
    def drops_all(self) -> bool:
        """Whether no unit is kept."""
        return self.threshold == 1 << self.bits

    @property
    def scale(self) -> float:
        """The factor of what is kept: the exact inverse of the keep fraction."""
        return 0.0 if self.drops_all else (1 << self.bits) / ((1 << self.bits) - self.threshold)


# A key as a tensor, or already read, or None: a fresh one is to be drawn.
AnyKey = Tensor | Draw | None
