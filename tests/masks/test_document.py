"""The test vectors of docs/masks.md are what the reference computes."""

import re
from pathlib import Path

import pytest
import torch

from dropkit.masks import Key, Rate, keep, ops, site_of
from dropkit.masks.philox import philox4x32
from dropkit.masks.words import key_words, rate_words

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "masks.md"


def rows(heading):
    """Return the cells of the table whose first column has the given heading."""
    text = DOCUMENT.read_text()
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


@pytest.mark.parametrize(("counter", "key", "words"), rows("counter"))
def test_philox(counter, key, words):
    c, k = [[int(word, 16) for word in text.split()] for text in (counter, key)]
    got = philox4x32((torch.tensor(c[0]), *c[1:]), tuple(k))
    assert " ".join(f"{int(word):08x}" for word in got) == words


@pytest.mark.parametrize(("p", "bits", "threshold", "scale"), rows("p"))
def test_rates(p, bits, threshold, scale):
    rate = Rate.of(eval(p))
    assert (rate.bits, rate.threshold, repr(rate.scale)) == (int(bits), int(threshold), scale)


@pytest.mark.parametrize(("path", "site"), rows("path"))
def test_sites(path, site):
    assert f"{site_of(path.strip('`')):08x}" == site


MASKS = rows("seed")


@pytest.mark.parametrize("row", MASKS)
def test_masks(row):
    seed, site, step, first = (int(word, 16) for word in row[:4])
    units, bits, threshold = map(int, row[4:7])
    kept = keep(2, units, Rate(bits, threshold), Key(seed, site, step, first))
    assert ["".join(map(str, sample)) for sample in kept.int().tolist()] == row[7:]


@pytest.mark.parametrize(("operation", "dtype", "expected"), rows("operation"))
def test_outputs(operation, dtype, expected):
    seed, site, step, first = (int(word, 16) for word in MASKS[0][:4])
    key, rate = key_words(seed, site, step, first), rate_words(Rate.of(0.1))
    x = torch.arange(1.0, 9.0)[None].to(getattr(torch, dtype))
    if operation == "ReLU + dropout":
        y = ops.relu_drop(x * torch.tensor([1, -1] * 4), key, rate)
    elif operation == "gaussian, deviation 1/3":
        y = ops.gaussian(x, key, torch.tensor([1 / 3], dtype=torch.float64))
    else:
        y = ops.drop(x, key, rate)
    width = 2 * y.element_size()
    integer = {4: torch.int16, 8: torch.int32, 16: torch.int64}[width]
    values = y.view(integer)[0].tolist()
    assert " ".join(f"{value % (1 << 4 * width):0{width}x}" for value in values) == expected
