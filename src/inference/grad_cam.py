"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), with the package grad-cam."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from src.inference.load import Trained
from src.inference.network import finite
from src.runs.escaping import printable


class Explanation(NamedTuple):
    """The prediction for one image, with its Grad-CAM map."""

    file: Path
    pixels: np.ndarray  # as the network saw it, uint8 [S, S, 3]
    heat: np.ndarray  # Grad-CAM map of the predicted class, float32 [S, S]: at most 1; all 0 if no pixel counts
    predicted: str  # name of the class
    probability: float  # of that class, 0 to 1


def last_feature_map(network: nn.Module, images: Tensor) -> nn.Module:
    """The module whose output is the last map ``[B, C, H, W]`` of more than one pixel, which Grad-CAM needs.

    In any network, that is after the last convolution, its norm, the addition of a residual block, and the ReLU.

    Args:
        network: any; it is called once.
        images: float ``[B, 3, S, S]``.

    Raises:
        ValueError: there is none, for example in a network without convolutions.
    """
    calls: list[str] = []
    places: dict[str, int] = {}  # pixels of each map, in execution order

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        calls.append(name)
        if isinstance(output, Tensor) and output.ndim == 4:
            places[name] = output.shape[2] * output.shape[3]

    with ExitStack() as hooks, torch.no_grad():
        for name, module in network.named_modules():
            if module is not network:
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
        network(images)

    def shrinks(name: str) -> bool:
        """Whether it is part of a module whose output is one pixel, so not all of that input may pass through it."""
        parts = name.split(".")
        return any(places.get(".".join(parts[:end])) == 1 for end in range(1, len(parts) + 1))

    # A module that is used twice makes two maps, so it is ambiguous.
    once = [name for name in reversed(places) if calls.count(name) == 1]
    for name in [name for name in once if not shrinks(name)] or once[:1]:
        return network.get_submodule(name)
    raise ValueError(f"{type(network).__name__} makes no map of features that Grad-CAM could explain.")


def explain(trained: Trained, files: Sequence[Path], images: Tensor) -> Iterator[Explanation]:
    """Explain a batch.

    Args:
        files: where the images came from, ``B`` of them.
        images: uint8 ``[B, 3, S, S]``.
    """
    from pytorch_grad_cam import GradCAM  # of the extra explain: src.explain says so where it is missing

    network = trained.network
    inputs = trained.preprocess(images)
    cam = GradCAM(network, [last_feature_map(network, inputs[:1])])
    heat = cam(inputs, targets=None)  # of the class predicted
    probability, predicted = finite(cam.outputs.detach()).softmax(dim=1).max(dim=1)
    pixels = images.permute(0, 2, 3, 1).numpy()
    for i, file in enumerate(files):
        name = trained.classes[int(predicted[i])]
        yield Explanation(file, pixels[i], heat[i], name, float(probability[i]))


# ---- drawing ---------------------------------------------------------------------------------------------------


def draw_overlay(explanation: Explanation) -> Figure:
    """The image as the network saw it, and the image overlaid with its Grad-CAM map."""
    figure = Figure(figsize=(6.4, 3.5), layout="constrained", dpi=100)
    figure.suptitle(_caption(explanation), fontsize=11, parse_math=False)
    plain, overlay = figure.subplots(1, 2)
    plain.imshow(explanation.pixels, interpolation="nearest")
    plain.set_axis_off()
    _lay_over(overlay, explanation)
    return figure


def draw_sheet(explanations: Sequence[Explanation]) -> Figure:
    """All overlays on one page, each below its file name."""
    columns = min(8, len(explanations))
    rows = -(-len(explanations) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.05 * rows), layout="constrained", dpi=100)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, explanation in zip(grid, explanations, strict=False):
        _lay_over(axes, explanation)
        name = printable(explanation.file.name)
        short = name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"
        axes.set_title(f"{short}\n{_caption(explanation)}", fontsize=7, parse_math=False)
    return figure


def _caption(explanation: Explanation) -> str:
    name = explanation.predicted
    return f"{name if len(name) <= 24 else f'{name[:23]}…'}  {explanation.probability:.1%}"


def _lay_over(axes: Axes, explanation: Explanation) -> None:
    axes.imshow(explanation.pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    # Transparent at 0; and without the dark ends of the colour map, which look like shadow.
    axes.imshow(
        explanation.heat, cmap="turbo", vmin=-0.2, vmax=1.2, alpha=0.6 * explanation.heat, interpolation="bilinear"
    )
    axes.set_axis_off()
