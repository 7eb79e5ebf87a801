"""The model card in Markdown: a network's origin, its results, and its limits.

Quoted text may be untrusted: class names, settings, an error. All values in the template ``model_card.md.jinja``
pass through ``markdown``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup
from omegaconf import OmegaConf

from src.inference.formats import metadata
from src.inference.load import Trained
from src.inference.measures import wilson
from src.runs.checkpoints import load_checkpoint
from src.runs.escaping import markdown, templates
from src.runs.file_schema import Evaluation, parse_metrics, read_json
from src.runs.folder import RunFolder
from src.runs.identity import differences, settings

EVALUATIONS = Path("logs/eval")
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def model_card(
    trained: Trained, format: str, file: Path, difference: float, evaluation: Mapping[str, Any] | None
) -> str:
    """The card of an exported network, in Markdown.

    Args:
        trained: the network. If its checkpoint is in its own run folder, that folder is read too.
        format, file: of the export.
        difference: the largest difference between logits of the file and of PyTorch.
        evaluation: the content of an eval.json of this checkpoint, see ``find_evaluation``.
    """
    config = cast(dict[str, Any], OmegaConf.to_container(trained.config))
    epoch = load_checkpoint(trained.checkpoint).epoch
    epoch = None if epoch is None else epoch + 1
    results = _results_of(trained, config)
    environment = templates(TEMPLATE.parent, markdown)
    environment.filters |= {"built": _name, "settings": _settings, "source": _source, "sha256": _sha256}
    return environment.get_template(TEMPLATE.name).render(
        trained=trained,
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        config=config,
        more=_more(config),
        results=results,
        evaluation=evaluation or {},
        epoch=epoch,
        figures=list(_figures(results, epoch, config, evaluation or {})),
        format=format,
        facts={key: json.loads(value) for key, value in metadata(trained, format).items()},
        file=file,
        quoted_name=Markup(repr(file.name)),
        difference=difference,
        today=datetime.now(UTC).date(),
    )


# ---- sources ---------------------------------------------------------------------------------------------------


def find_evaluation(checkpoint: Path, file: Path | None) -> Evaluation | None:
    """The content of an eval.json of this checkpoint.

    Args:
        file: the eval.json; None takes the latest in logs/eval that is of its own test images, if there is one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another checkpoint, or damaged.
    """
    if file is not None:
        if not file.is_file():
            raise FileNotFoundError(f"There is no evaluation {file}; python -m src.eval writes one, eval.json.")
        content = _read(file, checkpoint)
        if content is None:
            raise ValueError(f"{file} is no evaluation of {checkpoint}; evaluate it with python -m src.eval ckpt=...")
        return content
    for file in sorted(EVALUATIONS.rglob("eval.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        if file.stat().st_mtime >= checkpoint.stat().st_mtime:  # else it is of an older checkpoint
            content = _read(file, checkpoint)
            if content is not None and not content.get("other_images"):
                return content
    return None


def _read(file: Path, checkpoint: Path) -> Evaluation | None:
    """The content of an eval.json; None if it is damaged or of another checkpoint."""
    try:
        content = read_json(file, Evaluation)
        parse_metrics(content["metrics"], "metrics")
        path = Path(content["ckpt"])
        path = RunFolder(path).best if path.is_dir() else path
        return content if path.resolve() == checkpoint.resolve() else None
    except (OSError, ValueError):
        return None


def _results_of(trained: Trained, config: Mapping[str, Any]) -> dict[str, Any]:
    """results.json of the run that wrote the checkpoint; empty if unknown."""
    folder = RunFolder(trained.checkpoint.absolute().parent.parent)
    if trained.checkpoint.absolute().parent != folder.checkpoints.absolute() or not folder.results_file.is_file():
        return {}
    results = folder.results()
    recorded = results.get("config")
    same = isinstance(recorded, dict) and not differences(settings(recorded), settings(config))
    return results | {"folder": folder.path.name} if same else {}


# ---- content of the card ---------------------------------------------------------------------------------------


def _name(node: Any) -> str:
    """The name of what a configuration node builds: its own, or the last part of its ``_target_``."""
    return str(node.get("algorithm") or node.get("name") or node.get("_target_", "unknown")).rpartition(".")[2]


def _settings(node: Any) -> str:
    """A configuration node in words: its name and its settings."""
    words = [
        f"{key} {value}" for key, value in node.items() if not key.startswith("_") and key not in ("algorithm", "name")
    ]
    return ", ".join([_name(node), *words])


def _more(config: Mapping[str, Any]) -> str:
    """The settings that count and that the card has no row for, such as those of callbacks. A new one is here."""
    in_rows = ("model.", "data.", "optim.", "schedule.", "aug.", "loss.", "label_smoothing", "seed", "score",
               "trainer._target_", "trainer.max_epochs", "trainer.precision")  # fmt: skip
    counting = settings(config).items()
    return ", ".join(f"{key} {value}" for key, value in counting if value is not None and not key.startswith(in_rows))


def _source(config: Mapping[str, Any]) -> str:
    source = config["data"].get("source", {})
    root = source.get("root")
    return f"{_name(source)}, {Path(str(root)).name}" if root else _name(source)  # the full path is private


def _figures(
    results: Mapping[str, Any], epoch: int | None, config: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """The name of each metric, its value, and its 95 % interval."""
    metrics = results.get("metrics", {}) if results.get("best_epoch") == epoch else {}
    where = ""
    if other := evaluation.get("other_images"):
        where = f" on other images: {_source({'data': {'source': other}})}"
        metrics = {name: value for name, value in metrics.items() if not name.startswith("test/")}
    metrics = {**metrics, **evaluation.get("metrics", {})}
    images = _tested(results, config, evaluation)
    names = {
        "test/accuracy": f"test accuracy{where}",
        "test/loss": f"test loss (cross-entropy){where}",
        "val/accuracy": "validation accuracy",
        "val/loss": "validation loss (cross-entropy)",
        "train/accuracy": "training accuracy, in training mode, over the epoch",
    }
    score = str(config.get("score", "val/accuracy"))
    chosen = score.removeprefix("-")
    best = "highest" if score == chosen else "lowest"
    names[chosen] = f"{names.get(chosen, chosen)}, by whose {best} value the epoch was chosen"
    for key, name in names.items():
        if isinstance(value := metrics.get(key), int | float):
            interval = ""
            if key == "test/accuracy":
                interval = _interval(wilson(round(value * images), images), images) if images else "n unknown"
            yield name, f"{value:.2%}" if key.endswith("accuracy") else f"{value:.4f}", interval
    for row in evaluation.get("tta", []):
        if row["name"] != "none":  # which is the test accuracy
            interval = _interval(row["accuracy_interval"], images)
            yield f"test accuracy{where}, tta={row['name']}", f"{row['accuracy']:.2%}", interval
        yield f"expected calibration error{where}, tta={row['name']}", f"{row['ece']:.2%}", ""
    worst = {row["corruption"]: row for row in evaluation.get("corruptions") or []}  # the last severity of each
    for name, row in worst.items():
        severity = f"test accuracy{where} under {name}, severity {row['severity']}"
        yield severity, f"{row['accuracy']:.2%}", _interval(row["accuracy_interval"], images)


def _tested(results: Mapping[str, Any], config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> int | None:
    """The number of images behind the test accuracy; None if unknown."""
    if evaluation:
        return evaluation.get("images")
    return results.get("images", {}).get("test") if config["trainer"].get("limit_test_batches") is None else None


def _interval(bounds: Any, images: int | None) -> str:
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f} % (n = {images:,})"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
