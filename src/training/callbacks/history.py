"""metrics.csv, with one row per epoch, and the log's lines on the start and on each epoch."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L

from src.runs.folder import write_whole
from src.training.classifier import Classifier

log = logging.getLogger(__name__)


class History(L.Callback):
    """Save every epoch's metrics in the run folder and in the checkpoint.

    After every epoch the file is rewritten atomically from the rows, which are also in the checkpoint. So it never
    contains an epoch twice, nor one that a resumed run has yet to repeat.

    Args:
        file: where to write the rows. Columns: ``epoch`` (from 1), ``step``, ``seconds`` (wall time of this
            epoch, validation included), then every metric by its name.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, float]] = []
        self._elapsed = 0.0  # seconds of an epoch that was interrupted
        self._epoch_start = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "elapsed": time.perf_counter() - self._epoch_start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self._elapsed = state_dict.get("elapsed", 0.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_start = time.perf_counter() - self._elapsed  # used only when resumed within an epoch
        if isinstance(pl_module, Classifier):
            schedule, steps = pl_module.schedule, int(trainer.estimated_stepping_batches)
            log.info("schedule %s over %d steps: %s", type(schedule).__name__, steps, schedule.on_length)
        if trainer.global_step:
            place = (trainer.current_epoch + 1, trainer.max_epochs, trainer.global_step)
            log.info("resumed in epoch %d/%s, after step %d", *place)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        seconds = time.perf_counter() - self._epoch_start
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "seconds": seconds}
        of_one_step = ("train/batch_loss", "optim/lr")  # the last value logged, not one of the epoch
        logged = trainer.callback_metrics.items()
        self.rows.append(row | {name: float(value) for name, value in logged if name not in of_one_step})
        if trainer.is_global_zero:
            columns = list(dict.fromkeys(name for row in self.rows for name in row))
            with write_whole(self.file, newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(self.rows)
        log.info("epoch %d/%s  %s", row["epoch"], trainer.max_epochs, self._line())

    def _line(self) -> str:
        """The latest row in words."""
        row = self.rows[-1]
        words = []
        for stage in ("train", "val"):
            if f"{stage}/loss" in row:
                words.append(f"{stage} loss {row[f'{stage}/loss']:.4f} accuracy {row[f'{stage}/accuracy']:.2%}")
        if "speed/images_per_second" in row:
            words.append(f"{row['speed/images_per_second']:.0f} images/s")
        return "  ".join(words)
