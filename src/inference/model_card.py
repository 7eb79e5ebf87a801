"""The model card: what a network was made from, how well it does, and what it is not for. In Markdown.

What it quotes may be a stranger's: class names, settings, an error. Whatever the template ``model_card.md.jinja`` is
given passes through ``escape`` on its way into the page.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from src.inference.formats import FORMATS
from src.inference.load import Trained
from src.inference.measures import wilson
from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder
from src.runs.identity import differences, settings
from src.runs.schema import Evaluation, parse_metrics, read_json
from src.runs.text import markdown

EVALUATIONS = Path("logs/eval")
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")

Rows = list[tuple[str, object]]  # the names and values of a table


def escape(value: object) -> Markup:
    """What the template quotes, as text that is neither Markdown nor HTML nor a link, on one line."""
    if isinstance(value, Markup):  # the template's own
        return value
    return Markup(markdown(value))


def model_card(
    trained: Trained, format: str, file: Path, difference: float, evaluation: Mapping[str, Any] | None
) -> str:
    """Write the card of an exported network.

    Args:
        trained: the network. Where its checkpoint lies in the run folder that made it, the folder is asked too.
        format, file: what it was exported to.
        difference: the largest between a logit there and here.
        evaluation: the content of an eval.json of this checkpoint, see ``find_evaluation``.

    Returns:
        Markdown.
    """
    config = cast(dict[str, Any], OmegaConf.to_container(trained.config))
    epoch = load_checkpoint(trained.checkpoint).epoch
    epoch = None if epoch is None else epoch + 1
    results = _results_of(trained, config)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        finalize=escape,
        autoescape=True,  # what a macro returns is the template's own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        title=results.get("choices", {}).get("model") or _name(config["model"]),
        source=_source(config),
        network=_network(trained, config, format),
        usage=Markup(_usage(trained, format, file)),
        classes=", ".join(trained.classes),
        data=_data(trained, config, results),
        recipe=_recipe(config, epoch),
        figures=list(_figures(results, epoch, config, evaluation)),
        limits=list(_limits(trained, config, results, evaluation)),
        provenance=_provenance(trained, results, format, file, difference),
    )


# ---- where it is known from ------------------------------------------------------------------------------------


def find_evaluation(checkpoint: Path, file: Path | None) -> Evaluation | None:
    """The content of an eval.json of this checkpoint.

    Args:
        checkpoint: which one.
        file: the eval.json; None takes the latest in logs/eval that is of its own test images, and there may be none.

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
        if file.stat().st_mtime >= checkpoint.stat().st_mtime:  # else it is of what the checkpoint was then
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
    """results.json of the run that wrote the checkpoint; empty where it is not known."""
    folder = RunFolder(trained.checkpoint.absolute().parent.parent)
    if trained.checkpoint.absolute().parent != folder.checkpoints.absolute() or not folder.results_file.is_file():
        return {}
    results = folder.results()
    recorded = results.get("config")
    same = isinstance(recorded, dict) and not differences(settings(recorded), settings(config))
    return results | {"folder": folder.path.name} if same else {}


# ---- what the card says ----------------------------------------------------------------------------------------


def _name(node: Any) -> str:
    """What a part of the configuration builds: the last part of its ``_target_``."""
    return str(node.get("algorithm") or node.get("_target_", "unknown")).rpartition(".")[2]


def _settings(node: Any) -> str:
    """A part of the configuration in words: what it builds, and with what."""
    words = [f"{key} {value}" for key, value in node.items() if not key.startswith("_") and key != "algorithm"]
    return ", ".join([_name(node), *words])


