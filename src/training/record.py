"""The content of results.json for a run, and the summary that is printed at its end."""

import logging
import math
import sys
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from src.data.datamodule import ImageDataModule
from src.models.layers import plain_attention
from src.runs import identity
from src.runs.command import command, shell_word
from src.runs.escaping import printable
from src.runs.file_schema import Results
from src.runs.folder import RunFolder, accuracy, signed
from src.runs.provenance import composed_by, device_name, has_bfloat16_units, keep_revision, versions
from src.runs.question import hardly_learned, question_of
from src.runs.trust import TRAINING_ONLY, trust_override
from src.runs.weights import hash_of
from src.training.callbacks.history import History

log = logging.getLogger(__name__)

CONSTANT, SWA = "src.training.schedules.Constant", "src.training.callbacks.averaging.SWA"
BFLOAT16_GAIN = 3.5  # with bfloat16 units, see src/benchmarks/README.md


def before(cfg: DictConfig, folder: RunFolder, former: Results) -> dict[str, Any]:
    """The record before training: configuration, settings, code revision and package versions.

    The diff of the code to its commit is saved in the folder of the run, or of its sweep.

    Args:
        former: results.json of a run that is resumed; empty for a new run.

    Raises:
        ValueError: see ``question_of`` and ``hash_of``; or a resumed run started from other weights.
        FileNotFoundError: there is no file of initial weights.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    known = identity.run_of(former).settings
    question_of(config)  # raises before anything is trained
    counting = identity.settings(config, own=True)
    if identity.CONTENT in known:
        counting[identity.CONTENT] = known[identity.CONTENT]
    path, weights = config.get("init_from"), known.get(identity.WEIGHTS)
    if path and (not former or (weights and Path(path).exists())):  # a resumed run needs them no more
        found = hash_of(Path(path))
        if weights not in (None, found):
            raise ValueError(
                f"The run started from other weights than those that are now in init_from={path}. Put the former ones "
                "back to go on, or start a new run."
            )
        weights = found
    if weights:
        counting[identity.WEIGHTS] = weights
    # A schedule or SWA that follows the run's length was another one until the run was lengthened.
    lengths, length = known.get(identity.LENGTHENED, []), known.get("trainer.max_epochs")
    fixed = counting.get("schedule._target_") == CONSTANT and counting.get("average._target_") != SWA
    if length not in (None, cfg.trainer.max_epochs) and not fixed:
        lengths = [*lengths, length]
    if lengths:
        counting[identity.LENGTHENED] = lengths
    multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    code = keep_revision(folder.path.parent if multirun else folder.path)
    earlier = former.get("revisions", [former["revision"]] if "revision" in former else [])
    return {
        "config": config,
        "settings": counting,
        "started": former.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
        "versions": versions(),
        "composed_by": composed_by(),
        "revision": code,
        "revisions": [*(other for other in earlier if other != code), code],  # several if the code changed
    }


def of_data(data: ImageDataModule, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The classes, the numbers of training, validation and test images, the share of wrong labels, and the run's
    identity: ``settings`` with the content of the images, and their fingerprint."""
    images = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    settings = {**settings, identity.CONTENT: data.content}
    return {
        "seed": data.seed,
        "classes": list(data.classes),
        "images": images,
        **({"wrong_labels": data.wrong_labels} if data.wrong_labels else {}),
        "settings": settings,
        "fingerprint": identity.fingerprint(settings),
    }


def check_same_data(former: Results, found: dict[str, Any]) -> None:
    """Check that a resumed run uses the images that it was trained on.

    Raises:
        ValueError: the images differ; the message says how.
    """
    changed = [
        f"the {words} were {former[name]} and are now {found[name]}"  # type: ignore[literal-required]
        for name, words in {"classes": "names of the classes", "images": "numbers of images"}.items()
        if name in former and former[name] != found[name]  # type: ignore[literal-required]
    ]
    if former.get("settings", {}).get(identity.CONTENT) not in (None, found["settings"][identity.CONTENT]):
        changed.append("the content of images, or their labels, has changed")
    if changed:
        raise ValueError(
            f"The run was trained on other data: {changed[0]}. Put the former data back to go on, or start a new run."
        )


