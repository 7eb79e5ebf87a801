"""What TensorBoard shows besides curves: the network's graph and a grid of augmented training images."""

import warnings
from copy import deepcopy

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid

from src.data.datamodule import ImageDataModule


class TensorBoardPage(L.Callback):
    """Write the graph and the images once, when training starts from the beginning.

    Args:
        images: how many training images the grid shows.
    """

    def __init__(self, images: int = 64) -> None:
        self.images = images

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.global_step or not isinstance(data, ImageDataModule):
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("train/augmented_images", self._grid(data))
                example = torch.zeros(1, 3, data.image_size, data.image_size, device=pl_module.device)
                network = deepcopy(pl_module.network)  # the copy of a compiled network is not compiled
                assert isinstance(network, torch.nn.Module)
                with warnings.catch_warnings():  # TensorBoard's graph needs torch.jit.trace, deprecated as it is
                    warnings.simplefilter("ignore")
                    logger.experiment.add_graph(network.eval(), example)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enter the run in the hparams tab: its factors and its final test metrics."""
        factors = {name: str(value) for name, value in pl_module.hparams["config"]["factors"].items()}
        metrics = {name: v for name, v in trainer.callback_metrics.items() if name.startswith("test/")}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(factors, metrics, step=trainer.global_step)

    def _grid(self, data: ImageDataModule) -> Tensor:
        """As the network sees them in the first epoch, but not normalised: uint8 ``[3, H, W]``."""
        images, _, positions = data.train.sample(self.images)
        return make_grid(data.augment(images, positions, epoch=0), nrow=8)
