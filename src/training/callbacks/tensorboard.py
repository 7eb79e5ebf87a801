"""TensorBoard content besides curves: the network's graph, augmented training images, the run's factors."""

import logging
import re
import warnings
from copy import deepcopy
from pathlib import Path

import lightning as L
import torch
from torchvision.utils import make_grid

from src.data.datamodule import ImageDataModule
from src.models.layers import plain_attention
from src.runs.errors import sentence
from src.runs.file_schema import Launch, Launches, parse, read_json
from src.runs.folder import RunFolder
from src.runs.identity import levels, run_of
from src.training.callbacks.propagation import QUANTITIES, PropagationMonitor
from src.training.tensorboard import CHARTS, tensorboards

log = logging.getLogger(__name__)


class TensorBoardPage(L.Callback):
    """Write this content once, when a new run starts, and make the curves of a resumed run continuous.

    Args:
        images: how many training images the grid shows.
    """

    only_watches = True

    def __init__(self, images: int = 64) -> None:
        self.images = images

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger in tensorboards(trainer):
            logger.begin(trainer.global_step)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.global_step or not trainer.is_global_zero or not isinstance(data, ImageDataModule):
            return
        pixels, labels, positions = data.train.sample(self.images)
        mixed, _ = data.mix(data.augment(pixels, positions, epoch=0), labels, positions, epoch=0)
        results = RunFolder(trainer.default_root_dir).results()
        varied = _varied(Path(trainer.default_root_dir))
        signals = {name.replace("_", " "): ["Multiline", [f"^signal_{name}/"]] for name in QUANTITIES}
        watched = any(isinstance(callback, PropagationMonitor) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        for logger in tensorboards(trainer):
            logger.log_factors(levels(run_of(results)), varied)
            logger.experiment.add_custom_scalars(CHARTS | ({"signal, a line per layer": signals} if watched else {}))
            text = f"{self.images} training images as the network sees them in the first epoch, before normalisation."
            logger.log_image("data/augmented_images", make_grid(mixed.to(torch.uint8), nrow=8), 0, text)
            example = next(pl_module.parameters()).new_zeros(1, data.channels, data.image_size, data.image_size)
            network = deepcopy(pl_module.network)  # the copy of a compiled network is not compiled
            assert isinstance(network, torch.nn.Module)
            # TensorBoard's graph needs torch.jit.trace, deprecated as it is.
            with warnings.catch_warnings(), plain_attention():
                warnings.simplefilter("ignore")
                try:
                    logger.experiment.add_graph(network.eval(), example)
                except Exception as error:  # there are networks that cannot be traced
                    log.warning("TensorBoard will show no graph of the network: %s", sentence(error))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger in tensorboards(trainer):
            logger.log_end()


def _varied(run: Path) -> set[str]:
    """Keys, whole and last parts, in which the jobs of the sweep differ; without sweep.json, those of the folder."""
    try:
        launches = [parse(Launch, record) for record in read_json(run.parent / "sweep.json", Launches)["launches"]]
    except (OSError, ValueError):
        return set(re.findall(r"(\w+)=", run.name))
    jobs = [job for launch in launches for job in launch["jobs"].values()]
    settings = [dict(override.lstrip("+").split("=", 1) for override in job if "=" in override) for job in jobs]
    keys = {key for job in settings for key in job if len({other.get(key) for other in settings}) > 1}
    return keys | {key.rpartition(".")[2] for key in keys}
