"""Losses, by their formulas, and what a config may call one."""

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from src.training.build import build_loss
from src.training.losses import BinaryCrossEntropy

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 2])


def loss_of(target: str, **settings: Any) -> Any:
    former = settings.pop("former", 0.0)
    return build_loss(OmegaConf.create({"label_smoothing": former, "loss": {"_target_": target, **settings}}), 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_bce_is_a_logistic_regression_of_every_class(smoothing: float) -> None:
    # log(1 + e^-x) is the loss of a positive label, log(1 + e^x) that of a negative one.
    targets = one_hot(LABELS, 4) * (1 - smoothing) + smoothing / 4
    expected = (targets * softplus(-LOGITS) + (1 - targets) * softplus(LOGITS)).sum() / 6
    loss = BinaryCrossEntropy(label_smoothing=smoothing)
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("target", ["torch.nn.CrossEntropyLoss", "src.training.losses.BinaryCrossEntropy"])
def test_labels_are_numbers_or_probabilities(target: str) -> None:
    loss = loss_of(target, label_smoothing=0.1)
    numbers, certain = loss(LOGITS, LABELS), loss(LOGITS, one_hot(LABELS, 4).float())
    assert numbers.item() == pytest.approx(certain.item(), rel=1e-6)
    mixed = loss(LOGITS, 0.25 * one_hot(LABELS, 4) + 0.75 * one_hot(LABELS.flip(0), 4))  # both are linear in the label
    assert mixed.item() == pytest.approx((0.25 * numbers + 0.75 * loss(LOGITS, LABELS.flip(0))).item(), rel=1e-6)


def test_a_run_from_before_the_group_has_the_loss_that_it_had() -> None:
    loss = build_loss(OmegaConf.create({"label_smoothing": 0.3}), 4)
    assert torch.equal(loss(LOGITS, LABELS), nn.CrossEntropyLoss(label_smoothing=0.3)(LOGITS, LABELS))
    assert torch.equal(build_loss(OmegaConf.create({}), 4)(LOGITS, LABELS), nn.functional.cross_entropy(LOGITS, LABELS))


class TrainsSomething(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (self.scale * logits).sum()


@pytest.mark.parametrize(
    ("target", "settings", "words"),
    [
        ("torch.nn.BCEWithLogitsLoss", {}, "should take float logits [B, 4] and int64 labels [B]"),
        ("torch.nn.CrossEntropyLoss", {"reduction": "none"}, "to a scalar tensor; it returned tensor"),
        ("torch.nn.CrossEntropyLoss", {"label_smoothing": "some"}, "loss.label_smoothing is 'some'; expected 0 to 1."),
        (
            "torch.nn.MultiMarginLoss",
            {"former": 0.1},
            "label_smoothing is 0.1, which torch.nn.MultiMarginLoss does not get",
        ),
        (f"{__name__}.TrainsSomething", {}, "has parameters, which nothing trains"),
    ],
)
def test_what_is_no_loss_gets_a_sentence(target: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        loss_of(target, **settings)
    assert words in str(error.value) and "\n" not in str(error.value)
