"""The TensorBoard logger of a run: names, groups and descriptions of its charts.

Elsewhere a metric is named by stage and quantity (``train/loss``), as in metrics.csv. TensorBoard groups by the part
before the slash, so here the quantity comes first, which puts training beside validation.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2 as api
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.scalar import metadata as scalars
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter, summary

# A metric's name in TensorBoard, and the text behind the chart's info icon.
METRICS = {
    "train/loss": ("loss/train", "The loss in training mode, mean over an epoch's augmented images."),
    "train/batch_loss": ("loss/train_batch", "The loss of one training batch."),
    "val/loss": ("loss/val", "Cross-entropy after an epoch, mean over the validation images."),
    "test/loss": ("loss/test", "Cross-entropy of the best epoch's weights, mean over the test images."),
    "train/accuracy": (
        "accuracy/train",
        "Share of an epoch's images got right in training mode, 0 to 1; of mixed images, their main class.",
    ),
    "val/accuracy": ("accuracy/val", "Share of the validation images got right after an epoch, 0 to 1."),
    "test/accuracy": ("accuracy/test", "Share of the test images got right by the best epoch's weights, 0 to 1."),
    "optim/lr": ("optimisation/learning_rate", "Learning rate of the step."),
    "speed/images_per_second": (
        "speed/images_per_second",
        "Training images a second, over the epoch so far, without validation.",
    ),
}
CHARTS: dict[str, Any] = {
    "training and validation": {
        "accuracy": ["Multiline", ["^accuracy/(train|val)$"]],
        "loss": ["Multiline", ["^loss/(train|val)$"]],
    },
    "optimisation": {
        "training loss, batch by batch": ["Multiline", ["^loss/train_batch$"]],
        "learning rate": ["Multiline", ["^optimisation/learning_rate$"]],
    },
}


class TensorBoard(Logger):
    """Write events into the run folder itself.

    TensorBoard names a run by the folder of its events, so without a subfolder the jobs of a sweep are listed by their
    overrides. Lightning's ``epoch`` is left out, because its curve is the same for all runs.

    Args:
        save_dir: the run folder.
    """

    def __init__(self, save_dir: Path | str) -> None:
        super().__init__()
        self.folder = Path(save_dir)
        self._writer: SummaryWriter | None = None

    name = version = None  # the run folder is the name

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer; on ranks other than 0, an object that ignores every call."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    @rank_zero_only
    def begin(self, step: int) -> None:
        """Discard events from ``step`` on: a resumed run starts there."""
        self._writer = SummaryWriter(str(self.folder), purge_step=step)

    def save(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # ---- what is shown ------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            if name != "epoch":
                tag, description = METRICS.get(name, (name, ""))
                self.log_scalar(tag, value, step, description)

    def log_scalar(self, tag: str, value: float, step: int | None, description: str) -> None:
        metadata = scalars.create_summary_metadata(tag, description)
        metadata.data_class = DATA_CLASS_SCALAR
        self._write(summary.scalar(tag, value), step, metadata)

    def log_image(self, tag: str, image: Tensor | np.ndarray, step: int, description: str) -> None:
        """Show an image, uint8 ``[3, H, W]``."""
        metadata = images.create_summary_metadata(tag, description, converted_to_tensor=True)
        metadata.data_class = DATA_CLASS_BLOB_SEQUENCE
        self._write(summary.image(tag, image, dataformats="CHW"), step, metadata)

    def log_figure(self, tag: str, figure: Figure, step: int, description: str) -> None:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        self.log_image(tag, pixels.transpose(2, 0, 1), step, description)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: Lightning would log the whole configuration here. See ``log_factors``."""

    def log_factors(self, factors: Mapping[str, Any], varied: Collection[str]) -> None:
        """Add the run to the hparams tab, with its factors and, once they exist, its final metrics.

        Args:
            factors: numbers are compared as numbers; None leaves its cell empty.
            varied: names of factors that the tab shows first.
        """
        session, experiment = SessionStartInfo(), api.Experiment()
        for name, value in factors.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            kind = api.DATA_TYPE_FLOAT64 if is_number else api.DATA_TYPE_STRING
            experiment.hparam_infos.append(api.HParamInfo(name=name, type=kind, differs=name in varied))
            if is_number:
                session.hparams[name].number_value = value
            elif value is not None:
                session.hparams[name].string_value = str(value)
        for name in ("test/accuracy", "test/loss", "val/accuracy"):
            tag, description = METRICS[name]
            experiment.metric_infos.append(api.MetricInfo(name=api.MetricName(tag=tag), description=description))
        self._write_hparams(hparams.EXPERIMENT_TAG, experiment=experiment)
        self._write_hparams(hparams.SESSION_START_INFO_TAG, session_start_info=session)

    def log_end(self) -> None:
        """Mark the run as finished in the hparams tab."""
        self._write_hparams(hparams.SESSION_END_INFO_TAG, session_end_info=SessionEndInfo(status=api.STATUS_SUCCESS))

    def _write_hparams(self, tag: str, **content: Any) -> None:
        metadata = hparams.create_summary_metadata(HParamsPluginData(**content))
        self._write(Summary(value=[Summary.Value(tag=tag, tensor=hparams.NULL_TENSOR)]), None, metadata)

    @rank_zero_only
    def _write(self, content: Summary, step: int | None, metadata: SummaryMetadata) -> None:
        """Write a summary with its metadata, which SummaryWriter's own methods do not accept."""
        content.value[0].metadata.CopyFrom(metadata)
        self.experiment.file_writer.add_summary(content, step)


def tensorboards(trainer: L.Trainer) -> list[TensorBoard]:
    """The trainer's loggers that write for TensorBoard."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
