"""best.ckpt and last.ckpt."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class Checkpoints(Checkpoint):
    """Save the last epoch, and the best.

    Lightning's ModelCheckpoint renews its ``last`` only when it also found a new best, so a resumed run would repeat
    every epoch since; and it remembers absolute paths, so a run folder that was moved would forget its best.

    Args:
        best, last: where to save. Files are written beside and moved into place; ``best`` comes first, since a
            run that is killed between the two repeats the epoch and writes the same ``best`` again.
        monitor: the metric that is highest in the best epoch, the first one of equals; None makes the last epoch
            the best.
    """

    def __init__(self, best: Path, last: Path, monitor: str | None) -> None:
        self.best, self.last = best, last
        self.monitor = monitor
        self.highest: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"highest": self.highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.highest = state_dict["highest"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = trainer.callback_metrics[self.monitor].item() if self.monitor else None
        if score is None or self.highest is None or score > self.highest:
            self.highest = score
            trainer.save_checkpoint(self.best)
            unfinished = self.last.with_suffix(".part")
            shutil.copyfile(self.best, unfinished)
            unfinished.replace(self.last)
        else:
            trainer.save_checkpoint(self.last)
