"""best.ckpt, last.ckpt and previous.ckpt."""

import io
import math
import shutil
import time
from pathlib import Path
from pickle import PickleError
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from src.runs.folder import RunFolder, signed, write_whole


class CheckpointFiles(TorchCheckpointIO):
    """Write checkpoints atomically, and keep the former last.ckpt as previous.ckpt.

    Lightning's own writer does not flush to the disk. It leaves unfinished files in the system's temporary folder,
    and moving a file from there may be a copy, which is not atomic.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path, "wb", keep=self.folder.previous if path == self.folder.last else None) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch reports a file position, not the cause
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    @rank_zero_only
    def save_best_as_last(self) -> None:
        """Copy best.ckpt to last.ckpt, which is quicker than saving the same content again."""
        folder = self.folder
        with folder.best.open("rb") as best, write_whole(folder.last, "wb", keep=folder.previous) as last:
            shutil.copyfileobj(best, last)


def resumable_after(trainer: L.Trainer) -> bool:
    """Whether a checkpoint can be saved after this training batch.

    Checkpoints do not contain accumulated gradients, and the last batch is followed by the epoch's own checkpoint.
    Distributed processes must agree, which synchronises GPUs, so there it is true only now and then.
    """
    every = 1 if trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu" else trainer.log_every_n_steps  # type: ignore[attr-defined]
    batches = trainer.fit_loop.batch_idx + 1
    return batches % math.lcm(every, trainer.accumulate_grad_batches) == 0 and not trainer.is_last_batch


class Checkpoints(Checkpoint):
    """Save the last epoch, the best epoch, and within long epochs every few minutes.

    Lightning's ModelCheckpoint renews ``last`` only together with a new best, so a resumed run would repeat every
    epoch since then. It also stores absolute paths, so a run folder that was moved would lose its best.

    Args:
        files: writes the files. ``best`` is written first: a run that is killed between the two repeats the epoch
            and writes the same ``best`` again.
        monitor: the setting ``score``: the metric that is highest in the best epoch (the first on a tie); None makes
            the last epoch the best.
        minutes: wall time between checkpoints within an epoch; None saves only at the end of epochs.

    Raises:
        ValueError: ``minutes`` is negative or not a number.
    """

    def __init__(self, files: CheckpointFiles, monitor: str | None, minutes: float | None = None) -> None:
        if minutes is not None and not (isinstance(minutes, int | float) and minutes >= 0):
            raise ValueError(f"checkpoint_minutes is {minutes!r}; expected a number of minutes, or null for never.")
        self.files = files
        self.monitor = monitor
        self.minutes = minutes
        self.highest: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"highest": self.highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.highest = state_dict["highest"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check that the state of each callback can be read back: a checkpoint that is read may run no code.

        Raises:
            ValueError: one cannot.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            stored = io.BytesIO()
            try:
                torch.save(callback.state_dict(), stored)
                stored.seek(0)
                torch.load(stored, weights_only=True, map_location="cpu")
            except (PickleError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"The state of the callback {type(callback).__name__} cannot be read back from a checkpoint: its "
                    "state_dict must be of tensors, numbers, texts, lists and mappings of these."
                ) from error
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.minutes is None or not resumable_after(trainer):
            return
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # all processes save together
            trainer.save_checkpoint(self.files.folder.last)
            self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        score = signed(metrics, self.monitor) if self.monitor else None
        assert score is not None or self.monitor is None  # see ``check_score``
        if score is None or self.highest is None or score > self.highest:
            self.highest = score
            trainer.save_checkpoint(self.files.folder.best)
            self.files.save_best_as_last()
        else:
            trainer.save_checkpoint(self.files.folder.last)
        self._saved = time.monotonic()

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for file in (self.files.folder.previous, *self.files.folder.checkpoints.glob("*.damaged")):
            file.unlink(missing_ok=True)
