"""Ctrl-C and SIGTERM: save, then stop."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L

from src.callbacks.checkpoints import resumable_after

log = logging.getLogger(__name__)

# What asks a run to stop, and how that is told.
SIGNALS = {signal.SIGINT: "interrupted by the user", signal.SIGTERM: "terminated (SIGTERM)"}


class Interrupted(Exception):
    """The run was asked to stop, and what it had done is saved.

    Args:
        number: the signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALS[signal.Signals(number)])
        self.number = number


class InterruptCheckpoint(L.Callback):
    """On the first of the ``SIGNALS``, finish the batch at hand, save a checkpoint and raise ``Interrupted``.

    A second Ctrl-C stops at once; the checkpoint of the last epoch remains.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.asked: int | None = None  # the signal's number

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not before: from here on, Lightning puts the former handler back, whatever happens.
        # Signals reach the main thread alone; in a thread of a launcher there is nothing to listen to.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._ask)

    on_test_start = on_train_start

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        log.warning("%s: stopping after this batch (Ctrl-C stops at once).", name)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.asked and resumable_after(trainer, batch_idx):
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted(self.asked)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Asked during the last batch or the validation: the epoch's own checkpoint has just been written.
        if self.asked:
            raise Interrupted(self.asked)

    def on_test_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.asked:
            raise Interrupted(self.asked)
