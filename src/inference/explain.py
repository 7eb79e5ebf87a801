"""Grad-CAM overlays for images, and a sheet of them."""

from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from src.data.find_images import find_images
from src.data.image_stream import watched
from src.inference.grad_cam import Explanation, draw_overlay, draw_sheet, explain
from src.inference.load import load
from src.runs.escaping import printable

BATCH = 32
ON_SHEET = 64


def explain_images(cfg: DictConfig) -> int:
    """Write an overlay for every image, and a sheet of the first ``ON_SHEET``.

    Returns:
        The number of images that could not be read; their names were printed.

    Raises:
        OSError, ValueError: grad-cam is not installed; there is no such checkpoint or image.
    """
    if cfg.ckpt is None or cfg.images is None:
        raise ValueError("Name a network and images: python -m src.explain ckpt=RUN images=FOLDER")
    if find_spec("pytorch_grad_cam") is None:
        raise ValueError(
            "Explaining takes grad-cam, not installed here: uv sync --extra explain, or pip install grad-cam."
        )

    files = find_images(cfg.images)
    trained = load(cfg.ckpt, cfg.trust)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    names = {"sheet"}
    on_sheet: list[Explanation] = []
    unreadable = len(files)
    for readable, images in watched("Explaining", files, trained.image_size, BATCH, trained.bits):
        unreadable -= len(readable)
        for explanation in explain(trained, readable, images):
            draw_overlay(explanation).savefig(out / f"{_unique(explanation.file.stem, names)}.png")
            if len(on_sheet) < ON_SHEET:
                on_sheet.append(explanation)
    if on_sheet:
        draw_sheet(on_sheet).savefig(out / "sheet.png")
        print(f"{len(files) - unreadable} images explained, {len(on_sheet)} of them on one sheet:")
        print(printable(out / "sheet.png"))
    return unreadable


def _unique(name: str, taken: set[str]) -> str:
    """``name``, or ``name-2`` and so on if it is taken; upper and lower case count as equal."""
    number, unique = 1, name
    while unique.lower() in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique.lower())
    return unique
