"""Predictions for images: a table on the screen, and a file of all predictions."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import rich
from omegaconf import DictConfig
from rich.table import Column, Table
from rich.text import Text

from src.augment.test_time import ViewAverage
from src.data.find_images import find_images
from src.data.image_stream import watched
from src.inference.load import load
from src.inference.network import Inference
from src.runs.escaping import csv_cell, printable
from src.runs.folder import write_whole

SHOWN = 20  # files in the table on the screen


class Prediction(NamedTuple):
    """The prediction for one file: classes and their probabilities (0 to 1), the most probable first."""

    file: Path
    classes: list[tuple[str, float]]


def predict(cfg: DictConfig) -> int:
    """Print a table of predictions, and write all of them to ``cfg.out`` if it is set.

    Images are streamed: only two batches are in memory at a time.

    Returns:
        The number of files that could not be read; they were named and skipped.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, no images, or a setting that cannot be used.
    """
    if cfg.ckpt is None or cfg.images is None:
        raise ValueError("Name a checkpoint and images: python -m src.predict ckpt=RUN images=FOLDER")
    for name in ("top", "batch_size"):
        if type(cfg[name]) is not int or cfg[name] < 1:
            raise ValueError(f"{name} is {cfg[name]!r}; expected a whole number, 1 or more.")
    files = find_images(cfg.images)
    shown: list[Prediction] = []
    unreadable = len(files)
    predictions = _predictions(cfg, files)
    for prediction in predictions if cfg.out is None else _recorded(predictions, Path(cfg.out), cfg.top):
        shown += [prediction] * (len(shown) < SHOWN)
        unreadable -= 1
    _show(shown)
    if more := len(files) - unreadable - len(shown):
        print(f"and {more:,} more{'' if cfg.out else '; out=predictions.csv writes all of them'}")
    if cfg.out is not None:
        print(printable(cfg.out))
    if unreadable:
        print(f"{unreadable} of {len(files)} files could not be read.", file=sys.stderr)
    return unreadable


def _predictions(cfg: DictConfig, files: Sequence[Path]) -> Iterator[Prediction]:
    chosen = cfg.tta.get("settings", {})
    if len(chosen) != 1:
        raise ValueError(f"tta is {', '.join(chosen) or '[]'}; predictions are made with one of them.")
    (views,) = chosen.values()
    average = ViewAverage.from_config(views, cfg.tta.average)
    trained = load(cfg.ckpt, cfg.trust)
    inference = Inference(trained, cfg)
    for readable, images in watched("Predicting", files, trained.image_size, cfg.batch_size, trained.bits):
        probabilities = average(inference(images, average.views).double()).exp()
        values, classes = probabilities.topk(min(cfg.top, len(trained.classes)))
        for file, own_values, own_classes in zip(readable, values.tolist(), classes.tolist(), strict=True):
            names = [trained.classes[i] for i in own_classes]
            yield Prediction(file, list(zip(names, own_values, strict=True)))


def _recorded(predictions: Iterator[Prediction], out: Path, top: int) -> Iterator[Prediction]:
    """The same predictions, each written into a file before the next is made, see ``write_whole``.

    Raises:
        ValueError: the file is neither .csv nor .json.
    """
    if out.suffix not in (".csv", ".json"):
        raise ValueError(f"out is {out}; expected the name of a .csv or a .json file.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(out, newline="", encoding="utf-8") as file:
        if out.suffix == ".csv":
            writer = csv.writer(file)
            first = next(predictions, None)
            places = range(1, 1 + (len(first.classes) if first else top))  # a network may have fewer classes than top
            writer.writerow(["file", *(f"{name}_{place}" for place in places for name in ("class", "probability"))])
            for prediction in chain([first] if first else [], predictions):
                cells = [cell for name, value in prediction.classes for cell in (csv_cell(name), f"{value:.6f}")]
                writer.writerow([csv_cell(prediction.file), *cells])
                yield prediction
        else:
            before = "["
            for prediction in predictions:
                classes = [{"class": name, "probability": round(value, 6)} for name, value in prediction.classes]
                file.write(before + "\n" + json.dumps({"file": str(prediction.file), "predictions": classes}))
                before = ","
                yield prediction
            file.write("\n]\n" if before == "," else "[]\n")


def _show(predictions: list[Prediction]) -> None:
    if not predictions:
        return
    columns = [Column("file", overflow="fold"), Column("class", overflow="fold"), Column("probability", no_wrap=True)]
    columns += [Column("then", overflow="fold")] * (len(predictions[0].classes) > 1)
    table = Table(*columns, box=None, pad_edge=False)
    for file, ((name, value), *others) in predictions:
        then = ", ".join(f"{other} {probability:.1%}" for other, probability in others)
        cells = [printable(file), name, f"{value:.1%}", *([then] if others else [])]
        table.add_row(*map(Text, cells))
    rich.get_console().print(table)
