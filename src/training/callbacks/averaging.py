"""Averages of the weights over training steps; the exponential one is Lightning's EMAWeightAveraging."""

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class SWA(WeightAveraging):
    """The mean of the weights after every step of the last part of a run; until then, the current weights.

    After Izmailov et al. 2018 (arXiv:1803.05407), who take one sample per epoch. The statistics of BatchNorm are
    averaged like weights. Averaged weights are what is validated, saved and tested, see Lightning's WeightAveraging.

    Args:
        start: fraction of the run's steps after which averaging starts, 0 to less than 1.

    Raises:
        ValueError: ``start`` is out of range.
    """

    def __init__(self, start: float = 0.75) -> None:
        if isinstance(start, bool) or not (isinstance(start, int | float) and 0 <= start < 1):
            raise ValueError(f"average.start is {start!r}; expected a fraction of the run, 0 to less than 1.")
        super().__init__(avg_fn=self._average)
        self.start = start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first = int(self.start * trainer.estimated_stepping_batches)  # steps before the average

    def _average(self, averaged: Tensor, current: Tensor, steps: Tensor) -> Tensor:
        """The next average, after ``steps`` updates, which are counted on the same device: a GPU is not waited for."""
        count = steps - self._first
        return (averaged + (current - averaged) / (count + 1)).where(count > 0, current)
