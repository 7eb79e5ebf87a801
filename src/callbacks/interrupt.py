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
        self._previous: Any = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Signals reach the main thread alone; in a thread of a launcher there is nothing to listen to.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._ask)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, stage="")  # Lightning skips it after an error

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
