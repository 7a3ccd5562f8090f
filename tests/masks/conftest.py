"""An oracle for masks in plain Python integers, written from the published formula, with no torch in it."""

import pytest

LOW = 2**32 - 1


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & LOW, (a >> 32) ^ c[3] ^ k[1], a & LOW]
        k = [(k[0] + 0x9E3779B9) & LOW, (k[1] + 0xBB67AE85) & LOW]
    return c


def kept(e, bits, threshold, seed, site, step):
    block, lane = divmod(e, 128 // bits)
    words = philox((block & LOW, block >> 32, site, step), (seed & LOW, seed >> 32))
    value = words[lane] if bits == 32 else (words[lane >> 1] >> (16 * (lane & 1))) & 0xFFFF
    return value >= threshold


@pytest.fixture(scope="session")
def philox_oracle():
    return philox


@pytest.fixture(scope="session")
def kept_oracle():
    return kept
