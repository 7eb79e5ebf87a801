"""Inference on any device, with one or several views of each image."""

import time
from collections.abc import Sequence

import torch
from lightning import Fabric
from omegaconf import DictConfig
from torch import Tensor

from src.augment.test_time import View
from src.inference.load import Trained
from src.training.build import check_trainer


class Inference:
    """Logits of batches of images.

    Args:
        trained: the network; it is moved to the device.
        cfg: its ``trainer`` sets device and precision; null is the precision of training.

    Attributes:
        seconds: time for each view of the latest batch; the first includes the preparation.

    Raises:
        ValueError: the device does not exist, or there are several.
    """

    def __init__(self, trained: Trained, cfg: DictConfig) -> None:
        check_trainer(cfg)
        torch.set_float32_matmul_precision("high")  # as in training
        fabric = Fabric(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            precision=cfg.trainer.precision or trained.config.trainer.precision,
        )
        if fabric.world_size > 1:
            raise ValueError(f"trainer.devices is {cfg.trainer.devices}; a network is used on one device.")
        channels_last = trained.config.get("channels_last", False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = fabric.setup_module(trained.network.to(memory_format=self.memory_format))
        self.preprocess = trained.preprocess.to(fabric.device)
        self.device = fabric.device
        self.seconds: list[float] = []

    @torch.inference_mode()
    def __call__(self, images: Tensor, views: Sequence[View]) -> Tensor:
        """Compute the logits of a batch.

        Args:
            images: uint8 ``[B, 3, S, S]``.
            views: the ``V`` views of each image.

        Returns:
            float32 logits ``[V, B, classes]`` on the CPU.
        """
        logits, self.seconds = [], []
        start = time.perf_counter()
        images = self.preprocess(images.to(self.device, non_blocking=True))
        for view in views:
            seen = view(images).contiguous(memory_format=self.memory_format)
            logits.append(self.network(seen).float().cpu())  # waits for the device
            now = time.perf_counter()
            self.seconds.append(now - start)
            start = now
        return finite(torch.stack(logits))


def finite(logits: Tensor) -> Tensor:
    """``logits``, if all are finite.

    Raises:
        ValueError: a logit is infinite or NaN.
    """
    if not logits.isfinite().all():
        raise ValueError(
            "The network's output is infinite or NaN, which says nothing of an image: its weights are damaged or "
            "diverged, or too large for the precision; try trainer.precision=32-true."
        )
    return logits
