"""The predictions of a test, collected over its batches and processes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from src.runs.outcomes import Outcomes


class ImageOutcomes(Metric):
    """Predicted class, and probability of the true class, for each image.

    Processes take turns in the order of the images (``ImageDataModule.test_dataloader``); ``compute`` restores it.
    """

    labels: list[Tensor]
    predicted: list[Tensor]
    probabilities: list[Tensor]
    places: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.kind: Any = np.min_scalar_type(num_classes - 1)
        for name in ("labels", "predicted", "probabilities", "places"):
            self.add_state(name, [], "cat")

    def update(self, logits: Tensor, labels: Tensor, rank: int, processes: int) -> None:
        """Add a batch: logits ``[B, num_classes]`` and labels ``[B]``, of process ``rank`` of ``processes``."""
        seen = sum(map(len, self.labels))
        self.places.append(rank + processes * torch.arange(seen, seen + len(labels), device=labels.device))
        self.labels.append(labels)
        self.predicted.append(logits.argmax(dim=1))
        self.probabilities.append(logits.float().softmax(dim=1).gather(1, labels[:, None]).squeeze(1))

    def compute(self) -> Outcomes:
        order = dim_zero_cat(self.places).argsort()
        parts = (self.labels, self.predicted, self.probabilities)
        label, predicted, probability = (dim_zero_cat(part)[order].cpu().numpy() for part in parts)
        return Outcomes(label.astype(self.kind), predicted.astype(self.kind), probability)
