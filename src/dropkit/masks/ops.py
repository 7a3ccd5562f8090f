"""The torch operators `dropkit::*`: one implementation a device, autograd, torch.func, compilation and export.

Keys and rates are small CPU tensors (`dropkit.masks.words`), so nothing is compiled anew when they change. No output
shares memory with an input; strides are those of `torch.empty_like(x)`. They are registered in the only way that serves
all of these: see `dropkit.masks.private_torch`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from dropkit.masks import batching, cpu
from dropkit.masks.autograd import DrawnLinear, EagerLinear, EagerReluDrop, Linear, ReluDrop, WherePositive
from dropkit.masks.block_rate import Sizes, seed_rate
from dropkit.masks.devices import kernels_for
from dropkit.masks.kernels.library import empty_like
from dropkit.masks.private_torch import (
    AUTOGRAD_KEY,
    VMAP_RANDOMNESS_KEY,
    below_autograd,
    is_eager,
    saving_is_watched,
    single_level,
)
from dropkit.masks.rate import Rate
from dropkit.masks.reference import logits, quantiles
from dropkit.masks.words import SEEDS, SIXTEEN_BITS, AnyKey, Draw, rate_words

_DEVICES = ("CPU", "CUDA", "MPS", "XPU", "PrivateUse1")

# The library lives as long as this name does.
_library = Library("dropkit", "DEF")
_library.define("drop(Tensor x, Tensor key, Tensor rate, bool scaled=True) -> Tensor")
_library.define("drop_channels(Tensor x, Tensor key, Tensor rate) -> Tensor")
_library.define("relu_drop(Tensor x, Tensor key, Tensor rate) -> Tensor")
_library.define("where_positive(Tensor dy, Tensor y, Tensor rate) -> Tensor")
_library.define("gaussian(Tensor x, Tensor key, Tensor deviation) -> Tensor")
_library.define("logistic(Tensor like, Tensor key) -> Tensor")
_library.define("drop_blocks(Tensor x, Tensor key, Tensor rate, int[] block, bool shared) -> Tensor")
_library.define("block_rate(Tensor rate, SymInt[] sizes, int[] block) -> Tensor")
_library.define("draw(Tensor like, Tensor after) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))

_OPS = torch.ops.dropkit


# ---------------------------------------------------------------- what the operators compute


def _drop(x: Tensor, key: AnyKey, rate: Tensor, scaled: bool = True) -> Tensor:
    y: Tensor = kernels_for(x).drop(x, empty_like(x), key, rate, scaled)
    return y


def _drop_channels(x: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    y: Tensor = kernels_for(x).drop_channels(x, empty_like(x), key, rate)
    return y


def _relu_drop(x: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    y: Tensor = kernels_for(x).relu_drop(x, empty_like(x), key, rate)
    return y


def _where_positive(dy: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    dx: Tensor = kernels_for(y).where_positive(dy, y, empty_like(y), rate)
    return dx


def _gaussian(x: Tensor, key: AnyKey, deviation: Tensor) -> Tensor:
    y: Tensor = kernels_for(x).gaussian(x, empty_like(x), key, deviation, quantiles(x.device))
    return y


def _logistic(like: Tensor, key: AnyKey) -> Tensor:
    out = torch.empty_like(like, dtype=torch.float32).fill_(1 / _STEEP)
    noise: Tensor = kernels_for(out).gaussian(out, out, key, _DEVIATION, logits(out.device))
    return noise


# The Gaussian kernels compute x * (1 + deviation * number). With deviation 2**60 the one vanishes beside even the
# smallest logit (1.5e-5), and x = 2**-60 takes the power of two away again: what is left is the table's number to the
# bit.
_STEEP = 2.0**60
_DEVIATION = torch.tensor([_STEEP], dtype=torch.float64, device="cpu")


def _logistic_without_autograd(like: Tensor, key: Tensor) -> Tensor:
    with below_autograd():
        noise: Tensor = _OPS.logistic(like, key)
    return noise


def _drop_blocks(x: Tensor, key: AnyKey, rate: Tensor, block: Sizes, shared: bool = False) -> Tensor:
    # Nothing but the reference serves a GPU.
    return cpu.drop_blocks(x, empty_like(x), key, rate, block, shared)


def _block_rate(rate: Tensor, sizes: Sizes, block: Sizes) -> Tensor:
    threshold, bits = rate.tolist()
    return rate_words(seed_rate(Rate(bits, threshold), tuple(sizes), tuple(block)))


def _draw(like: Tensor, after: Tensor | None = None) -> Tensor:
    key = like.clone()
    key[:1].random_(*SEEDS)
    return key


def _draw_under_vmap(like: Tensor, after: Tensor) -> Tensor:
    # `randint` heeds vmap's randomness: "different", "same" or an error.
    return torch.cat([torch.randint(*SEEDS, (1,), dtype=torch.int64, device=like.device), like[1:]])


def _draw_without_autograd(like: Tensor, after: Tensor) -> Tensor:
    with below_autograd():
        key: Tensor = _OPS.draw(like, after)
    return key


# ---------------------------------------------------------------- registration


def _by(function: Any, *first: Any) -> Callable[..., Tensor]:
    """Return the operator with the derivatives of a function, which may take arguments of its own first."""

    def differentiable(*arguments: Any) -> Tensor:
        with single_level():
            result: Tensor = function.apply(*first, *arguments)
        return result

    return differentiable


def _register(
    name: str,
    compute: Callable[..., Tensor],
    derivative: Callable[..., Tensor],
    like: int,
    dtype: torch.dtype | None = None,
) -> None:
    """Register an operator whose output has shape, strides and, unless one is given, dtype of argument `like`."""
    for device in _DEVICES:
        _library.impl(name, compute, device)
    _library.impl(name, derivative, AUTOGRAD_KEY)

    def fake(*arguments: Any) -> Tensor:
        return torch.empty_like(arguments[like], dtype=dtype)

    torch.library.register_fake(f"dropkit::{name}", fake, lib=_library)
    torch.library.register_vmap(f"dropkit::{name}", batching.each(getattr(_OPS, name)), lib=_library)


_register("drop", _drop, _by(Linear, _OPS.drop), 0)
_register("drop_channels", _drop_channels, _by(Linear, _OPS.drop_channels), 0)
_register("gaussian", _gaussian, _by(Linear, _OPS.gaussian), 0)
_register("drop_blocks", _drop_blocks, _by(Linear, _OPS.drop_blocks), 0)
_register("relu_drop", _relu_drop, _by(ReluDrop), 0)
_register("where_positive", _where_positive, _by(WherePositive), 1)
_register("logistic", _logistic, _logistic_without_autograd, 0, torch.float32)
_register("draw", _draw, _draw_without_autograd, 0)
_library.impl("draw", _draw_under_vmap, VMAP_RANDOMNESS_KEY)
for _device in _DEVICES:
    _library.impl("block_rate", _block_rate, _device)
torch.library.register_fake("dropkit::block_rate", lambda rate, *_: torch.empty_like(rate), lib=_library)


# ---------------------------------------------------------------- the operators as functions


def draw(like: Tensor, after: Tensor) -> Tensor:
    """Return the key with a fresh 64-bit seed from torch's default CPU generator.

    Whatever governs that generator (`torch.manual_seed`, `torch.random.fork_rng`, activation checkpointing, vmap's
    randomness) governs the key.

    Args:
        like: the key whose site, step and first sample are taken.
        after: what has to be computed before, the activation: a compiler that sees no dependence between the draws of
            two layers changes their order, and with it both masks.
    """
    key: Tensor = _draw(like) if is_eager(after) else _OPS.draw(like, after)
    return key


def fresh_key(after: Tensor) -> Tensor:
    """Return a key with a fresh seed, of no site and step, for the mask of the given activation."""
    key = torch.zeros(4, dtype=torch.int64, device="cpu")
    if not is_eager(after):
        return draw(key, after)
    key[:1].random_(*SEEDS)  # without draw's copy: each operation counts beside a small mask
    return key


def drop(x: Tensor, key: AnyKey, rate: Tensor, scaled: bool = True) -> Tensor:
    """Return x with its units dropped: dimension 0 counts as samples.

    Args:
        x: any shape, floating point or complex.
        key: int64 [4]: seed, site, step, first sample; None draws a fresh one.
        rate: int64 [2]: threshold, bits.
        scaled: multiply what is kept by the inverse of the keep fraction.
    """
    return _call(drop, _drop, _OPS.drop, rate, x, key, rate, scaled)


def drop_channels(x: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    """Return x [N, C, ...] with whole channels dropped and the others scaled."""
    return _call(drop_channels, _drop_channels, _OPS.drop_channels, rate, x, key, rate)


def relu_drop(x: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    """Return max(x, 0) with its units dropped and the others scaled; its output alone is saved for backward."""
    if not is_eager(x):
        y: Tensor = _OPS.relu_drop(x, as_words(key, x), rate)
    elif x.requires_grad and torch.is_grad_enabled():
        y = EagerReluDrop.apply(where_positive, _relu_drop, x, readable(key, x), rate)
    else:
        y = _relu_drop(x, readable(key, x), rate)
    return y


def where_positive(dy: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    """Return dy, scaled, where y is positive and zero elsewhere: the gradient of `relu_drop` from its output y."""
    plain = is_eager(dy) and is_eager(y) and not (dy.requires_grad and torch.is_grad_enabled())
    dx: Tensor = _where_positive(dy, y, rate) if plain else _OPS.where_positive(dy, y, rate)
    return dx


def gaussian(x: Tensor, key: AnyKey, deviation: Tensor) -> Tensor:
    """Return x times normal noise of mean 1 and the given standard deviation (float64 [1])."""
    return _call(gaussian, _gaussian, _OPS.gaussian, SIXTEEN_BITS, x, key, deviation)


def logistic(like: Tensor, key: AnyKey) -> Tensor:
    """Return logistic noise, the logit of a uniform number, for each unit: float32 of like's shape, whatever its type.

    What a relaxed Bernoulli variable is made of. It is a function of the key alone and has no derivative.

    Args:
        like: any shape, of any type: its values do not matter. Dimension 0 counts as samples.
        key: int64 [4]: seed, site, step, first sample; None draws a fresh one.
    """
    plain = is_eager(like)
    noise: Tensor = _logistic(like, readable(key, like)) if plain else _OPS.logistic(like, as_words(key, like))
    return noise


def drop_blocks(x: Tensor, key: AnyKey, rate: Tensor, block: Sizes, shared: bool = False) -> Tensor:
    """Return x [N, C, ...] without blocks of its maps, each sample scaled by its units / its kept units.

    Args:
        x: any number of axes after samples and channels.
        key: int64 [4]: seed, site, step, first sample; None draws a fresh one.
        rate: int64 [2]: threshold, bits of the places where a block begins; see `block_rate`.
        block: its size along each axis.
        shared: one mask for all channels of a sample.
    """
    return _call(drop_blocks, _drop_blocks, _OPS.drop_blocks, rate, x, key, rate, block, shared)


def block_rate(x: Tensor, rate: Tensor, block: Sizes) -> Tensor:
    """Return the rate at which blocks begin in the maps of x [N, C, ...], so that `rate` says how much is dropped.

    Compiled code solves for it when it runs: p stays data.
    """
    sizes = tuple(x.shape[2:])
    words: Tensor = _block_rate(rate, sizes, block) if is_eager(x) else _OPS.block_rate(rate, sizes, block)
    return words


def _call(
    again: Any, compute: Any, operator: Any, rate: Tensor, x: Tensor, key: AnyKey, words: Tensor, *rest: Any
) -> Tensor:
    """Call the operator, or in plain eager mode what it computes; `rate` says how many bits a unit takes."""
    if not is_eager(x):
        y: Tensor = operator(x, as_words(key, x), words, *rest)
    elif not (x.requires_grad and torch.is_grad_enabled()):
        y = compute(x, readable(key, x), words, *rest)
    elif x.is_cuda or saving_is_watched():
        y = EagerLinear.apply(again, compute, x, as_words(key, x), words, *rest)
    else:
        y = DrawnLinear.apply(again, compute, x, Draw.of(key, rate), words, *rest)
    return y


def readable(key: AnyKey, x: Tensor) -> AnyKey:
    """Return the key as the kernels of x's device take it: a GPU's read tensors alone."""
    return as_words(key, x) if x.is_cuda else key


def as_words(key: AnyKey, x: Tensor) -> Tensor:
    """Return the key as a tensor, drawn now for x if there is none."""
    if isinstance(key, Tensor):
        return key
    return fresh_key(x) if key is None else key.key_words()
