"""Predictions with their uncertainty, from the disagreement of thinned networks."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.models.trace import cannot_run, refuse_untraceable, set_modes, undisturbed
from dropkit.uncertainty.sampling import Sampler, SamplingWarning, require_logits

_BATCH = 128
_BYTES = 32 << 20  # of the draws of a batch, in float64
_SHOWN = 8


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What n thinned networks say of N pictures. Tensors are on the CPU, in float64, the labels in int64.

    With p_d the probabilities of draw d, and p their mean over draws:

    Attributes:
        probabilities: [N, K], p (Gal and Ghahramani, ICML 2016, sec. 4).
        label: [N], the class whose p is largest.
        entropy: [N], of p: -sum over classes of p log p, in nats. All uncertainty there is.
        expected_entropy: [N], the mean entropy of the p_d: what more knowledge of the weights would not take away.
        mutual_information: [N], entropy - expected_entropy: how much the thinned networks disagree (Gal, "Uncertainty
            in Deep Learning", PhD thesis, 2016, sec. 3.3.1).
        variation_ratio: [N], 1 - the share of draws that vote for the class with most votes (ibid.).
        std: [N], standard deviation over draws of the label's probability, with n - 1 below; 0 for a single draw.
        interval: [N, 2], equal-tailed interval of the label's probability over draws: its quantiles (1 - level) / 2 and
            (1 + level) / 2, interpolated linearly.
        n: draws; 0 for the plain pass.
        level: of the interval.
    """

    probabilities: Tensor
    label: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    variation_ratio: Tensor
    std: Tensor
    interval: Tensor
    n: int
    level: float = 0.95

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.label)

    def __getitem__(self, which: Any) -> "Prediction":
        """Return the predictions of some pictures: an index, a slice, a mask or a tensor of indices."""
        rows = torch.arange(len(self))[which].reshape(-1)
        return _with_tensors(self, lambda name: getattr(self, name)[rows])

    def __repr__(self) -> str:
        """Return the sizes."""
        return f"Prediction(pictures={len(self)}, classes={self.probabilities.shape[1]}, n={self.n})"

    def __str__(self) -> str:
        """Return a table of the first pictures."""
        lines = [repr(self), f"label  probability [{100 * self.level:g} %]     entropy  mutual information"]
        for row in range(min(len(self), _SHOWN)):
            label, (low, high) = int(self.label[row]), self.interval[row].tolist()
            total, between = float(self.entropy[row]), float(self.mutual_information[row])
            top = float(self.probabilities[row, label])
            lines.append(f"{label:5}  {top:.3f} [{low:.3f}, {high:.3f}]  {total:7.3f}  {between:18.3f}")
        return "\n".join([*lines, "..."] if len(self) > _SHOWN else lines)


def predict(
    model: nn.Module,
    x: Tensor,
    n: int = 50,
    seed: int = 0,
    *,
    first_sample: int = 0,
    batch_size: int | None = None,
    level: float = 0.95,
    temperature: float = 1.0,
) -> Prediction:
    """Return the predictions of n thinned networks, averaged, with how much they disagree.

    Monte-Carlo dropout (Gal and Ghahramani, ICML 2016): see `dropkit.sample` for what is drawn, and `Prediction` for
    what comes out. The network's modes do not matter and nothing of it is changed. x may lie in the processor's memory
    while the network is on another device: it goes there batch by batch, so that memory is bounded.

    Args:
        model: a network that maps [N, ...] to logits [N, classes].
        x: pictures [N, ...], ready for the network; of none, N = 0, there are no predictions, whatever K is.
        n: how many thinned networks; 0 is the plain pass in eval mode, without any disagreement.
        seed: of the masks; an integer from 0 to 2**64 - 1.
        first_sample: the number of the first picture, where x is a part of a larger set.
        batch_size: pictures that are computed at once, at most; it changes no mask. By default 128, fewer where the
            draws' logits would take more than 32 MiB.
        level: of the interval.
        temperature: T, by which the logits of every draw are divided; see `fit_temperature`.

    Raises:
        DropkitError: as `sample`; if x is no batch, the network cannot run on it, or an argument is out of range.

    >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2))
    >>> found = predict(net, torch.ones(7, 3), n=20)
    >>> found
    Prediction(pictures=7, classes=2, n=20)
    >>> found.probabilities.sum(1).allclose(torch.ones(7, dtype=torch.float64))
    True
    >>> surest_first = found[found.entropy.argsort()]
    """
    refuse_untraceable(model)
    _require(model, x, n, batch_size, level, temperature)
    device = next((parameter.device for parameter in model.parameters()), x.device)
    size = batch_size or (_batch_size(model, x[:1].to(device), n) if n else _BATCH)
    sampler = Sampler(model, n, seed) if n else None
    parts = []
    for start in range(0, max(1, len(x)), size):
        part = x[start : start + size].to(device)
        logits = _plain(model, part).unsqueeze(0) if sampler is None else sampler(part, first_sample + start)
        for words in [] if sampler is None else sampler.news():
            warnings.warn(words, SamplingWarning, stacklevel=2)
        parts.append(statistics(_of_classes(logits).cpu().double() / temperature, level, n))
    return _with_tensors(parts[0], lambda name: torch.cat([getattr(part, name) for part in parts]))


