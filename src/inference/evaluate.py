"""Test a checkpoint: eval.json, its figures, and the tables on the screen."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.markup import escape
from rich.table import Table

from src.inference.evaluator import Evaluator
from src.runs.folder import write_json
from src.runs.text import markdown
from src.training.tensorboard import TensorBoard


def evaluate(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Test the checkpoint ``cfg.ckpt`` on its own test images or on those of ``cfg.data``.

    Writes eval.json and its figures into ``folder``, and the same for TensorBoard.

    Returns:
        The content of eval.json.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, or one that cannot be used with these data or these settings.
    """
    evaluator = Evaluator(cfg)
    results, figures = evaluator.clean()
    other = OmegaConf.to_container(cfg.data.source, resolve=True) if "_target_" in cfg.data else None
    results = {"ckpt": str(cfg.ckpt), "other_images": other, **results}
    write_json(folder / "eval.json", results)  # corruptions take a while: what is known by now is kept
    if evaluator.corruptions:
        primary = next(row for row in results["tta"] if row["name"] == results["primary"])
        results["corruptions"], figures["corruptions"] = evaluator.corrupted(primary["accuracy"])
        write_json(folder / "eval.json", results)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    log_to_tensorboard(results, list(figures), folder)
    return results


def log_to_tensorboard(results: dict[str, Any], figures: list[str], folder: Path) -> None:
    """Write the same as events into ``folder``, where the figures are."""
    board = TensorBoard(folder)
    quantities = {
        "accuracy": ("accuracy", "Share of the test images got right, 0 to 1."),
        "top2_accuracy": ("accuracy_top2", "Share of the test images whose class is one of the two most probable."),
        "nll": ("loss", "Cross-entropy, mean over the test images."),
        "ece": ("calibration_error", "Expected calibration error: confidence against accuracy, in 15 bins."),
        "gain": ("accuracy_gain", "Rise of the accuracy against none, on the same images."),
    }
    for row in results["tta"]:
        for key, (group, description) in quantities.items():
            if key in row:
                board.log_scalar(f"{group}/tta_{row['name']}", row[key], 0, description)
    for row in results.get("corruptions", ()):
        tag, description = f"accuracy_corrupted/{row['corruption']}", "Accuracy by severity of the corruption (step)."
        board.log_scalar(tag, row["accuracy"], row["severity"], description)
    lines = ["| class | images | precision | recall | F1 |", "| --- | --- | --- | --- | --- |"]
    for row in results["by_class"]:
        name = markdown(row["class"])
        lines.append(f"| {name} | {row['images']} | {row['precision']:.1%} | {row['recall']:.1%} | {row['f1']:.1%} |")
    board.experiment.add_text("evaluation/by_class", "\n".join(lines))
    explained = {
        "reliability": "Accuracy by confidence; on the dotted line a probability means what it says.",
        "confusion": "Which class is taken for which.",
        "mistakes": "The wrongly classified images that the network was surest of.",
        "corruptions": "Accuracy by severity of each corruption, with 95 % intervals.",
    }
    for name in figures:
        with Image.open(folder / f"{name}.png") as image:
            pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        board.log_image(f"evaluation/{name}", pixels, 0, explained[name])
    board.finalize("success")


def show(results: dict[str, Any]) -> None:
    """Print the figures."""

    def percent(value: float) -> str:
        return f"{100 * value:.2f}"

    def interval(bounds: list[float], form: str = ".2f") -> str:
        return " to ".join(f"{100 * bound:{form}}" for bound in bounds)

    def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = Table(*columns, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print()
        console.print(table)

    console = rich.get_console()
    metrics, tta = results["metrics"], results["tta"]
    line = f"test accuracy [bold]{metrics['test/accuracy']:.2%}[/], loss {metrics['test/loss']:.4f}"
    console.print(line, highlight=False)
    show_table(
        ["tta", "views", "accuracy, %", "95 % interval", "top-2, %", "loss", "calibration error, %", "images/s"],
        (
            [
                row["name"],
                str(row["views"]),
                percent(row["accuracy"]),
                interval(row["accuracy_interval"]),
                percent(row["top2_accuracy"]),
                f"{row['nll']:.4f}",
                percent(row["ece"]),
                f"{row['images_per_second']:.0f}",
            ]
            for row in tta
        ),
    )
    if len(tta) > 1:
        show_table(
            ["against none", "gain, points", "95 % interval", "images won / lost", "p (McNemar)"],
            (
                [
                    row["name"],
                    f"{100 * row['gain']:+.2f}",
                    interval(row["gain_interval"], "+.2f"),
                    f"{row['won']} / {row['lost']}",
                    f"{row['p']:.2g}",
                ]
                for row in tta
                if "gain" in row
            ),
        )
    show_table(
        ["class", "images", "precision, %", "recall, %", "F1, %"],
        (
            [row["class"], str(row["images"]), *(percent(row[name]) for name in ("precision", "recall", "f1"))]
            for row in results["by_class"]
        ),
    )
    if corruptions := results.get("corruptions"):
        show_table(
            ["accuracy, %, under", *(f"severity {severity}" for severity in range(1, 6))],
            (
                [name, *(percent(row["accuracy"]) for row in corruptions if row["corruption"] == name)]
                for name in dict.fromkeys(row["corruption"] for row in corruptions)
            ),
        )
    console.print()
