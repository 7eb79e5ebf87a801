"""Test a checkpoint: eval.json, its figures, and the tables on the screen."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rich
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.markup import escape
from rich.table import Table

from src.augment.corruptions import SEVERITIES
from src.inference.evaluator import Evaluator
from src.runs.escaping import markdown
from src.runs.folder import write_json
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
    write_json(folder / "eval.json", results)  # corruptions are slow: save the results so far
    if evaluator.corruptions:
        primary = next(row for row in results["tta"] if row["name"] == results["primary"])
        results["corruptions"], figures["corruptions"] = evaluator.corrupted(primary["accuracy"])
        write_json(folder / "eval.json", results)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    log_to_tensorboard(results, list(figures), folder)
    return results


def log_to_tensorboard(results: dict[str, Any], figures: list[str], folder: Path) -> None:
    """Write the results as events into ``folder``, where the figures are."""
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
    """Print the results."""
    console = rich.get_console()

    def percent(name: str) -> Callable[[Any], str]:
        return lambda row: f"{100 * row[name]:.2f}"

    def interval(name: str, form: str = ".2f") -> Callable[[Any], str]:
        return lambda row: " to ".join(f"{100 * bound:{form}}" for bound in row[name])

    def show_table(rows: Iterable[Any], columns: dict[str, Callable[[Any], str]]) -> None:
        """``columns`` maps each header to a function from row to cell."""
        table = Table(*columns, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(escape(cell(row)) for cell in columns.values()))
        console.print()
        console.print(table)

    metrics = results["metrics"]
    line = f"test accuracy [bold]{metrics['test/accuracy']:.2%}[/], loss {metrics['test/loss']:.4f}"
    console.print(line, highlight=False)
    scores = {
        "tta": "{name}".format_map,
        "views": "{views}".format_map,
        "accuracy, %": percent("accuracy"),
        "95 % interval": interval("accuracy_interval"),
        "top-2, %": percent("top2_accuracy"),
        "loss": "{nll:.4f}".format_map,
        "calibration error, %": percent("ece"),
        "images/s": "{images_per_second:.0f}".format_map,
    }
    show_table(results["tta"], scores)
    if gained := [row for row in results["tta"] if "gain" in row]:
        gains = {
            "against none": "{name}".format_map,
            "gain, points": lambda row: f"{100 * row['gain']:+.2f}",
            "95 % interval": interval("gain_interval", "+.2f"),
            "images won / lost": "{won} / {lost}".format_map,
            "p (McNemar)": "{p:.2g}".format_map,
        }
        show_table(gained, gains)
    shares = {"precision, %": percent("precision"), "recall, %": percent("recall"), "F1, %": percent("f1")}
    show_table(results["by_class"], {"class": "{class}".format_map, "images": "{images}".format_map} | shares)
    if corruptions := results.get("corruptions"):
        by_name: dict[str, dict[str, Any]] = {}
        for row in corruptions:
            of_name = by_name.setdefault(row["corruption"], {"corruption": row["corruption"]})
            of_name[f"severity {row['severity']}"] = row["accuracy"]
        severities = {f"severity {severity}": percent(f"severity {severity}") for severity in SEVERITIES}
        show_table(by_name.values(), {"accuracy, %, under": "{corruption}".format_map} | severities)
    console.print()
