"""Run folders whose truth is known, because nothing was trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.analysis.effects import Grid

GROUPS = ("data", "model", "optim", "schedule", "aug")
KEYS = {"lr": "optim.lr", "momentum": "optim.momentum", "weight_decay": "optim.weight_decay", "skip": "model.skip",
        "norm": "model.norm", "init": "model.init", "batch_size": "data.batch_size", "score_": "score"}  # fmt: skip


def write_run(
    sweep: Path,
    score: float,
    *,
    seed: int,
    validation: float | None = None,
    more: Mapping[str, float] | None = None,
    curve: Sequence[float] = (),
    status: str = "completed",
    error: str | None = None,
    content: str | None = "0" * 64,
    by_class: dict[str, float | None] | None = None,
    commit: str = "c0ffee",
    diff: str | None = None,
    revisions: int = 1,
    torch: str = "2.0",
    asked: dict[str, Any] | None = None,
    images: int = 10_000,
    **factors: Any,
) -> Path:
    """A run of test accuracy ``score``.

    Args:
        sweep: the sweep's folder.
        validation: of the best epoch.
        more: metrics.
        curve: validation accuracies by epoch, of 10 steps and 2 seconds each.
        content: of the images.
        factors: choices of groups, and settings by the last part of their keys.
        torch: the version.
        asked: the keys of its question, and others of its configuration.
        images: for the test.
    """
    number = len(list(sweep.glob("*"))) if sweep.exists() else 0
    folder = sweep / f"number={number:03}"
    folder.mkdir(parents=True)
    metrics = {"test/accuracy": score, "test/loss": 1.0, "train/loss": 1.5}
    if validation is not None:
        metrics |= {"val/accuracy": validation, "val/loss": 1.1}
    metrics |= more or {}
    choices = {name: factors.pop(name) for name in GROUPS if name in factors}
    settings = {f"{group}._target_": choice for group, choice in choices.items()}
    settings |= {KEYS.get(name, name): value for name, value in factors.items()}
    settings |= {"model._target_": "net", "trainer.max_epochs": 3, "seed": seed} | settings
    if content:
        settings["data.content"] = content
    results = {
        "schema": 2,
        "status": status,
        "error": error,
        "seed": seed,
        "started": f"2026-01-01T00:{number // 60:02}:{number % 60:02}",
        "choices": choices,
        "settings": settings,
        "config": {"trainer": {"max_epochs": 3}, **(asked or {})},
        "metrics": metrics if status == "completed" else {},
        "epochs": 3,
        "steps": 30,
        "seconds": 6.0,
        "images_per_second": 100.0,
        "parameters": 1000,
        "flops_per_image": 2_000_000,
        "device": "a CPU",
        "classes": ["cat", "dog", *"abcdefgh"],
        "images": {"train": 100, "val": 10, "test": images},
        "test_accuracy_by_class": by_class,
        "revision": {"commit": commit, "modified": bool(diff), "diff": diff},
        "revisions": [{"commit": commit}] * revisions,
        "versions": {"torch": torch},
    }
    (folder / "results.json").write_text(json.dumps(results))
    rows = ["epoch,step,seconds,train/loss,train/accuracy" + (",val/accuracy" if curve else "")]
    for epoch, accuracy in enumerate(curve or [score] * 3, start=1):
        rows.append(f"{epoch},{10 * epoch},2.0,{2 / epoch},{accuracy}" + (f",{accuracy}" if curve else ""))
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    return folder


def grid_of(levels: dict[str, list[Any]], seeds: list[Any], scores: NDArray[np.float64], luck: float = 0) -> Grid:
    """Scores ``[*levels, seeds]`` as a grid of runs, all different."""
    return Grid(levels, seeds, scores, np.full(scores.shape, luck), np.arange(scores.size).reshape(scores.shape))


def write_grid(sweep: Path) -> Path:
    """Skip is worth 0.10 without norm and 0.02 with it; norm is worth 0.30 without skip. Seeds add 0.00, 0.01, 0.05."""
    for skip in (False, True):
        for norm in (None, "batch"):
            for seed, luck in ((1, 0.0), (2, 0.01), (3, 0.05)):
                score = 0.2 + 0.3 * (norm == "batch") + (0.02 if norm else 0.10) * skip + luck
                write_run(sweep, score, skip=skip, norm=norm, seed=seed)
    return sweep


def write_tuned(sweep: Path) -> Path:
    """SGD is best at the middle one of its rates; Adam at its highest, by validation, and at its lowest, by test."""
    validation = {"sgd": {0.01: 0.50, 0.1: 0.60, 1.0: 0.40}, "adam": {1e-4: 0.70, 1e-3: 0.71, 1e-2: 0.74}}
    test = {"sgd": {0.01: 0.49, 0.1: 0.58, 1.0: 0.41}, "adam": {1e-4: 0.90, 1e-3: 0.70, 1e-2: 0.73}}
    for optim, rates in validation.items():
        for lr, accuracy in rates.items():
            for seed, luck in ((1, 0.0), (2, 0.012), (3, -0.009)):
                spread = luck * (1.5 if optim == "sgd" else 1)
                curve = (accuracy / 2, accuracy - 0.1, accuracy + spread)
                by_class = {"cat": test[optim][lr] - 0.1, "dog": test[optim][lr] + 0.1}
                write_run(sweep, test[optim][lr] + spread, validation=accuracy + spread, curve=curve, by_class=by_class,
                          optim=optim, lr=lr, seed=seed)  # fmt: skip
    return sweep
