"""Early stopping."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping


class EarlyStopping(LightningEarlyStopping):
    """Lightning's, which also ends a run that was killed after its decision to stop: Lightning's would train one epoch
    more. Arguments are Lightning's.

    Raises:
        ValueError: ``mode`` would end a run because it learns: a loss is to be low, an accuracy high.
    """

    def __init__(self, monitor: str, *, mode: str = "min", **settings: Any) -> None:
        expected = {"loss": "min", "accuracy": "max"}.get(monitor.rpartition("/")[2], mode)
        if mode != expected:
            raise ValueError(f"callbacks.early_stopping.mode is {mode}; expected {expected} for {monitor}.")
        super().__init__(monitor, mode=mode, **settings)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True
