"""best.ckpt, last.ckpt and previous.ckpt."""

import shutil
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from src.runs.folder import RunFolder, write_whole


class CheckpointFiles(TorchCheckpointIO):
    """Write checkpoints whole, and keep the former last.ckpt as previous.ckpt.

    Lightning's own writer leaves it to the system when bytes reach the disk, and unfinished files in the system's
    temporary folder, from where moving them into place may be copying.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path, "wb", keep=self.folder.previous if path == self.folder.last else None) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch complains of a position, and hides why it could not write
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    @rank_zero_only
    def save_best_as_last(self) -> None:
        """What saving last.ckpt would write, copied, which is quicker."""
        with (
            self.folder.best.open("rb") as best,
            write_whole(self.folder.last, "wb", keep=self.folder.previous) as last,
        ):
            shutil.copyfileobj(best, last)


def resumable_after(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a checkpoint can be saved after this training batch.

    Gradients that wait for further batches before the optimiser steps are in no checkpoint; after the last batch comes
    that of the epoch. Processes that train together have to agree, for which GPUs wait, so they ask now and then.
    """
    every = 1 if trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu" else trainer.log_every_n_steps  # type: ignore[attr-defined]
    if (batch_idx + 1) % every:
        return False
    stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return stepped and not trainer.is_last_batch


class Checkpoints(Checkpoint):
    """Save the last epoch, the best, and within long epochs every few minutes.

    Lightning's ModelCheckpoint renews its ``last`` only when it also found a new best, so a resumed run would repeat
    every epoch since; and it remembers absolute paths, so a run folder that was moved would forget its best.

    Args:
        files: where they go. ``best`` is written first, since a run that is killed between the two repeats the epoch
            and writes the same ``best`` again.
        monitor: the metric that is highest in the best epoch, the first one of equals; None makes the last epoch
            the best.
        minutes: save once so much wall time has passed since the last checkpoint; None saves at the end of epochs only.

    Raises:
        ValueError: ``minutes`` is negative or no number.
    """

    def __init__(self, files: CheckpointFiles, monitor: str | None, minutes: float | None = None) -> None:
        if minutes is not None and not (isinstance(minutes, int | float) and minutes >= 0):
            raise ValueError(f"checkpoint_minutes is {minutes!r}; expected a number of minutes, or null for never.")
        self.files = files
        self.monitor = monitor
        self.minutes = minutes
        self.highest: float | None = None
        self._saved = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"highest": self.highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.highest = state_dict["highest"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.minutes is None or not resumable_after(trainer, batch_idx):
            return
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # processes that train together save together
            trainer.save_checkpoint(self.files.folder.last)
            self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = trainer.callback_metrics[self.monitor].item() if self.monitor else None
        if score is None or self.highest is None or score > self.highest:
            self.highest = score
            trainer.save_checkpoint(self.files.folder.best)
            self.files.save_best_as_last()
        else:
            trainer.save_checkpoint(self.files.folder.last)
        self._saved = time.monotonic()

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.files.folder.previous.unlink(missing_ok=True)
