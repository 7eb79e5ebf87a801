"""What a run would cost, from a few of its steps (``plan=true``)."""

from copy import deepcopy
from statistics import median
from time import perf_counter
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, open_dict

from src.runs.folder import RunFolder
from src.runs.provenance import peak_memory
from src.training.build import build_classifier, build_data, build_trainer, quiet_lightning

_STEPS = 12  # the first half warms up


class _Clock(L.Callback):
    """The seconds that a step of training, and a batch of validation, take."""

    def __init__(self) -> None:
        self.steps: list[float] = []  # when each ended
        self.validation: list[float] = []  # when it began, then when each batch ended

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        self.steps.append(self._now(trainer))

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.validation = [self._now(trainer)]

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        self.validation.append(self._now(trainer))

    def _now(self, trainer: L.Trainer) -> float:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter()

    def seconds(self) -> tuple[float, float]:
        """Of a step, the median of the later half, and of a batch of validation, the mean."""
        spans = [end - start for start, end in zip(self.steps, self.steps[1:], strict=False)]
        batches = len(self.validation) - 1
        evaluating = (self.validation[-1] - self.validation[0]) / batches if batches > 0 else 0.0
        return median(spans[len(spans) // 2 :]) if spans else 0.0, evaluating


@quiet_lightning()
def probe(cfg: DictConfig, folder: RunFolder) -> dict[str, float]:
    """Train a few steps of a run, in one process, and record nothing.

    Args:
        folder: is left with a checkpoint.

    Returns:
        ``seconds`` of the whole run, ``training`` (those of its epochs, validation included), ``memory`` (bytes, the
        most that this process, or the GPU, has held) and ``disk`` (bytes of the run's checkpoints).
    """
    begin, clock = perf_counter(), _Clock()
    data = build_data(cfg)
    few = deepcopy(cfg)
    with open_dict(few):
        batches = max(_STEPS, 2 * cfg.trainer.get("accumulate_grad_batches", 1))
        few.trainer.update(max_epochs=1, limit_train_batches=batches, limit_val_batches=_STEPS // 2, devices=1)
    nothing_kept = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = build_trainer(few, callbacks=[clock], default_root_dir=folder.path, **nothing_kept)
    prepared = perf_counter() - begin
    trainer.fit(build_classifier(few, data), datamodule=data)
    trainer.save_checkpoint(folder.path / "probe.ckpt")
    step, evaluation = clock.seconds()
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    batches = {stage: _limited(len(each), cfg.trainer.get(f"limit_{stage}_batches")) for stage, each in loaders.items()}
    training = cfg.trainer.max_epochs * (batches["train"] * step + batches["val"] * evaluation)
    device = trainer.strategy.root_device
    return {
        "seconds": prepared + training + batches["test"] * evaluation * cfg.test,
        "training": training,
        "memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory(),
        "disk": 2 * (folder.path / "probe.ckpt").stat().st_size,  # best and last
    }


def _limited(batches: int, limit: float | None) -> int:
    """The number of batches under a limit of Lightning's: a whole number, or a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