def _network(trained: Trained, config: Mapping[str, Any], format: str) -> Rows:
    size, classes = trained.image_size, len(trained.classes)
    pixels = f"uint8 [batch, 3, {size}, {size}], RGB, 0 to 255; normalised inside"
    floats = f"float32 [batch, 3, {size}, {size}], RGB, normalised as (value / 255 - mean) / std"
    return [
        ("architecture", _settings(config["model"])),
        ("parameters", f"{sum(parameter.numel() for parameter in trained.network.parameters()):,}"),
        ("input", f"images: {pixels if FORMATS[format].pixels else floats}"),
        ("output", f"logits: float32 [batch, {classes}], one for each class; softmax makes probabilities of them"),
        ("mean", f"{', '.join(map(str, config['data']['mean']))} (red, green, blue, of values 0 to 1)"),
        ("std", ", ".join(map(str, config["data"]["std"]))),
    ]


def _data(trained: Trained, config: Mapping[str, Any], results: Mapping[str, Any]) -> Rows:
    data = config["data"]
    size = data.get("train_size") or data.get("train_fraction")
    val = data.get("val_size")
    counts = results.get("images", {})
    return [
        ("source", _source(config)),
        ("image size", f"{trained.image_size} x {trained.image_size} pixels"),
        ("training images", counts.get("train") or ("all but those for validation" if size is None else size)),
        ("validation images", "the test images" if val == "test" else counts.get("val", val)),
        ("test images", counts.get("test", "unknown")),
    ]


def _source(config: Mapping[str, Any]) -> str:
    source = config["data"].get("source", {})
    root = source.get("root")
    return f"{_name(source)}, {Path(str(root)).name}" if root else _name(source)  # the path is nobody else's business


def _recipe(config: Mapping[str, Any], epoch: int | None) -> Rows:
    transforms = ", ".join(_settings(transform) for transform in config["aug"].get("transforms", [])) or "none"
    trainer = config["trainer"]
    return [
        ("optimiser", _settings(config["optim"])),
        ("schedule", _settings(config["schedule"])),
        ("batch size", config["data"].get("batch_size")),
        ("epochs", f"{trainer.get('max_epochs')}; these weights are from epoch {epoch or 'unknown'}"),
        ("augmentation", transforms),
        ("label smoothing", config.get("label_smoothing")),
        ("precision", trainer.get("precision")),
        ("seed", config.get("seed")),
    ]


