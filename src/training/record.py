"""What results.json says of a run, and the last screen."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from statistics import median
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.data.datamodule import ImageDataModule
from src.runs import identity
from src.runs.folder import RunFolder
from src.runs.provenance import device_name, revision, versions
from src.runs.text import printable
from src.training.callbacks.history import History


def before(cfg: DictConfig, content: str | None) -> dict[str, Any]:
    """What is known before training: what the run is, and what it was made with.

    Args:
        content: of the images that it was trained on before it was interrupted; None for a new run.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return {
        "config": config,
        "settings": identity.settings(config, own=True) | ({identity.CONTENT: content} if content else {}),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "revision": revision(),
    }


def of_data(data: ImageDataModule, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The classes, how many images there are to train on, to validate on and to test on, and, as the images are
    known now, the run's identity: ``settings`` and their fingerprint."""
    images = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    settings = {**settings, identity.CONTENT: data.content}
    return {
        "seed": data.seed,
        "classes": list(data.classes),
        "images": images,
        "settings": settings,
        "fingerprint": identity.fingerprint(settings),
    }


def of_network(network: nn.Module, image_size: int) -> dict[str, int]:
    """The number of parameters, and of floating-point operations (twice the multiply-adds) in one image's forward
    pass."""
    parameter = next(network.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=parameter.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        deepcopy(network).eval()(image)  # the copy of a compiled network is not compiled, and counts the same
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops_per_image": counter.get_total_flops(),
    }


def of_training(trainer: L.Trainer, history: History) -> dict[str, Any]:
    """What came of training. The metrics are those of the best epoch, the first of equals, as for its checkpoint."""
    rows = history.rows
    best = max(rows, key=lambda row: row["val/accuracy"]) if "val/accuracy" in rows[-1] else rows[-1]
    speeds = [row["speed/images_per_second"] for row in rows if "speed/images_per_second" in row]
    return {
        "best_epoch": best["epoch"],
        "metrics": {name: value for name, value in best.items() if name.startswith(("train/", "val/"))},
        "epochs": rows[-1]["epoch"],
        "steps": rows[-1]["step"],
        "seconds": history.seconds,
        "images_per_second": median(speeds) if speeds else None,
        "device": device_name(trainer.strategy.root_device),
        "processes": trainer.world_size,
    }


def show(folder: RunFolder) -> None:
    """The last screen: the result, the run folder, and how to look at it. One line for a job of a multirun."""
    results = folder.results()
    metrics = results["metrics"]
    console = Console(highlight=False, soft_wrap=True)  # commands stay in one piece, to be copied
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        accuracy = f"[bold green]{metrics['test/accuracy']:.2%}[/]"
        console.print(f"{escape(printable(folder.path))}: test accuracy {accuracy} after {results['seconds']:.0f} s")
        return
    lines = [("test accuracy", f"[bold green]{metrics['test/accuracy']:.2%}[/]")]
    if "val/accuracy" in metrics:
        lines.append(("validation accuracy", f"{metrics['val/accuracy']:.2%}"))
    lines += [
        ("epoch tested", f"{results['best_epoch']} of {results['epochs']}"),
        ("time", f"{results['seconds']:.0f} s"),
        ("run folder", escape(printable(folder.path))),
        ("look at it", escape(printable(f"tensorboard --logdir {folder.path}"))),
        ("test it again", escape(printable(f"python -m src.eval ckpt={folder.best}"))),
    ]
    for name, value in lines:
        console.print(f"[dim]{name:<20}[/]{value}")
