"""Ctrl-C and SIGTERM: save, then stop."""

import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch

from src.training.callbacks.checkpoints import resumable_after

log = logging.getLogger(__name__)

# The signals that stop a run, and their text in results.json.
STOP_SIGNALS = {signal.SIGINT: "interrupted by the user", signal.SIGTERM: "terminated (SIGTERM)"}
if sys.platform != "win32":  # Slurm's and submitit's, before time runs out
    STOP_SIGNALS |= {number: f"told to stop ({number.name})" for number in (signal.SIGUSR1, signal.SIGUSR2)}


class Interrupted(Exception):
    """The run received a stop signal, and its progress is saved.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)  # pickle builds it again from this, in another process
        self.number = number

    def __str__(self) -> str:
        return STOP_SIGNALS[signal.Signals(self.number)]


class InterruptCheckpoint(L.Callback):
    """On the first of the ``STOP_SIGNALS``, finish the current batch, save a checkpoint and raise ``Interrupted``.

    A second Ctrl-C stops at once; the checkpoint of the last epoch remains.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.received: int | None = None  # a stop signal's number

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not earlier: from here on, Lightning always restores the former handler.
        # Python allows handlers only in the main thread, so none are installed in a launcher's other threads.
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._receive)

    on_test_start = on_train_start

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        again = "again " if number == signal.SIGINT else ""
        log.warning("%s: stopping after this batch; Ctrl-C %sstops at once.", name, again)

    def _received_by_any(self, trainer: L.Trainer) -> int:
        """The stop signal's number, 0 for none. All processes stop together, whichever of them received it."""
        if trainer.world_size == 1:
            return self.received or 0
        device = trainer.strategy.root_device
        return int(trainer.strategy.reduce(torch.tensor(self.received or 0, device=device), reduce_op="max"))

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if resumable_after(trainer) and (number := self._received_by_any(trainer)):
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted(number)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Received during the last batch or the validation: the epoch's own checkpoint has just been written.
        if number := self._received_by_any(trainer):
            raise Interrupted(number)

    def on_test_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.received:
            raise Interrupted(self.received)