def of_network(network: nn.Module, num_classes: int, image_size: int, channels: int = 3) -> dict[str, int]:
    """The number of parameters, and the FLOPs (twice the multiply-adds) of the forward pass of one image.

    Raises:
        ValueError: the network does not take an image ``[1, channels, S, S]`` to logits ``[1, num_classes]``.
    """
    device = next((parameter.device for parameter in network.parameters()), None)
    image = torch.zeros(1, channels, image_size, image_size, device=device)
    try:
        with torch.no_grad(), plain_attention(), FlopCounterMode(display=False) as counter:
            logits = deepcopy(network).eval()(image)  # the copy of a compiled network is not, and counts the same
        found = f"it returned {list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__}"
    except Exception as error:
        found = str(error).rstrip(".")
    if found != f"it returned {[1, num_classes]}":
        raise ValueError(
            f"The model should take images [B, {channels}, {image_size}, {image_size}] to logits [B, {num_classes}]; "
            f"for one image {found}."
        )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "flops_per_image": counter.get_total_flops()}


def of_training(trainer: L.Trainer, history: History, score: str) -> dict[str, Any]:
    """The results of training. The metrics are those of the best epoch (the first on a tie), as in best.ckpt."""
    rows = history.rows
    if not rows:
        raise ValueError("Training was stopped before its first epoch, by trainer.max_time or by a callback.")
    scores = [value for row in rows if (value := signed(row, score)) is not None]
    best = rows[scores.index(max(scores))] if len(scores) == len(rows) else rows[-1]
    speeds = [row["speed/images_per_second"] for row in rows if "speed/images_per_second" in row]
    return {
        "best_epoch": best["epoch"],
        "metrics": {name: value for name, value in best.items() if name.startswith(("train/", "val/"))},
        "epochs": rows[-1]["epoch"],
        "ended": _ended_by(trainer),
        "steps": rows[-1]["step"],
        "seconds": sum(row["seconds"] for row in rows),
        "images_per_second": median(speeds) if speeds else None,
        "device": device_name(trainer.strategy.root_device),
        "precision": trainer.precision,
        "processes": trainer.world_size,
    }


def _ended_by(trainer: L.Trainer) -> str:
    """What ended training: the name of a limit of the trainer, or a callback."""
    if trainer.current_epoch == trainer.max_epochs and trainer.is_last_batch:
        return "max_epochs"
    if trainer.global_step == trainer.max_steps:
        return "max_steps"
    if any(callback.wait_count >= callback.patience for callback in trainer.early_stopping_callbacks):
        return "early stopping"
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return "max_time" if any((timer.time_remaining() or 1) <= 0 for timer in timers) else "a callback"


def _stopped(results: Results) -> str:
    """Why a run stopped before its last epoch; empty if it did not."""
    last = results["config"]["trainer"]["max_epochs"]
    return f", stopped by {results['ended']} before the end of epoch {last}" if results["ended"] != "max_epochs" else ""


def _guesses(results: Results) -> str:
    """What is wrong with a run that ended no better than guessing: a cross-entropy within 1 % of the logarithm of the
    number of classes, or above, and an accuracy of one that has ``hardly_learned``. Empty for other runs, for those of
    under 100 steps, and for those that ``callbacks=signals`` has judged."""
    classes, metrics = len(results["classes"]), results["metrics"]
    name, reached = accuracy(results)
    loss = metrics["test/loss" if "test/loss" in metrics else "val/loss"]
    if results.get("verdict") or results["steps"] < 100 or reached > hardly_learned(classes):
        return ""
    guess = math.log(classes)
    return "" if loss < 0.99 * guess else f"{name.split()[0]} loss {loss:.4f}, guessing has ln({classes}) = {guess:.4f}"


