"""Sampling thinned networks: many passes that share all that dropout does not change."""

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.masks import key_words
from dropkit.models.site_search import unwrapped
from dropkit.models.trace import cannot_run, refuse_untraceable
from dropkit.uncertainty.calls import Calls, training_calls
from dropkit.uncertainty.causes import left_off, nothing_drops
from dropkit.uncertainty.chunks import draws_at_a_time
from dropkit.uncertainty.thinning import Thinning

_RANDOM = "randomness"  # what torch.vmap's message says when something draws random numbers

_REASON = 200  # letters of why draws are computed one after the other


class SamplingWarning(UserWarning):
    """Not all of a network's dropout is sampled, or it takes longer than it might."""


def sample(
    model: nn.Module, x: Tensor, n: int = 50, seed: int = 0, chunk: int | None = None, *, first_sample: int = 0
) -> Tensor:
    """Return the logits of n thinned networks: n draws of all of a network's dropout masks, all else in eval mode.

    Monte-Carlo dropout (Gal and Ghahramani, ICML 2016, sec. 4). Dropout counts whoever wrote it: dropkit's layers,
    torch.nn's, torchvision's and timm's, and functional dropout. Batch-norm stays in eval mode. The draws are an axis
    that enters the masks' keys alone (torch.vmap), so what comes before the first active dropout is computed once for
    a chunk of draws, not once for each. The masks are keyed: sample i of picture j is the same for any n, chunk and
    batch. Neither the network nor torch's generator is changed, also when an exception ends the call.

    Dropout within attention and between recurrent layers, of classes that cannot be keyed, and what only training mode
    comes to (`if self.training:`) stay off, and a `SamplingWarning` names them: to find them, the network runs once in
    training mode, on one picture. So do, without a word, what is told not to drop in training either, and the dropout
    of a frozen network under a head (`dropkit train --pretrained`). Where dropout is to change a tensor in place, the
    network reads what is dropped from then on; but a view of the tensor that was made before stays whole.

    A network that cannot be computed for many draws at once (in-place sums with what is dropped, `.item()`, code that
    depends on data) is run once for each draw, with the same masks; a warning says why.

    Args:
        model: a network that maps [N, ...] to logits [N, classes], on any device.
        x: a batch of its input.
        n: how many thinned networks.
        seed: of the masks; an integer from 0 to 2**64 - 1.
        chunk: draws that are computed at once; by default as many as keep what they compute within a processor's cache,
            or a graphics processor's memory.
        first_sample: the number of the first picture of the batch, where it is a part of a larger set.

    Returns:
        Logits [n, N, classes].

    Raises:
        DropkitError: if nothing is dropped (the message names the cause), or an argument is out of range.

    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2))
    >>> logits = sample(net, torch.ones(7, 3), n=20)
    >>> logits.shape, bool((logits[0] == logits[1]).all())
    (torch.Size([20, 7, 2]), False)
    """
    sampler = Sampler(model, n, seed, chunk)
    logits = sampler(x, first_sample)
    for words in sampler.news():
        warnings.warn(words, SamplingWarning, stacklevel=2)
    return logits


class Sampler:
    """Samples a network's thinned networks batch by batch. What stays off is looked for on the first batch alone.

    Args:
        model: a network that maps [N, ...] to logits [N, classes].
        n: how many thinned networks.
        seed: of the masks.
        chunk: draws that are computed at once; chosen by the first batch if not given.

    Raises:
        DropkitError: if the network is none that can be followed, or an argument is out of range.
    """

    def __init__(self, model: nn.Module, n: int, seed: int = 0, chunk: int | None = None) -> None:
        self.model = unwrapped(model)
        refuse_untraceable(self.model)
        _require("n", n, 1)
        _require("chunk", 1 if chunk is None else chunk, 1)
        _require("seed", seed, 0, 1 << 64)
        self.n, self.seed, self.chunk = n, seed, chunk
        self._calls: Calls | None = None
        self._slow = ""  # why the draws are computed one after the other
        self._said: dict[str, bool] = {}  # what there is to say, and whether it has been

    def __call__(self, x: Tensor, first_sample: int = 0) -> Tensor:
        """Return the logits [n, N, classes] of a batch, whose first picture has the number that is given.

        Raises:
            DropkitError: if nothing is dropped, or the batch is none.
        """
        _require_batch(x)
        _require("first_sample", first_sample, 0, 1 << 63)
        calls = self._calls = training_calls(self.model, x) if self._calls is None else self._calls
        if self.chunk is None:
            self.chunk = draws_at_a_time(self.model, x, self.n)
        keys = torch.stack([key_words(index(self.seed), 0, draw, index(first_sample)) for draw in range(self.n)])
        with Thinning(self.model, calls.idle) as thinned, torch.no_grad(), _without_torchs_advice():
            run = _Runner(thinned, x, self._slow)
            logits = torch.cat([run(part) for part in keys.split(index(self.chunk))])
        if not thinned.fired:
            raise nothing_drops(self.model, calls)
        self._slow = run.slow
        for words in [self._slow, *left_off(thinned, calls)]:
            self._said.setdefault(words, not words)
        return logits

    def news(self) -> list[str]:
        """Return what there is to say that has not been returned yet: which dropout stays off, and why it is slow."""
        news = [words for words, said in self._said.items() if not said]
        self._said.update(dict.fromkeys(news, True))
        return news


