"""Metrics of a network's predictions."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

BINS = 15  # of confidence, as in Guo et al. 2017
RESAMPLES = 10_000


def wilson(correct: int, images: int) -> list[float]:
    """The 95 % Wilson interval of an accuracy: ``[low, high]``, 0 to 1."""
    return [float(bound) for bound in proportion_confint(correct, images, method="wilson")]


def scores(log_probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    """The summary metrics of predictions.

    Args:
        log_probabilities: float ``[N, classes]``.
        labels: int64 ``[N]``.

    Returns:
        ``accuracy`` with its ``accuracy_interval``, ``top2_accuracy``, ``nll`` (mean negative log-likelihood, natural
        logarithm), and ``ece`` (expected calibration error: see ``reliability``); accuracies and ``ece`` 0 to 1.
    """
    correct = log_probabilities.argmax(dim=1) == labels
    second = log_probabilities.topk(2).indices == labels.unsqueeze(1)
    bins = reliability(log_probabilities, labels)
    return {
        "accuracy": correct.double().mean().item(),
        "accuracy_interval": wilson(int(correct.sum()), len(labels)),
        "top2_accuracy": second.any(dim=1).double().mean().item(),
        "nll": -log_probabilities.gather(1, labels.unsqueeze(1)).mean().item(),
        "ece": float((bins.images * (bins.accuracy - bins.confidence).abs()).sum() / len(labels)),
    }


def reliability(log_probabilities: Tensor, labels: Tensor) -> pd.DataFrame:
    """Confidence, the probability of the predicted class, against accuracy.

    The expected calibration error is the mean absolute difference of the two, weighted by images (Guo et al. 2017).

    Returns:
        One row per non-empty bin of ``BINS`` equal bins of confidence: ``low`` and ``high``, ``images``, and
        their mean ``confidence`` and ``accuracy``.
    """
    highest, predicted = log_probabilities.max(dim=1)
    table = pd.DataFrame({"confidence": highest.exp().numpy(), "accuracy": (predicted == labels).double().numpy()})
    place = np.clip(np.ceil(table.confidence * BINS) - 1, 0, BINS - 1)  # a bin includes its upper bound
    bins = table.groupby(place.rename("bin")).agg(
        images=("accuracy", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    bins.insert(0, "low", bins.index / BINS)
    bins.insert(1, "high", (bins.index + 1) / BINS)
    return bins.reset_index(drop=True)


def gain(correct: Tensor, baseline: Tensor) -> dict[str, Any]:
    """The gain in accuracy over a baseline on the same images.

    Args:
        correct, baseline: bool ``[N]``, the images classified correctly now, and by the baseline.

    Returns:
        ``gain`` (of accuracy, -1 to 1), its 95 % percentile bootstrap interval ``gain_interval``, the images ``won``
        and ``lost``, and ``p`` of McNemar's exact test.
    """
    images = len(correct)
    won, lost = int((correct & ~baseline).sum()), int((~correct & baseline).sum())
    # Drawing images with replacement equals drawing the numbers of won, lost and unchanged images.
    shares = np.array([won, lost, images - won - lost]) / images
    drawn = np.random.default_rng(0).multinomial(images, shares, size=RESAMPLES)
    interval = np.percentile((drawn[:, 0] - drawn[:, 1]) / images, [2.5, 97.5])
    return {
        "gain": (won - lost) / images,
        "gain_interval": interval.tolist(),
        "won": won,
        "lost": lost,
        "p": float(mcnemar([[0, won], [lost, 0]], exact=True).pvalue) if won + lost else 1.0,
    }


def by_class(predicted: Tensor, labels: Tensor, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """For each class its ``images``, ``precision``, ``recall`` and ``f1``; 0 if the denominator is 0."""
    measured = precision_recall_fscore_support(
        labels.numpy(), predicted.numpy(), labels=range(len(classes)), zero_division=0
    )
    rows = zip(classes, *(column.tolist() for column in measured), strict=True)
    return [
        {"class": name, "images": images, "precision": precision, "recall": recall, "f1": f1}
        for name, precision, recall, f1, images in rows
    ]


def confident_mistakes(log_probabilities: Tensor, labels: Tensor, count: int) -> Tensor:
    """Indices of at most ``count`` wrongly classified images, int64, the most confident first."""
    highest, predicted = log_probabilities.max(dim=1)
    wrong = torch.nonzero(predicted != labels).squeeze(1)
    return wrong[highest[wrong].argsort(descending=True, stable=True)[:count]]