def announce(folder: RunFolder, device: torch.device, precision: str) -> None:
    """Print what is about to run, unless it is a job of a multirun: choices, changes, data, network, device.

    Warn of a precision (``trainer.precision``) that is slow on this device.
    """
    units = has_bfloat16_units() if device.type == "cpu" else None
    if units is False and precision.startswith("bf16"):
        log.warning(
            "trainer.precision is %s, but this processor has no bfloat16 units: training on such a one was measured "
            "to run at a tenth of float32's speed; use trainer.precision=32-true.",
            precision,
        )
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return
    known = folder.results()
    choices = known.get("choices", {})
    changed = [each for each in known.get("overrides", []) if each.split("=")[0].lstrip("+~") not in choices]
    images, classes = known["images"], len(known["classes"])
    counts = f"{images['train']:,} training, {images['val']:,} validation, {images['test']:,} test; {classes} classes"
    rows = {
        "chosen": ", ".join(f"{group} {choice}" for group, choice in sorted(choices.items())),
        "changed": " ".join(changed) or "nothing",
        "images": counts,
        "network": f"{known['parameters']:,} parameters, {known['flops_per_image'] / 1e6:,.1f} MFLOP an image",
        "device": device_name(device),
    }
    if units and precision.startswith("32"):
        rows["faster?"] = (
            f"trainer.precision=bf16-mixed was up to {BFLOAT16_GAIN} times as fast on a processor with bfloat16 units, "
            f"which this one has; to measure it here: {command('src.benchmark', 'rows=[choices]')}"
        )
    grid = Table.grid(padding=(0, 2))
    for name, text in rows.items():
        grid.add_row(f"[dim]{name}[/]", escape(printable(text)))
    Console(highlight=False).print(Panel.fit(grid, title=escape(printable(folder.path))))


def show(folder: RunFolder) -> None:
    """Print the result, the run folder and the next commands. One line for a job of a multirun."""
    results = folder.results()
    metrics = results["metrics"]
    guesses = _guesses(results)
    measured, share = accuracy(results)
    reached = f"[bold green]{share:.2%}[/]"
    console = Console(highlight=False, soft_wrap=True)  # commands stay in one piece, to be copied
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        time = f"{results['seconds']:.0f} s{_stopped(results)}"
        remark = f"; not learning: {guesses} (callbacks=signals shows why)" if guesses else ""
        console.print(f"{escape(printable(folder.path))}: {measured} {reached} after {time}{remark}")
        return
    trust = trust_override(results["config"], TRAINING_ONLY)
    watched, again = any(folder.path.glob("events.*")), " again" * ("test/accuracy" in metrics)
    lines = [(measured, reached)]
    if {"val/accuracy", "test/accuracy"} <= metrics.keys():
        lines.append(("validation accuracy", f"{metrics['val/accuracy']:.2%}"))
    name = str(results["config"].get("score", "val/accuracy")).removeprefix("-")
    if name in metrics and name != "val/accuracy":
        lines.append((escape(name), f"{metrics[name]:.4f}"))
    lines += [
        ("best epoch", f"{results['best_epoch']} of {results['epochs']}{_stopped(results)}"),
        ("time", f"{results['seconds']:.0f} s"),
        ("run folder", escape(printable(folder.path))),
        *([("look at it", escape(printable(f"tensorboard --logdir {shell_word(str(folder.path))}")))] * watched),
        (f"test it{again}", escape(printable(command("src.eval", *trust, ckpt=folder.best)))),
    ]
    if guesses:
        given = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
        given = [word for word in sys.argv[1:] if word not in given and (word[0] == "-" or "=" not in word)] + given
        same = [word for word in given if not word.startswith("callbacks=")]
        known = same and not any(word.startswith("resume=") for word in same)
        closer = command("src.train", *same, "callbacks=signals") if known else "callbacks=signals, in a new run"
        lines += [("not learning", guesses), ("look closer", escape(closer))]
    for name, value in lines:
        console.print(f"[dim]{name:<20}[/]{value}")
