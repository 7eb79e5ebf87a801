"""From a composed config to the objects it describes."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import rich
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.callbacks.checkpoints import Checkpoints
from src.callbacks.history import History
from src.callbacks.interrupt import InterruptCheckpoint
from src.callbacks.progress import ProgressBar
from src.classifier import Classifier
from src.data.datamodule import ImageDataModule
from src.runs.folder import RunFolder

# Lightning announces hardware, tips and its own deprecated calls; none of that is about the user's run.
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # batches come from memory
warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero.*")  # no validation set
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # EpochSampler is
warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
warnings.filterwarnings("ignore", message="GPU available but not used.*")  # trainer=cpu

if not sys.stdout.isatty():
    rich.reconfigure(width=200)  # a log file has no right edge to wrap at

CONF = Path(__file__).parent.parent / "conf"


@cache
def known_targets() -> frozenset[str]:
    """Every ``_target_`` that a file of conf/ names: what a config read from a file may instantiate."""
    found = (re.findall(r"_target_:\s*([\w.]+)", file.read_text("utf-8")) for file in CONF.rglob("*.yaml"))
    return frozenset(target for targets in found for target in targets)


def _dubious(node: Any) -> Iterator[Any]:
    """What conf/ does not vouch for: unknown targets, and interpolations, which could yield a target."""
    if isinstance(node, dict):
        if "_target_" in node and str(node["_target_"]) not in known_targets():
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _dubious(child)
    if isinstance(node, str) and "${" in node:
        yield node


def trusted(config: dict[str, Any]) -> DictConfig:
    """A config that came out of a file, once it is sure to build nothing but what conf/ describes.

    Args:
        config: resolved, plain values.

    Raises:
        ValueError: it names a ``_target_`` that conf/ does not, or is not resolved.
    """
    for target in _dubious(config):
        raise ValueError(
            f"The config asks for {target!r}, which no file of conf/ names; it was not built. "
            "If it is a backbone of yours, add its file to conf/model."
        )
    return OmegaConf.create(config)


def build_data(cfg: DictConfig) -> ImageDataModule:
    """The data module of ``cfg.data`` with the augmentation of ``cfg.aug``; reads the images.

    Raises:
        ValueError, OSError: a setting does not fit the data, or the data cannot be read.
    """
    return instantiate(cfg.data, aug=instantiate(cfg.aug), seed=cfg.seed)


def build_classifier(cfg: DictConfig, data: ImageDataModule) -> Classifier:
    """The backbone of ``cfg.model``, initialised from torch's global generator, in its LightningModule.

    Raises:
        ValueError: a setting is out of its range, or the backbone does not admit images of this size.
    """
    return Classifier(
        instantiate(cfg.model, num_classes=len(data.classes), image_size=data.image_size),
        optimizer=instantiate(cfg.optim),
        schedule=instantiate(cfg.schedule),
        classes=data.classes,
        image_size=data.image_size,
        seed=cfg.seed,
        label_smoothing=cfg.label_smoothing,
        channels_last=cfg.channels_last,
        compile=cfg.compile,
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
    )


def check_trainer(cfg: DictConfig) -> None:
    """Check what Lightning does not put into a sentence of its own.

    Raises:
        ValueError: ``cfg.trainer`` asks for a device that this machine does not have, or for no epochs.
    """
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if cfg.trainer.accelerator in ("gpu", "cuda", "mps") and not has_gpu:
        raise ValueError(
            f"trainer.accelerator is {cfg.trainer.accelerator}, but torch finds no GPU here; "
            "use trainer=cpu or trainer=auto."
        )
    for name in ("max_epochs", "log_every_n_steps"):
        value = cfg.trainer[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"trainer.{name} is {value!r}; expected a whole number, 1 or more.")


def build_trainer(cfg: DictConfig, **settings: Any) -> L.Trainer:
    """The trainer of ``cfg.trainer``.

    Raises:
        ValueError: see ``check_trainer``.
    """
    check_trainer(cfg)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it; no effect on the CPU
    return instantiate(cfg.trainer, **settings)


def build_run_trainer(cfg: DictConfig, folder: RunFolder, validates: bool) -> tuple[L.Trainer, History]:
    """The trainer of a run that is recorded in ``folder``, and the callback that holds its history.

    Args:
        validates: whether there is a validation set, by whose accuracy the best epoch is chosen; otherwise the
            last epoch is the best.

    Raises:
        ValueError: see ``check_trainer``; or there is a validation set, but not every epoch would use it.
    """
    usual = {"max_steps": (None, -1), "check_val_every_n_epoch": (None, 1)}
    for name, values in usual.items():
        if validates and cfg.trainer.get(name) not in values:
            raise ValueError(
                f"trainer.{name} may leave an epoch without validation, by which the best one is chosen; "
                "leave it out, or choose none with data.val_size=0."
            )
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if cfg.trainer.get(name) == 0:
            raise ValueError(f"trainer.{name} is 0; expected at least one batch, or null for all.")
    history = History(folder.metrics_file)
    checkpoints = Checkpoints(folder.best, folder.last, monitor="val/accuracy" if validates else None)
    watchers = [instantiate(callback) for callback in (cfg.get("callbacks") or {}).values() if callback is not None]
    trainer = build_trainer(
        cfg,
        default_root_dir=folder.path,
        logger=instantiate(cfg.logger, save_dir=folder.path) if cfg.get("logger") else False,
        enable_progress_bar=any(isinstance(watcher, ProgressBar) for watcher in watchers),
        callbacks=[*watchers, history, InterruptCheckpoint(folder.last), checkpoints],
    )
    return trainer, history
