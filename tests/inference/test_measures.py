"""Each figure against a hand-made example, or another library's word."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from torchmetrics.functional.classification import multiclass_calibration_error

from src.inference import measures


@pytest.fixture(scope="module")
def predictions() -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [500, 4] that are right about two times in three, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (500,), generator=generator)
    logits = 2 * torch.randn(500, 4, generator=generator, dtype=torch.float64)
    logits[torch.arange(500), labels] += 2.5
    return logits.log_softmax(dim=1), labels


def test_scores_of_four_images() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.1, 0.6, 0.3]])
    told = measures.scores(probabilities.log(), torch.tensor([0, 1, 0, 1]))
    assert told["accuracy"] == 0.5 and told["top2_accuracy"] == 0.75
    assert told["nll"] == pytest.approx(-math.log(0.7 * 0.3 * 0.1 * 0.6) / 4)
    # Bins of 1/15: 0.5 and 0.6 alone, both 0.7 together.
    assert told["ece"] == pytest.approx((abs(0 - 0.5) + abs(1 - 0.6) + 2 * abs(0.5 - 0.7)) / 4)


def test_wilson_by_its_formula() -> None:
    z, n, p = 1.959963984540054, 50, 0.9
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]
    assert measures.wilson(45, 50) == pytest.approx(expected)
    assert measures.wilson(50, 50)[1] == 1 and measures.wilson(50, 50)[0] < 0.95


def test_calibration_is_torchmetrics(predictions: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_probabilities, labels = predictions
    expected = multiclass_calibration_error(log_probabilities.exp(), labels, 4, n_bins=measures.BINS)
    assert measures.scores(log_probabilities, labels)["ece"] == pytest.approx(expected.item(), abs=1e-6)


def test_the_reliability_table_accounts_for_every_image(predictions: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_probabilities, labels = predictions
    bins = measures.reliability(log_probabilities, labels)
    assert bins.images.sum() == 500 and (bins.low < bins.confidence).all() and (bins.confidence <= bins.high).all()
    assert (bins.accuracy * bins.images).sum() / 500 == pytest.approx(
        measures.scores(log_probabilities, labels)["accuracy"]
    )


def test_the_gain_of_a_paired_comparison() -> None:
    baseline = torch.tensor([True] * 80 + [False] * 20)
    correct = torch.tensor([False] * 2 + [True] * 78 + [True] * 9 + [False] * 11)
    told = measures.gain(correct, baseline)
    assert (told["won"], told["lost"], told["gain"]) == (9, 2, 0.07)
    tail = sum(math.comb(11, k) for k in range(3)) / 2**11  # of the 11 that changed, as few as 2 against
    assert told["p"] == pytest.approx(2 * tail)
    differences = correct.numpy().astype(float) - baseline.numpy().astype(float)
    expected = bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert told["gain_interval"] == pytest.approx(list(expected.confidence_interval), abs=0.011)
    assert measures.gain(baseline, baseline) == {
        "gain": 0, "gain_interval": [0, 0], "won": 0, "lost": 0, "p": 1
    }  # fmt: skip


def test_classes_one_by_one() -> None:
    predicted, labels = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 1, 0])
    first, second, third = measures.by_class(predicted, labels, ("a", "b", "c"))
    assert first == {"class": "a", "images": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert second["precision"] == pytest.approx(2 / 3) and second["images"] == 3
    assert third == {"class": "c", "images": 0, "precision": 0, "recall": 0, "f1": 0}


def test_the_most_confident_mistakes_come_first() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
    found = measures.confident_mistakes(probabilities.log(), torch.tensor([0, 1, 1, 1]), count=2)
    assert found.tolist() == [2, 3]