@contextmanager
def _without_torchs_advice() -> Iterator[None]:
    """Silence what torch says, to those who write its operators, of operators that it computes draw by draw."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


class _Runner:
    """Runs a thinned network for several draws: at once, or one after the other where it must be.

    Args:
        thinned: the network.
        x: a batch of its input.
        slow: why the draws have to be computed one after the other; "" where that is not known to be so.
    """

    def __init__(self, thinned: Thinning, x: Tensor, slow: str) -> None:
        self.thinned = thinned
        self.x = x
        self.slow = slow

    def __call__(self, keys: Tensor) -> Tensor:
        if not self.slow and len(keys) > 1:
            try:
                found: Tensor = torch.vmap(self._one, randomness="error")(keys)
            except DropkitError:
                raise
            except Exception as error:  # whatever the network's code does that torch.vmap cannot follow
                self._fall_back(error)
            else:
                return found
        return torch.stack([self._alone(key) for key in keys])

    def _one(self, key: Tensor) -> Tensor:
        # A copy: a network may write into its input.
        return require_logits(self.thinned.forward(self.x.clone(), key), self.x)

    def _alone(self, key: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):  # other random numbers, if there are any, are those of the draw
            torch.manual_seed(int(key[0]) ^ int(key[2]))
            return self._one(key)

    def _fall_back(self, error: Exception) -> None:
        try:
            self._alone(key_words(0, 0, 0, 0))
        except DropkitError:
            raise
        except Exception as mistake:  # it has nothing to do with many draws at once
            raise cannot_run(self.thinned.model, self.x, mistake) from mistake
        reason = textwrap.shorten(str(error), _REASON, placeholder=" ...") or type(error).__name__
        if _RANDOM in reason:
            reason = "something else than dropout draws random numbers in eval mode"
        self.slow = f"the thinned networks are computed one after the other, which takes longer: {reason}"


def require_logits(output: Any, x: Tensor) -> Tensor:
    """Return what a network returned for a batch x, if it is one tensor with a row a picture."""
    if isinstance(output, Tensor) and output.dim() >= 1 and output.shape[0] == x.shape[0]:
        return output
    shown = f"a tensor {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise DropkitError(
        f"the network has to map a batch of {x.shape[0]} to logits [{x.shape[0]}, classes], but it returned "
        f"{shown}: wrap it in a module that returns the logits alone"
    )


def _require_batch(x: Any) -> None:
    """Refuse what is no batch."""
    if not isinstance(x, Tensor):
        raise DropkitError(
            f"sample takes a batch as a tensor [N, ...], but got a {type(x).__name__}: torch.as_tensor makes one of "
            "numbers"
        )
    if not x.dim():
        raise DropkitError("sample takes a batch [N, ...], but got a tensor without dimensions")


def _require(name: str, value: Any, low: int, limit: int | None = None) -> None:
    """Refuse what is no whole number from low to below the limit."""
    try:
        good = not isinstance(value, bool) and index(value) >= low and (limit is None or index(value) < limit)
    except TypeError:
        good = False
    if not good:
        most = "" if limit is None else f", below 2**{limit.bit_length() - 1}"
        raise DropkitError(f"sample takes as {name} a whole number of {low} or more{most}, but got {value!r}")
