"""The Triton programs of `dropkit.masks.kernels.gpu`: what one group of threads does to one tile of an activation.

A tile is made of groups of 8 neighbouring units. One Philox block serves 8 units (4 at 32 bits), and what a program
needs to know of a group is 8 bits, one a unit. Numbers of units and places in memory have 64 bits.
"""
# Triton's language has Python's grammar but not its types.
# mypy: ignore-errors
# Its constants are written in capitals, as everywhere in that language.
# ruff: noqa: N803

import triton
import triton.language as tl
from triton.language import constexpr

# The interpreter cuts float32 off to bfloat16. There the rounding is done on integers; a GPU's own instruction rounds
# to nearest even, and integers in its place would be a fifth of a bfloat16 kernel's instructions.
_BY_HAND = constexpr(bool(triton.knobs.runtime.interpret))
_NUMBERS = ["seed", "site", "step", "first_sample", "units", "threshold", "bits", "scale"]


# ---------------------------------------------------------------- bits


@triton.jit
def _philox(block, k0, k1, site, step):
    """Return the four words of each block (`dropkit.masks.philox`)."""
    c0, c1, c2, c3 = block.to(tl.uint32), (block >> 32).to(tl.uint32), site, step
    for _ in tl.static_range(10):
        # one wide product is one instruction; its upper and lower halves would be two
        first = c0.to(tl.uint64) * 0xD2511F53
        second = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (second >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (first >> 32).to(tl.uint32) ^ c3 ^ k1
        c1, c3 = second.to(tl.uint32), first.to(tl.uint32)
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def _kept_of_word(word, threshold, BITS: constexpr):
    """Return a bit for each of a word's units, 1 for kept; the first unit's bit is the lowest."""
    if BITS == 32:
        kept = (word >= threshold).to(tl.uint32)
    else:
        upper = (word >= (threshold << 16)).to(tl.uint32)
        kept = ((word & 0xFFFF) >= threshold).to(tl.uint32) | (upper << 1)
    return kept


@triton.jit
def _kept_of_block(block, k0, k1, site, step, threshold, BITS: constexpr):
    """Return 8 bits of each block (16-bit rates) or 4 (32-bit rates)."""
    a, b, c, d = _philox(block, k0, k1, site, step)
    a = _kept_of_word(a, threshold, BITS) | (_kept_of_word(b, threshold, BITS) << (32 // BITS))
    c = _kept_of_word(c, threshold, BITS) | (_kept_of_word(d, threshold, BITS) << (32 // BITS))
    return a | (c << (64 // BITS))


@triton.jit
def _kept(e, key, threshold, BITS: constexpr, ALIGNED: constexpr):
    """Return the bits of the 8 units from number e on, the first unit's lowest; above them there may be dirt.

    ALIGNED says that every e is a block's first unit. Otherwise the 8 units begin inside a block and end in the next.
    """
    k0, k1, site, step = key
    lanes: constexpr = 128 // BITS
    e = e.to(tl.uint64)
    block = e // lanes
    # below 2**BITS but where all is dropped, which is cut out after the comparisons
    limit = threshold.to(tl.uint32)
    kept = _kept_of_block(block, k0, k1, site, step, limit, BITS)
    if BITS == 32:
        kept |= _kept_of_block(block + 1, k0, k1, site, step, limit, BITS) << 4
    if not ALIGNED:
        kept |= _kept_of_block(block + 8 // lanes, k0, k1, site, step, limit, BITS) << 8
        kept = kept >> (e % lanes).to(tl.uint32)
        kept = tl.where(threshold == (1 << BITS), 0, kept)
    return kept


# ---------------------------------------------------------------- what a launch says


@triton.jit
def _key_of(key_ptr, seed, site, step):
    """Return Philox's key and the two upper words of its counter, from the device or from the launch."""
    if key_ptr is not None:
        seed, site, step = tl.load(key_ptr), tl.load(key_ptr + 1), tl.load(key_ptr + 2)
    seed = seed.to(tl.int64)
    return seed.to(tl.uint32), (seed >> 32).to(tl.uint32), site.to(tl.uint32), step.to(tl.uint32)


@triton.jit
def _first_of(key_ptr, first_sample, units):
    """Return the number of the first unit."""
    if key_ptr is not None:
        first_sample = tl.load(key_ptr + 3)
    return first_sample.to(tl.int64) * units


@triton.jit
def _rate_of(rate_ptr, threshold, bits):
    if rate_ptr is not None:
        threshold, bits = tl.load(rate_ptr), tl.load(rate_ptr + 1)
    return threshold.to(tl.int64), bits.to(tl.int64)


@triton.jit
def _scale_of(rate_ptr, scale):
    """Return the factor of what is kept, in float64: from the launch (as its bit pattern) or as `Rate.scale` has it."""
    if rate_ptr is not None:
        threshold = tl.load(rate_ptr)
        whole = tl.full((), 1, tl.int64) << tl.load(rate_ptr + 1)
        # Both numbers are exact in float64 and its division rounds once. Where all is dropped, any factor will do.
        factor = whole.to(tl.float64) / tl.maximum(whole - threshold, 1).to(tl.float64)
    else:
        factor = scale.to(tl.int64).to(tl.float64, bitcast=True)
    return factor


# ---------------------------------------------------------------- numbers


@triton.jit
def _widened(x):
    """Return x in the type of its arithmetic: float64 as it is, all else in float32."""
    if x.dtype == tl.bfloat16:
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    elif x.dtype == tl.float16:
        x = x.to(tl.float32)
    return x


@triton.jit
def _narrowed(x, dtype: constexpr):
    """Return x rounded to nearest, a tie to even; a NaN stays one."""
    if _BY_HAND and dtype == tl.bfloat16:
        u = x.to(tl.uint32, bitcast=True)
        u = tl.where(x != x, 0x7FC0, (u + 0x7FFF + ((u >> 16) & 1)) >> 16)
        x = u.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        x = x.to(dtype)
    return x


@triton.jit
def _write(x_ptr, r_ptr, y_ptr, at, inside, kept, lane, scale, RELU: constexpr, SCALED: constexpr):
    """Write the kept of x, of max(x, 0) or of max(x + r, 0), and zero elsewhere: by selection, not by a product."""
    dtype: constexpr = y_ptr.dtype.element_ty
    kept = ((kept >> lane.to(tl.uint32)) & 1) != 0
    if x_ptr is not None:
        x = _widened(tl.load(x_ptr + at, mask=inside))
        if r_ptr is not None:
            x += _widened(tl.load(r_ptr + at, mask=inside))
            if dtype == tl.bfloat16 or dtype == tl.float16:  # as the sum of two tensors would be
                x = _widened(_narrowed(x, dtype))
        if RELU:
            x = tl.where(x < 0, 0.0, x)  # a NaN is not below zero and stays
        if SCALED:
            x = x * scale.to(x.dtype)
        y = _narrowed(tl.where(kept, x, 0.0), dtype)
    else:  # the mask itself
        y = kept.to(dtype)
    tl.store(y_ptr + at, y, mask=inside)


# ---------------------------------------------------------------- units one after the other


@triton.jit
def _line_tile(
    x_ptr, r_ptr, y_ptr, n, start, first, key, threshold, scale,
    BITS: constexpr, RELU: constexpr, SCALED: constexpr, GROUPS: constexpr,
):  # fmt: skip
    group = tl.arange(0, GROUPS)
    lane = tl.arange(0, 8)[None, :]
    at = group[:, None] * 8 + lane
    e = first + start + group * 8
    y_ptr += start
    if x_ptr is not None:
        x_ptr += start
    if r_ptr is not None:
        r_ptr += start
    whole = start + GROUPS * 8 <= n
    # The first branch goes all the way: there the compiler compares straight into the selection.
    if whole & ((first & 7) == 0) & (threshold < (1 << BITS)):
        kept = _kept(e, key, threshold, BITS, True)
        _write(x_ptr, r_ptr, y_ptr, at, None, kept[:, None], lane, scale, RELU, SCALED)
    else:
        kept = _kept(e, key, threshold, BITS, False)
        if whole:  # without bounds, wide loads
            _write(x_ptr, r_ptr, y_ptr, at, None, kept[:, None], lane, scale, RELU, SCALED)
        else:
            _write(x_ptr, r_ptr, y_ptr, at, start + at < n, kept[:, None], lane, scale, RELU, SCALED)


@triton.jit(do_not_specialize=[*_NUMBERS, "n"])
def line(
    x_ptr, r_ptr, y_ptr, n: tl.int64,
    key_ptr, seed: tl.int64, site: tl.int64, step: tl.int64, first_sample: tl.int64, units: tl.int64,
    rate_ptr, threshold: tl.int64, bits: tl.int64, scale: tl.int64,
    BITS: constexpr, RELU: constexpr, SCALED: constexpr, GROUPS: constexpr,
):  # fmt: skip
    """Units that lie one after the other in memory."""
    start = tl.program_id(0).to(tl.int64) * (GROUPS * 8)
    key = _key_of(key_ptr, seed, site, step)
    first = _first_of(key_ptr, first_sample, units)
    threshold, bits = _rate_of(rate_ptr, threshold, bits)
    scale = _scale_of(rate_ptr, scale)
    if BITS == 16 or BITS == 32:
        _line_tile(x_ptr, r_ptr, y_ptr, n, start, first, key, threshold, scale, BITS, RELU, SCALED, GROUPS)
    elif bits == 16:
        _line_tile(x_ptr, r_ptr, y_ptr, n, start, first, key, threshold, scale, 16, RELU, SCALED, GROUPS)
    else:
        _line_tile(x_ptr, r_ptr, y_ptr, n, start, first, key, threshold, scale, 32, RELU, SCALED, GROUPS)


# ---------------------------------------------------------------- units some way apart: channels-last, whole channels


@triton.jit
def _place(rows, columns, GROUPS: constexpr, WIDTH: constexpr):
    """Return this program's slice, first row and first column."""
    across = tl.cdiv(columns, WIDTH)
    down = tl.cdiv(rows, GROUPS * 8)
    tile = tl.program_id(0)  # in 32 bits, as dividing in 64 takes as long as all the rest
    s, row, column = tile // (across * down), (tile // across) % down, tile % across
    return s.to(tl.int64), row.to(tl.int64) * (GROUPS * 8), column.to(tl.int64) * WIDTH


@triton.jit
def _grid_tile(
    x_ptr, r_ptr, y_ptr, at, inside, whole, aligned, e, key, threshold, scale,
    BITS: constexpr, RELU: constexpr, SCALED: constexpr,
):  # fmt: skip
    lane = tl.arange(0, 8)[None, :, None]
    if whole & aligned & (threshold < (1 << BITS)):
        kept = _kept(e, key, threshold, BITS, True)
        _write(x_ptr, r_ptr, y_ptr, at, None, kept[:, None, :], lane, scale, RELU, SCALED)
    else:
        kept = _kept(e, key, threshold, BITS, False)
        if whole:
            _write(x_ptr, r_ptr, y_ptr, at, None, kept[:, None, :], lane, scale, RELU, SCALED)
        else:
            _write(x_ptr, r_ptr, y_ptr, at, inside, kept[:, None, :], lane, scale, RELU, SCALED)


@triton.jit(do_not_specialize=[*_NUMBERS, "unit_slice"])
def grid(
    x_ptr, r_ptr, y_ptr, rows, columns, at_slice, at_row, at_column, unit_slice: tl.int64, unit_column,
    key_ptr, seed: tl.int64, site: tl.int64, step: tl.int64, first_sample: tl.int64, units: tl.int64,
    rate_ptr, threshold: tl.int64, bits: tl.int64, scale: tl.int64,
    BITS: constexpr, RELU: constexpr, SCALED: constexpr, SHARED: constexpr, GROUPS: constexpr, WIDTH: constexpr,
):  # fmt: skip
    """Slices of rows and columns: neighbouring rows are neighbouring units, SHARED says that columns are one unit."""
    s, row, column = _place(rows, columns, GROUPS, WIDTH)
    key = _key_of(key_ptr, seed, site, step)
    first = _first_of(key_ptr, first_sample, units) + s * unit_slice
    threshold, bits = _rate_of(rate_ptr, threshold, bits)
    scale = _scale_of(rate_ptr, scale)
    whole = (row + GROUPS * 8 <= rows) & (column + WIDTH <= columns)
    aligned = ((first | unit_column) & 7) == 0
    group = row + tl.arange(0, GROUPS) * 8
    row = group[:, None, None] + tl.arange(0, 8)[None, :, None]
    column = (column + tl.arange(0, WIDTH))[None, None, :]
    at = s * at_slice + row * at_row + column * at_column
    inside = (row < rows) & (column < columns)
    e = first + group[:, None]
    if not SHARED:
        e = e + tl.reshape(column, (1, WIDTH)) * unit_column
    if BITS == 16 or BITS == 32:
        _grid_tile(x_ptr, r_ptr, y_ptr, at, inside, whole, aligned, e, key, threshold, scale, BITS, RELU, SCALED)
    elif bits == 16:
        _grid_tile(x_ptr, r_ptr, y_ptr, at, inside, whole, aligned, e, key, threshold, scale, 16, RELU, SCALED)
    else:
        _grid_tile(x_ptr, r_ptr, y_ptr, at, inside, whole, aligned, e, key, threshold, scale, 32, RELU, SCALED)


# ---------------------------------------------------------------- Gaussian noise, the gradient of ReLU + dropout


@triton.jit(do_not_specialize=[*_NUMBERS, "unit_slice"])
def noise(
    x_ptr, y_ptr, table_ptr, rows, columns, at_slice, at_row, at_column, unit_slice: tl.int64, unit_column,
    key_ptr, seed: tl.int64, site: tl.int64, step: tl.int64, first_sample: tl.int64, units: tl.int64,
    deviation_ptr, deviation, GROUPS: constexpr, WIDTH: constexpr,
):  # fmt: skip
    """Slices as in `_grid`, but each group of 8 rows is a block's units: a column's first group may begin before it."""
    s, row, column = _place(rows + 7, columns, GROUPS, WIDTH)
    column += tl.arange(0, WIDTH)
    first = _first_of(key_ptr, first_sample, units) + s * unit_slice + column * unit_column
    first = first.to(tl.uint64)
    k0, k1, site, step = _key_of(key_ptr, seed, site, step)
    group = row // 8 + tl.arange(0, GROUPS)
    a, b, c, d = _philox(group.to(tl.uint64)[:, None] + (first // 8)[None, :], k0, k1, site, step)
    lane = tl.arange(0, 8)[None, :, None]
    word = tl.where(lane < 4, tl.where(lane < 2, a[:, None, :], b[:, None, :]), c[:, None, :])
    word = tl.where(lane < 6, word, d[:, None, :])
    half = (word >> (lane % 2 * 16).to(tl.uint32)) & 0xFFFF
    row = group[:, None, None] * 8 + lane - (first & 7).to(tl.int64)[None, None, :]
    column = column[None, None, :]
    inside = (row >= 0) & (row < rows) & (column < columns)
    at = s * at_slice + row * at_row + column * at_column
    if deviation_ptr is not None:
        deviation = tl.load(deviation_ptr).to(tl.float32)
    # Two roundings: the launch forbids to fuse product and sum.
    noise = 1.0 + deviation * tl.load(table_ptr + half.to(tl.int32))
    x = _widened(tl.load(x_ptr + at, mask=inside))
    tl.store(y_ptr + at, _narrowed(x * noise.to(x.dtype), y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _gradient(dy_ptr, y_ptr, dx_ptr, at, inside, scale):
    y = _widened(tl.load(y_ptr + at, mask=inside))
    dx = _widened(tl.load(dy_ptr + at, mask=inside)) * scale.to(y.dtype)
    tl.store(dx_ptr + at, _narrowed(tl.where(y <= 0, 0.0, dx), dx_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["n", "scale"])
def where_positive(dy_ptr, y_ptr, dx_ptr, n: tl.int64, rate_ptr, scale: tl.int64, UNITS: constexpr):
    """The gradient of `line` and `grid` with ReLU, in whatever order the numbers lie."""
    start = tl.program_id(0).to(tl.int64) * UNITS
    at = tl.arange(0, UNITS)
    scale = _scale_of(rate_ptr, scale)
    if start + UNITS <= n:
        _gradient(dy_ptr + start, y_ptr + start, dx_ptr + start, at, None, scale)
    else:
        _gradient(dy_ptr + start, y_ptr + start, dx_ptr + start, at, start + at < n, scale)
