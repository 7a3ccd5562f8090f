"""Whether uncertainty ranks pictures well: mistakes behind right answers, strange pictures behind known ones."""

from typing import Any

import numpy as np

from dropkit.uncertainty.given import Array, probabilities_and_labels, scores


def risk_coverage(probabilities: Any, labels: Any, confidence: Any = None) -> tuple[Array, Array]:
    """Return coverage i / N and risk for i = 1 to N: the error among the i pictures that the network is surest of.

    Pictures of equal confidence count as in a random order of them: the risk is the mean over all orders.

    Args:
        probabilities: [N, K].
        labels: integers [N].
        confidence: [N], larger is surer; by default the top probability. Minus the entropy or the mutual information
            of a `dropkit.Prediction` are others.

    Returns:
        Coverage [N] and risk [N].

    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017, sec. 2.

    Raises:
        DropkitError: if shapes, probabilities or labels do not fit, or a confidence is not finite.

    >>> coverage, risk = risk_coverage([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1])
    >>> coverage.round(2).tolist(), risk.round(2).tolist()
    ([0.33, 0.67, 1.0], [0.0, 0.0, 0.33])
    """
    p, y = probabilities_and_labels(probabilities, labels)
    sure = p.max(axis=1) if confidence is None else scores(confidence, "confidence", len(y))
    wrong = (p.argmax(axis=1) != y).astype(np.float64)
    _, group = np.unique(-sure, return_inverse=True)
    share = np.bincount(group, wrong) / np.bincount(group)  # of mistakes, in each group of equals
    many = np.arange(1, len(y) + 1)
    return many / len(y), np.cumsum(share[np.sort(group)]) / many


def aurc(probabilities: Any, labels: Any, confidence: Any = None) -> float:
    """Return the area under the risk-coverage curve, the mean over i of the risk at coverage i / N: lower is better.

    0 if nothing is wrong. It depends on the error too: with an error e, the perfect ranking has about
    e + (1 - e) ln(1 - e), a random one e. Arguments, source and errors are those of `risk_coverage`.

    >>> round(aurc([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1]), 4)
    0.1111
    """
    return float(risk_coverage(probabilities, labels, confidence)[1].mean())


def auroc(inside: Any, outside: Any) -> float:
    """Return how well a score tells strange pictures from known ones: 1 is perfect, 0.5 is chance.

    It is the probability that a picture from outside has a higher score than one from inside, equal scores counting
    half (Hanley and McNeil, Radiology 143, 1982); computed by scikit-learn.

    Args:
        inside: scores [N] of pictures like those of the training, higher meaning stranger: an entropy, a mutual
            information, minus a top probability.
        outside: scores [M] of pictures of another kind.

    Raises:
        DropkitError: if there is none of a kind, or a score is not finite.

    >>> auroc([0.1, 0.3], [0.3, 0.9])
    0.875
    """
    from sklearn.metrics import roc_auc_score

    known, strange = scores(inside, "scores inside"), scores(outside, "scores outside")
    truth = np.repeat([0, 1], [len(known), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([known, strange])))
