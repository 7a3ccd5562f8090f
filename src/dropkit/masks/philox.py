"""Philox4x32-10, the counter-based random function of which every mask is made, in plain torch operations."""

import torch
from torch import Tensor

Word = int | Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
MASK32 = 0xFFFFFFFF


def philox4x32(
    counter: tuple[Tensor, Word, Word, Word], key: tuple[Word, Word]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four 32-bit random words of each counter under one key.

    Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3
    (ten rounds); the constants are Random123's.

    Args:
        counter: four words, the lowest first. The first is a tensor and gives shape and device of the result;
            the others are integers, tensors without dimensions or tensors of that shape.
        key: two words, the lower first: integers or tensors without dimensions.

    All words are int64 holding values of 0 to 2**32 - 1.

    >>> [hex(int(word)) for word in philox4x32((torch.zeros((), dtype=torch.int64), 0, 0, 0), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = (_buffer(word, counter[0]) for word in counter)
    k0, k1 = key
    high = torch.empty_like(c0)
    for _ in range(_ROUNDS):
        # The product of two 32-bit words wraps modulo 2**64, and its low half is right nonetheless. Only what
        # is multiplied next must have 32 clean bits: c1, c3 and the key carry dirt above them, cut off by the
        # `and`.
        first, second = c0.mul_(_MULTIPLIERS[0]), c2.mul_(_MULTIPLIERS[1])
        c0 = c1.bitwise_xor_(torch.bitwise_right_shift(second, 32, out=high)).bitwise_xor_(k0).bitwise_and_(MASK32)
        c2 = c3.bitwise_xor_(torch.bitwise_right_shift(first, 32, out=high)).bitwise_xor_(k1).bitwise_and_(MASK32)
        c1, c3 = second, first
        k0, k1 = k0 + _KEY_STEPS[0], k1 + _KEY_STEPS[1]
    return c0, c1.bitwise_and_(MASK32), c2, c3.bitwise_and_(MASK32)


def _buffer(word: Word, like: Tensor) -> Tensor:
    """Return the word as a tensor of its own that the rounds may overwrite."""
    # Adding takes a CPU tensor without dimensions on any device, as a number, without waiting for the device.
    return torch.zeros(like.shape, dtype=torch.int64, device=like.device).add_(word)
