"""A trained network on its test images: the content of eval.json."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn.functional import cross_entropy

from src.augment.corruptions import CORRUPTIONS, SEVERITIES
from src.augment.test_time import View, ViewAverage
from src.data.datamodule import ImageDataModule
from src.data.image_set import Batch
from src.inference import figures, measures
from src.inference.load import Trained, load
from src.inference.network import Inference
from src.runs.escaping import distinct, plural
from src.runs.identity import NO_TTA as PLAIN  # the choice of conf/tta that is the baseline, as in training
from src.runs.provenance import device_name
from src.training.build import build_data, change_data
from src.training.classifier import StageMetrics

log = logging.getLogger(__name__)

MISTAKES = 40


class Pass(NamedTuple):
    """The results of one pass over the test images."""

    log_probabilities: dict[str, Tensor]  # by name of the test-time augmentation, float64 [N, classes]
    labels: Tensor  # int64 [N]
    positions: Tensor  # int64 [N], in the store of test images
    metrics: dict[str, float]  # test/accuracy and test/loss as training computes them; empty without the plain view
    speeds: dict[str, float]  # by name of the test-time augmentation, images per second


class Evaluator:
    """The network of a checkpoint, its test images, and its test-time augmentations.

    Args:
        cfg: see conf/eval.yaml.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, or one that cannot be used with these data or these settings.
    """

    def __init__(self, cfg: DictConfig) -> None:
        if cfg.ckpt is None:
            raise ValueError(
                "Name a checkpoint: python -m src.eval ckpt=RUN, a run folder or a checkpoint; or a sweep, sweep=NAME"
            )
        self.corruptions = _chosen_corruptions(cfg.corruptions)
        chosen = {
            name: ViewAverage.from_config(entries, cfg.tta.average)
            for name, entries in cfg.tta.get("settings", {}).items()
        }
        self.primary = next(iter(chosen), PLAIN)  # its predictions are analysed in detail
        self.settings = {PLAIN: ViewAverage(averaged=cfg.tta.average)} | chosen
        self.trained = load(cfg.ckpt, cfg.trust)
        self.data = _test_data(self.trained, cfg)
        self.limit = cfg.trainer.limit_test_batches
        self.inference = Inference(self.trained, cfg)

    def clean(self) -> tuple[dict[str, Any], dict[str, Figure]]:
        """Evaluate the test images without corruption.

        Returns:
            JSON values, and figures by name.
        """
        classes = self.trained.classes
        log.info("evaluating %s", plural(len(self.data.test), "image"))
        found = self.look("Evaluating", self.settings)
        correct = {name: p.argmax(dim=1) == found.labels for name, p in found.log_probabilities.items()}
        settings = []
        for name, setting in self.settings.items():
            row = {"name": name, "views": len(setting.views), "images_per_second": found.speeds[name]}
            row |= measures.scores(found.log_probabilities[name], found.labels)
            if name != PLAIN:
                row |= measures.gain(correct[name], correct[PLAIN])
            settings.append(row)
        log_probabilities = found.log_probabilities[self.primary]
        predicted = log_probabilities.argmax(dim=1)
        confusion = confusion_matrix(found.labels.numpy(), predicted.numpy(), labels=range(len(classes)))
        bins = measures.reliability(log_probabilities, found.labels)
        ece = next(row["ece"] for row in settings if row["name"] == self.primary)
        mistakes = measures.confident_mistakes(log_probabilities, found.labels, MISTAKES)
        titles = [
            f"{_short(classes[found.labels[i]])}, taken for\n{_short(classes[predicted[i]])} "
            f"({log_probabilities[i, predicted[i]].exp():.0%})"
            for i in mistakes
        ]
        scale = self._scale(len(found.labels))
        results = {
            "images": len(found.labels),
            "classes": list(classes),
            "metrics": found.metrics,
            "device": device_name(self.inference.device),
            "averaged": self.settings[self.primary].averaged,
            "primary": self.primary,
            "tta": settings,
            "by_class": measures.by_class(predicted, found.labels, classes),
            "confusion": confusion.tolist(),
            "reliability": bins.to_dict("records"),
        }
        drawn = {
            "reliability": figures.draw_reliability(bins, ece, scale),
            "confusion": figures.draw_confusion(confusion, classes, scale),
            "mistakes": figures.draw_mistakes(self.data.test.images[found.positions[mistakes]], titles, scale),
        }
        return results, drawn

    def corrupted(self, clean: float) -> tuple[list[dict[str, Any]], Figure]:
        """Evaluate the test images with each chosen corruption, in five severities.

        Args:
            clean: accuracy without corruption, for the figure.

        Returns:
            JSON values for each corruption and severity: ``accuracy`` and its interval; and a figure of them.
        """
        rows = []
        only = {self.primary: self.settings[self.primary]}
        for number, name in enumerate(self.corruptions, start=1):
            log.info("corruption %d/%d: %s in %d severities", number, len(self.corruptions), name, len(SEVERITIES))
            for severity in SEVERITIES:
                harm = partial(CORRUPTIONS[name], severity=severity)
                found = self.look(f"{name}, severity {severity}", only, harm)
                correct = found.log_probabilities[self.primary].argmax(dim=1) == found.labels
                interval = measures.wilson(int(correct.sum()), len(correct))
                row = {"corruption": name, "severity": severity, "accuracy": correct.double().mean().item()}
                rows.append(row | {"accuracy_interval": interval})
        return rows, figures.draw_corruptions(pd.DataFrame(rows), clean, self._scale(len(correct)))

    def look(
        self, title: str, settings: dict[str, ViewAverage], harm: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> Pass:
        """One pass over the test images. A view that several settings share is computed once.

        Args:
            title: of the progress bar.
            settings: some of ``settings``, by name.
            harm: changes images uint8 ``[B, 3, S, S]`` at their positions ``[B]`` before they are seen.
        """
        views = list(dict.fromkeys(view for setting in settings.values() for view in setting.views))
        places = {name: [views.index(view) for view in setting.views] for name, setting in settings.items()}
        metrics = StageMetrics(len(self.trained.classes))
        found: dict[str, list[Tensor]] = {name: [] for name in settings}
        all_labels, all_positions, seconds = [], [], []
        for images, labels, positions in self._batches(title):
            logits = self.inference(harm(images, positions) if harm else images, views)
            if PLAIN in settings:
                plain = logits[views.index(View())]
                metrics.update(cross_entropy(plain, labels), plain, labels)
            for name, setting in settings.items():
                # In float64, so that different logits do not become equal probabilities.
                found[name].append(setting(logits[places[name]].double()))
            all_labels.append(labels)
            all_positions.append(positions)
            seconds.append([each / len(labels) for each in self.inference.seconds])
        measured = ("loss", "accuracy") if PLAIN in settings else ()
        warm = seconds[1:] or seconds  # the first batch includes the device's warm-up
        return Pass(
            log_probabilities={name: torch.cat(parts) for name, parts in found.items()},
            labels=torch.cat(all_labels),
            positions=torch.cat(all_positions),
            metrics={f"test/{name}": getattr(metrics, name).compute().item() for name in measured},
            speeds={name: len(warm) / sum(batch[i] for batch in warm for i in places[name]) for name in settings},
        )

    def _batches(self, title: str) -> Iterator[Batch]:
        loader = self.data.test_dataloader()
        limit = len(loader) if self.limit is None else self.limit
        batches = min(len(loader), math.ceil(limit * len(loader)) if isinstance(limit, float) else limit)
        if batches < 1:
            raise ValueError(
                f"trainer.limit_test_batches is {self.limit}; expected at least one batch, or null for all."
            )
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            yield from progress.track(islice(loader, batches), total=batches, description=title)

    def _scale(self, images: int) -> str:
        return f"{images:,} images, tta={self.primary}"


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _chosen_corruptions(chosen: Any) -> Sequence[str]:
    names = list(CORRUPTIONS) if chosen is True else [] if chosen in (False, None) else chosen
    unknown = [name for name in ([names] if isinstance(names, str) else names) if name not in CORRUPTIONS]
    if unknown or isinstance(names, str):
        raise ValueError(f"corruptions is {chosen}; expected true, false or a list of {', '.join(CORRUPTIONS)}.")
    return list(names)


def _test_data(trained: Trained, cfg: DictConfig) -> ImageDataModule:
    """The test images of the network's own data set, or those of ``cfg.data``."""
    config = trained.config.copy()
    config.aug = {"_target_": "src.augment.Pipeline", "transforms": []}
    # Other images are normalised like the training images; their own training settings are ignored.
    kept = {"mean": config.data.mean, "std": config.data.std, "channels": config.data.get("channels")}
    kept |= {"val_size": 0, "batch_size": 1}
    kept |= dict.fromkeys(("train_size", "train_fraction", "imbalance", "label_noise"))
    if "_target_" in cfg.data:
        config.data = cfg.data
    else:
        change_data(config, {key: value for key, value in cfg.data.items() if value is not None})
    config.data = OmegaConf.merge(config.data, kept)
    if config.data.source._target_ == "src.data.image_folder.ImageFolder":
        config.data.source = OmegaConf.merge(config.data.source, {"test_only": True, "bits": trained.bits})
    data = build_data(config)
    if data.classes != trained.classes:
        raise ValueError(
            f"The checkpoint was trained on the classes {distinct(trained.classes, data.classes)}, but the data have "
            f"{distinct(data.classes, trained.classes)}; evaluate on data with the same classes."
        )
    if data.image_size != trained.image_size:
        raise ValueError(
            f"The data have images of {data.image_size} x {data.image_size} pixels; use images of the size it was "
            f"trained on, with data.image_size={trained.image_size}."
        )
    return data
