"""Images per second."""

import time
from typing import Any

import lightning as L
from torch import Tensor


class Throughput(L.Callback):
    """Log training images per second, averaged over the epoch so far: ``speed/images_per_second``.
    In distributed training, rank 0's own images are multiplied by the number of processes, which are equally fast.

    Validation time is excluded, so the epoch's last value, which is in metrics.csv, is the speed of training.
    """

    only_watches = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._images, self._start = 0, time.perf_counter()

    on_train_epoch_start = on_train_start

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: list[Tensor], batch_idx: int
    ) -> None:
        self._images += len(batch[1]) * trainer.world_size
        if trainer.is_last_batch or (batch_idx + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rate = self._images / (time.perf_counter() - self._start)
            pl_module.log("speed/images_per_second", rate, prog_bar=True)
