import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.masks import philox4x32

WORD = st.integers(0, 2**32 - 1)
SEEDED = settings(max_examples=50, derandomize=True, deadline=None)


def on(counter, key):
    """philox4x32 on plain integers, the first counter word as a tensor without dimensions."""
    first = torch.tensor(counter[0])
    return [int(word) for word in philox4x32((first, *counter[1:]), key)]


# Random123 1.14, tests/kat_vectors, "philox4x32 10".
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers_of_random123(counter, key, words):
    counter, key, words = ([int(word, 16) for word in text.split()] for text in (counter, key, words))
    assert on(counter, key) == words


@SEEDED
@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_equals_python_integers(philox_oracle, counter, key):
    assert on(counter, key) == philox_oracle(counter, key)


@SEEDED
@given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=7), WORD, WORD, st.tuples(WORD, WORD))
def test_words_may_be_tensors(philox_oracle, lows_and_highs, site, step, key):
    low, high = torch.tensor(lows_and_highs).T
    words = philox4x32((low, high, torch.tensor(site), step), tuple(torch.tensor(word) for word in key))
    expected = [philox_oracle((lo, hi, site, step), key) for lo, hi in lows_and_highs]
    assert torch.stack(words, 1).tolist() == expected


def test_arguments_are_left_alone():
    counter = (torch.arange(5), torch.arange(5) + 7, torch.arange(5) + 11, torch.arange(5) + 13)
    key = (torch.tensor(17), torch.tensor(19))
    before = [word.clone() for word in (*counter, *key)]
    philox4x32(counter, key)
    assert all(torch.equal(a, b) for a, b in zip(before, (*counter, *key), strict=True))
