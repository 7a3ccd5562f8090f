"""What a mask is a function of, beside the sample and the unit: seed, site and step."""

from dataclasses import dataclass
from hashlib import blake2b

from dropkit.masks.philox import MASK32, Word

# What DataParallel's relatives, torch.compile, FSDP and the checkpoint wrapper put into a module's path.
# `module` alone may be a network's own name for a part, so it counts as a wrapper only at the front.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_FRONT_WRAPPER = "module"


@dataclass(frozen=True)
class Key:
    """The key of one mask.

    Attributes:
        seed: 64 bits, as an integer from 0 to 2**64 - 1 or as an int64 tensor without dimensions (two's
            complement).
        site: 32 bits, the place in the network (`site_of`).
        step: 32 bits, an integer or an int64 tensor without dimensions.
        first_sample: the number of the batch's first sample, so that parts of one batch get the batch's
            masks.
    """

    seed: Word
    site: int = 0
    step: Word = 0
    first_sample: int = 0

    @property
    def words(self) -> tuple[Word, Word]:
        """The two words of Philox's key: the seed's lower and upper half."""
        return self.seed & MASK32, (self.seed >> 32) & MASK32


def site_of(path: str) -> int:
    """Return a stable 32-bit number for a module path, the same whether or not the network is wrapped.

    >>> site_of("features.3") == site_of("module._orig_mod.features.3")
    True
    """
    parts = [part for part in path.split(".") if part not in _WRAPPERS]
    while parts[:1] == [_FRONT_WRAPPER]:
        parts = parts[1:]
    return int.from_bytes(blake2b(".".join(parts).encode(), digest_size=4).digest(), "little")
