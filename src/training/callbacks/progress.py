"""The progress bar."""

from typing import Any

import lightning as L
import rich
from lightning.pytorch.callbacks import RichProgressBar

from src.training.classifier import Classifier


class ProgressBar(RichProgressBar):
    """Lightning's bar with this epoch's loss and accuracy so far, the last validation accuracy, and images per second.

    The numbers are read every ``log_every_n_steps`` batches, because reading them synchronises a GPU.
    """

    only_watches = True

    def __init__(self) -> None:
        super().__init__(refresh_rate=4)
        if not rich.get_console().is_terminal:  # a log file gets one line per epoch instead
            self.disable()
        self._shown: dict[str, str] = {}

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        description, bar, batches, time, _speed = super().configure_columns(trainer)  # images/s is shown instead
        width = rich.get_console().width
        if width < 113:  # description, batches and metrics take 80 characters; bar and time would make them wrap
            return [description, batches]
        bar.bar_width = min(40, width - 108)
        return [description, bar, batches, time]

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        look = trainer.is_last_batch or trainer.fit_loop.batch_idx % every == 0
        if trainer.training and look and isinstance(pl_module, Classifier):
            loss, accuracy = pl_module.fit_metrics.so_far()
            self._shown = {"loss": f"{loss:.3f}", "train acc": f"{accuracy:.1%}"}
            logged = trainer.progress_bar_metrics
            if "val/accuracy" in logged:
                self._shown["val acc"] = f"{logged['val/accuracy']:.1%}"
            if "speed/images_per_second" in logged:
                self._shown["images/s"] = f"{logged['speed/images_per_second']:.0f}"
        return self._shown if trainer.training else {}
