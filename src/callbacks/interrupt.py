"""Ctrl-C: save, then stop."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The user asked the run to stop; what it had done is saved."""


class InterruptCheckpoint(L.Callback):
    """On the first Ctrl-C, finish the batch at hand, save a checkpoint and raise ``Interrupted``.

    A second Ctrl-C stops at once; the checkpoint of the last epoch remains.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.asked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not before: from here on, Lightning puts the former handler back, whatever happens.
        # Signals reach the main thread alone; in a thread of a launcher there is nothing to listen to.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._ask)

    on_test_start = on_train_start

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        log.warning("Ctrl-C: stopping after this batch (press it again to stop at once).")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Gradients that wait for further batches before the optimiser steps are in no checkpoint.
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.asked and stepped and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Asked during the last batch or the validation: the epoch's own checkpoint has just been written.
        if self.asked:
            raise Interrupted

    def on_test_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.asked:
            raise Interrupted
