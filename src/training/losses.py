"""Losses of ours: logits ``[B, num_classes]`` and labels, int64 ``[B]`` or class probabilities ``[B, num_classes]``
(of mixed images), to a mean over images. torch's CrossEntropyLoss is another one."""

import torch.nn.functional as F
from torch import Tensor, nn


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of each class's sigmoid, summed over classes, mean over images.

    Recipes with mixed images use it (Beyer et al. 2020, arXiv:2006.07159; Wightman et al. 2021, arXiv:2110.00476). The
    sum keeps gradients, and so learning rates, at the scale of cross-entropy; a mean would divide them by num_classes.

    Args:
        label_smoothing: 0 to 1; labels become ``(1 - s) label + s / num_classes``, as in torch's CrossEntropyLoss.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim == 1:
            labels = F.one_hot(labels, logits.shape[1])
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="sum") / len(logits)