def statistics(logits: Tensor, level: float = 0.95, n: int | None = None) -> Prediction:
    """Return what draws say of their pictures.

    Args:
        logits: draws [n, N, K].
        level: of the interval.
        n: how many draws the prediction is said to have, if not as many as there are: 0 for a plain pass.

    >>> statistics(torch.zeros(5, 3, 2)).entropy[0].item() == math.log(2)
    True
    """
    each = logits.double().softmax(-1)
    mean = each.mean(0)
    label = mean.argmax(-1)
    entropy, expected = _entropy(mean), _entropy(each).mean(0)
    top = each.gather(-1, label.expand(len(each), -1).unsqueeze(-1)).squeeze(-1)
    votes = torch.zeros_like(mean).scatter_add_(1, each.argmax(-1).T, torch.ones_like(top).T)
    return Prediction(
        probabilities=mean,
        label=label,
        entropy=entropy,
        expected_entropy=expected,
        mutual_information=(entropy - expected).clamp_min(0),
        variation_ratio=1 - votes.amax(1) / len(each),
        std=top.std(0) if len(each) > 1 and len(mean) else torch.zeros_like(top[0]),
        interval=_interval(top, level),
        n=len(each) if n is None else n,
        level=level,
    )


def _interval(top: Tensor, level: float) -> Tensor:
    """Return the interval [N, 2] of draws [n, N]."""
    if not top.numel():  # of no pictures torch has no quantiles
        return top.new_zeros(top.shape[1], 2)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    return top.quantile(tails, dim=0).T.contiguous()


def _with_tensors(prediction: Prediction, of: Callable[[str], Tensor]) -> Prediction:
    """Return a prediction with other tensors, made from their names."""
    changes: dict[str, Any] = {field.name: of(field.name) for field in fields(Prediction) if field.type is Tensor}
    return replace(prediction, **changes)


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(-1)
    return entropy


def _plain(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits of the plain pass, and leave the network as it was."""
    with undisturbed(model), torch.no_grad():
        set_modes(model, False)
        try:
            output = model(x.clone())  # which it may write into
        except Exception as mistake:  # whatever the network's own code raises
            raise cannot_run(model, x, mistake) from mistake
        return require_logits(output, x)


def _batch_size(model: nn.Module, one: Tensor, n: int) -> int:
    classes = _of_classes(_plain(model, one).unsqueeze(0)).shape[2]
    return max(1, min(_BATCH, _BYTES // (8 * n * classes)))


def _of_classes(logits: Tensor) -> Tensor:
    if logits.dim() != 3 or logits.shape[2] < 2:
        raise DropkitError(
            f"predict takes a network that returns logits [N, K] of K >= 2 classes, but it returned "
            f"{list(logits.shape[1:])}: `dropkit.sample` draws from networks of other kinds"
        )
    return logits


def _require(model: nn.Module, x: Any, n: Any, batch_size: Any, level: Any, temperature: Any) -> None:
    if not isinstance(x, Tensor) or x.dim() < 2:
        given = f"a tensor {list(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise DropkitError(f"predict takes pictures as a tensor [N, ...], but got {given}")
    for name, value, least in (("n", n, 0), ("batch_size", 1 if batch_size is None else batch_size, 1)):
        try:
            good = not isinstance(value, bool) and index(value) >= least
        except TypeError:
            good = False
        if not good:
            raise DropkitError(f"predict takes as {name} a whole number of {least} or more, but got {value!r}")
    if not _lies_between(0, level, 1):
        raise DropkitError(f"predict takes a level between 0 and 1, such as 0.95, but got {level!r}")
    if not _lies_between(0, temperature, math.inf):
        raise DropkitError(f"predict takes a positive temperature, 1 changing nothing, but got {temperature!r}")


def _lies_between(low: float, value: Any, high: float) -> bool:
    try:
        return bool(low < value < high)
    except (TypeError, ValueError, RuntimeError):  # such as a word, or several numbers
        return False
