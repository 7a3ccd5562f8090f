"""The rate of a mask: a probability rounded to the grid of the random bits that decide about a unit."""

from dataclasses import dataclass

from dropkit.errors import DropkitError

# Sixteen bits place p within 1/131,072 (at most 0.08 % of p here) at half the random bits; outside, 32 are
# needed.
_COARSE = (0.01, 0.99)


@dataclass(frozen=True)
class Rate:
    """A unit is dropped when its `bits` random bits, read as an unsigned integer, are below `threshold`.

    The realised rate `p` is `threshold / 2**bits`, and `scale` is the exact inverse of the realised keep
    fraction, so the mean of a masked activation is exact although the rate asked for was rounded.

    >>> rate = Rate.of(0.1)
    >>> rate.bits, rate.threshold
    (16, 6554)
    >>> rate.p
    0.100006103515625
    """

    bits: int
    threshold: int

    def __post_init__(self) -> None:
        if self.bits not in (16, 32):
            raise DropkitError(f"a rate has 16 or 32 bits, but got {self.bits}")
        if not 0 <= self.threshold <= 1 << self.bits:
            raise DropkitError(f"a threshold of {self.bits} bits is 0 to {1 << self.bits}, but got {self.threshold}")

    @classmethod
    def of(cls, p: float, bits: int | None = None) -> "Rate":
        """Round the drop probability `p` to the nearest threshold (a tie goes to the even one).

        Args:
            p: the probability of dropping, 0 to 1.
            bits: 16 or 32. By default 16 for 0.01 <= p <= 0.99 and 32 otherwise; masks with few units
                (channels, samples, blocks, weights) always ask for 32.

        Raises:
            DropkitError: p is not a number from 0 to 1.
        """
        if isinstance(p, bool) or not 0 <= p <= 1:
            raise DropkitError(f"a drop probability is a number from 0 to 1, but got {p!r}")
        if bits is None:
            bits = 16 if _COARSE[0] <= p <= _COARSE[1] else 32
        return cls(bits, round(float(p) * (1 << bits)))

    @property
    def p(self) -> float:
        """The realised probability of dropping."""
        return self.threshold / (1 << self.bits)

    @property
    def q(self) -> float:
        """The realised probability of keeping."""
        return ((1 << self.bits) - self.threshold) / (1 << self.bits)

    @property
    def scale(self) -> float:
        """The factor of what is kept, 1 / q; 0 where nothing is kept, so that no product is infinite."""
        return 0.0 if self.drops_all else (1 << self.bits) / ((1 << self.bits) - self.threshold)

    @property
    def drops_none(self) -> bool:
        """Whether every unit is kept."""
        return self.threshold == 0

    @property
    def drops_all(self) -> bool:
        """Whether no unit is kept."""
        return self.threshold == 1 << self.bits
