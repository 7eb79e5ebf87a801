"""best.ckpt, last.ckpt and previous.ckpt."""

import io
import math
import re
import shutil
import time
from pathlib import Path
from pickle import PickleError
from typing import IO, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

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
        with write_whole(path, "w+b", keep=self.folder.previous if path == self.folder.last else None) as file:
            _write(checkpoint, file, "a part of this run")

    @rank_zero_only
    def save_best_as_last(self) -> None:
        """Copy best.ckpt to last.ckpt, which is quicker than saving the same content again."""
        folder = self.folder
        with folder.best.open("rb") as best, write_whole(folder.last, "wb", keep=folder.previous) as last:
            shutil.copyfileobj(best, last)


def _write(state: Any, file: IO[bytes], part: str) -> None:
    """Write a state as torch does, and check that it can be read back: a checkpoint that is read may run no code.

    Raises:
        ValueError: it cannot; ``part`` says whose state it is.
        OSError: it cannot be written.
    """
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True, map_location="meta")  # without the values of its tensors
    except RuntimeError as error:  # torch reports a file position, not the cause
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None
    except (PickleError, TypeError, AttributeError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"The state of {part} cannot be read back from a checkpoint: its state_dict must be of tensors, numbers, "
            f"texts, lists and mappings of these{f', and has {found[1]}' if found else ''}."
        ) from error


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
        if minutes is not None and not (type(minutes) in (int, float) and minutes >= 0):
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
        """Check that the states of the run's parts can be read back, as far as they have one before the first step.

        Raises:
            ValueError: one cannot.
        """
        extra = {name: state for name, state in pl_module.state_dict().items() if not isinstance(state, Tensor)}
        if own := [name for name in extra if name.startswith("network.")]:
            raise ValueError(f"{own[0]} is no tensor: keep what the network's get_extra_state returns in a buffer.")
        _write(extra, io.BytesIO(), "the loss or a metric")
        kinds: dict[str, list[Any]] = {"callback": trainer.callbacks, "optimiser": trainer.optimizers}  # type: ignore[attr-defined]
        for kind, parts in kinds.items():
            for part in parts:
                _write(part.state_dict(), io.BytesIO(), f"the {kind} {type(part).__name__}")
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.minutes is None or not resumable_after(trainer):
            return
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # all processes save together
            trainer.save_checkpoint(self.files.folder.last)
            self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
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