def _figures(
    results: Mapping[str, Any], epoch: int | None, config: Mapping[str, Any], evaluation: Mapping[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    """What was measured, its value, and its 95 % interval."""
    metrics = results.get("metrics", {}) if results.get("best_epoch") == epoch else {}
    evaluation = evaluation or {}
    where = ""
    if other := evaluation.get("other_images"):
        where = f" on other images: {_source({'data': {'source': other}})}"
        metrics = {name: value for name, value in metrics.items() if not name.startswith("test/")}
    metrics = {**metrics, **evaluation.get("metrics", {})}
    images = _tested(results, config, evaluation)
    names = {
        "test/accuracy": f"test accuracy{where}",
        "test/loss": f"test loss (cross-entropy){where}",
        "val/accuracy": "validation accuracy, by which the epoch was chosen",
        "train/accuracy": "training accuracy, augmented, over the epoch",
    }
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
    """How many images the test accuracy is over, where that is known."""
    if evaluation:
        return evaluation.get("images")
    return results.get("images", {}).get("test") if config["trainer"].get("limit_test_batches") is None else None


def _interval(bounds: Any, images: int | None) -> str:
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f} % (n = {images:,})"


def _limits(
    trained: Trained, config: Mapping[str, Any], results: Mapping[str, Any], evaluation: Mapping[str, Any] | None
) -> Iterator[str]:
    size = trained.image_size
    yield (
        f"It knows {len(trained.classes)} classes and no other answer: an image of anything else gets one of them, "
        "possibly with a high probability."
    )
    yield (
        f"It sees {size} x {size} pixels. Other images are to be resized as in training (bilinear, antialiased, the "
        "aspect ratio not kept)."
    )
    yield (
        "The interval says how far chance in the choice of test images goes. It does not cover the seed: trained again "
        "with another, the network is another and so is its accuracy."
    )
    if config["data"].get("val_size") == "test":
        yield "The epoch was chosen by the test images themselves: the test accuracy is optimistic."
    if any(config["trainer"].get(f"limit_{part}_batches") is not None for part in ("train", "val", "test")):
        yield "Not all batches were used: this was a quick try."
    if results and results.get("status") != "completed":
        yield f"The run has not completed (its status: {results.get('status')})."
    if not (evaluation and evaluation.get("tta")):
        yield "Calibration was not measured: its probabilities are to be distrusted."
    if not (evaluation and evaluation.get("corruptions")):
        yield "It was not tried on noisy, blurred or otherwise harmed images; expect lower accuracy there."
    if not results:
        yield (
            "The checkpoint came without the run folder that made it: how many images it learned from, when, where and "
            "with which versions is unknown."
        )


def _provenance(trained: Trained, results: Mapping[str, Any], format: str, file: Path, difference: float) -> Rows:
    revision = results.get("revision") or {}
    commit = revision.get("commit") or "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in (results.get("versions") or {}).items())
    return [
        ("run", results.get("folder", "unknown")),
        ("started", results.get("started", "unknown")),
        ("code", f"{commit}, with changes" if revision.get("modified") else commit),
        ("fingerprint of the configuration", results.get("fingerprint", "unknown")),
        ("device", results.get("device", "unknown")),
        ("versions", versions or "unknown"),
        ("checkpoint", f"{trained.checkpoint.name}, SHA-256 {_sha256(trained.checkpoint)}"),
        ("exported", f"{file.name}, {format}, {datetime.now(UTC):%Y-%m-%d}, SHA-256 {_sha256(file)}"),
        ("verified", f"logits differ from PyTorch's by at most {difference:.1e}"),
    ]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- how to use it ---------------------------------------------------------------------------------------------

_USE = {
    "onnx": """\
import json

import numpy as np
import onnxruntime
from PIL import Image

image = Image.open("image.png").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
images = np.asarray(image).transpose(2, 0, 1)[None]  # uint8 [1, 3, {size}, {size}]
session = onnxruntime.InferenceSession({file!r})
metadata = session.get_modelmeta().custom_metadata_map
(logits,) = session.run(["logits"], {{"images": images}})
print(json.loads(metadata["classes"])[logits[0].argmax()])
""",
    "torch_export": """\
import json

import numpy as np
import torch
from PIL import Image

image = Image.open("image.png").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
images = np.asarray(image).transpose(2, 0, 1)[None]  # uint8 [1, 3, {size}, {size}]
extra = {{"metadata.json": ""}}
network = torch.export.load({file!r}, extra_files=extra).module()
logits = network(torch.tensor(images))
print(json.loads(json.loads(extra["metadata.json"])["classes"])[logits[0].argmax()])
""",
    "safetensors": """\
import json

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from {module} import {function}

image = Image.open("image.png").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
images = np.asarray(image).transpose(2, 0, 1)[None]  # uint8 [1, 3, {size}, {size}]
with safe_open({file!r}, "pt") as file:
    metadata = {{key: json.loads(value) for key, value in file.metadata().items() if key != "format"}}
    tensors = {{name: file.get_tensor(name) for name in file.keys()}}
settings = {{key: value for key, value in metadata["model"].items() if key != "_target_"}}
network = {function}(**settings).eval()
network.load_state_dict(tensors)
mean, std = (torch.tensor(metadata[key]).view(3, 1, 1) for key in ("mean", "std"))
with torch.inference_mode():
    logits = network((torch.tensor(images) / 255 - mean) / std)
print(metadata["classes"][logits[0].argmax()])
""",
}


def _usage(trained: Trained, format: str, file: Path) -> str:
    """A program that names the class of image.png."""
    module, _, function = trained.config.model._target_.rpartition(".")
    names = {"file": file.name, "module": module, "function": function, "size": trained.image_size}
    return _USE[format].format(**names)
