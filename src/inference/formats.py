"""The export formats of a trained network, and the check that an exported network computes the same logits.

ONNX and torch.export files contain preprocessing and network in one graph: uint8 pixels in, logits out. So users cannot
make the commonest mistake with an exported network, a wrong normalisation.
safetensors files contain only the network's tensors, with the constants in their metadata.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from src.inference.load import Trained
from src.inference.network import finite

BATCHES = (1, 2, 7)  # batch sizes for verification
Logits = Callable[[Tensor], Tensor]  # uint8 images [B, 3, S, S] to logits [B, classes]


@dataclass(frozen=True)
class Format:
    """One export format."""

    suffix: str  # of its files
    packages: tuple[str, ...]  # required to write and verify; in the extra ``export``
    pixels: bool  # whether the file takes uint8 pixels, or preprocessed images
    write: Callable[[Trained, Path, Mapping[str, str]], None]  # write a network and its metadata
    read: Callable[[Trained, Path], Logits]  # read it; uses the network's architecture if the file has none


def export(trained: Trained, format: str, file: Path, tolerance: float) -> tuple[float, float]:
    """Write ``trained`` to ``file``, and verify that the file computes the same logits.

    Args:
        trained: a network, see ``load``.
        format: one of ``FORMATS``.
        file: must not exist; its folder is created if needed.
        tolerance: the largest allowed difference between the logits of PyTorch and of the file. For logits too large
            for it in float32 (above 50, for 1e-4), 16 units in the last place are allowed.

    Returns:
        The largest difference, over random images in batches of ``BATCHES``, and the allowed difference.

    Raises:
        FileExistsError: the file exists.
        ValueError: there is no such format, it requires packages that are not installed, or the logits differ by more
            than is allowed; then no file is left.
    """
    check_format(format)
    if file.exists():
        raise FileExistsError(f"{file} is there already and is not overwritten; choose another with out=.")
    form = FORMATS[format]
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".part-{file.name}")  # a fixed name, so a killed process's leftover is replaced
    try:
        with _quiet():
            form.write(trained, part, metadata(trained, format))
            difference, largest = _compare(trained, form.read(trained, part))
        allowed = max(tolerance, 16 * torch.finfo(torch.float32).eps * largest)
        if not difference <= allowed:  # also if NaN
            raise ValueError(
                f"In {format}, the logits differ by up to {difference:.1e} from PyTorch's, more than the "
                f"{allowed:.0e} allowed; the file was not kept. If that is little for this network, raise tolerance."
            )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return difference, allowed


def check_format(format: str) -> None:
    """Raise as ``export`` does for an unknown format or missing packages."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected {', '.join(FORMATS)}.")
    missing = [name for name in FORMATS[format].packages if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"format={format} takes {', '.join(missing)}, not installed here: uv sync --extra export, or pip install "
            f"{' '.join(missing)}; format=torch_export takes nothing more."
        )


def metadata(trained: Trained, format: str) -> dict[str, str]:
    """The metadata of a file, every value as JSON: ``classes`` (by index), ``mean`` and ``std`` (per channel, for
    values 0 to 1), ``image_size``, ``input``, ``output`` and ``model`` (how to build it here)."""
    size, classes = trained.image_size, list(trained.classes)
    channels = trained.config.data.get("channels") or 3
    colours = "RGB" if channels == 3 else "grey"
    takes = f"images: uint8 [batch, 3, {size}, {size}], RGB, 0 to 255; normalised inside"
    if not FORMATS[format].pixels:
        takes = (
            f"images: float32 [batch, {channels}, {size}, {size}], {colours}, normalised as (value / 255 - mean) / std"
        )
    model = OmegaConf.to_container(trained.config.model)
    assert isinstance(model, dict)
    model |= {"num_classes": len(classes), "image_size": size} | ({} if channels == 3 else {"channels": channels})
    constants = {name: list(trained.config.data[name]) for name in ("mean", "std")}
    content = {
        "classes": classes,
        **{name: each if channels == 3 else [sum(each) / len(each)] for name, each in constants.items()},
        "image_size": size,
        "input": takes,
        "output": f"logits: float32 [batch, {len(classes)}]",
        "model": model,
    }
    return {key: json.dumps(value) for key, value in content.items()}


class _FromPixels(nn.Module):
    """uint8 ``images`` to logits."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.preprocess = trained.preprocess
        self.network = trained.network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.preprocess(images))


def _random_images(trained: Trained, batch: int) -> Tensor:
    stream = torch.Generator().manual_seed(batch)
    shape = (batch, 3, trained.image_size, trained.image_size)
    return torch.randint(0, 256, shape, generator=stream, dtype=torch.uint8)


@torch.no_grad()
def _compare(trained: Trained, logits: Logits) -> tuple[float, float]:
    """The largest difference between logits of the file and of PyTorch, and PyTorch's largest absolute logit."""
    ours, theirs = [], []
    for batch in BATCHES:
        images = _random_images(trained, batch)
        ours.append(_FromPixels(trained)(images))
        theirs.append(logits(images))
    here = finite(torch.cat(ours))
    return (torch.cat(theirs) - here).abs().max().item(), here.abs().max().item()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' output; errors are still raised."""
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _example(trained: Trained) -> dict[str, Any]:
    """Trace input for the exporters: two images, with a dynamic batch size."""
    return {"args": (_random_images(trained, 2),), "dynamic_shapes": ({0: torch.export.Dim("batch")},)}


# ---- ONNX --------------------------------------------------------------------------------------------------------


def _write_onnx(trained: Trained, file: Path, metadata: Mapping[str, str]) -> None:
    program = torch.onnx.export(
        _FromPixels(trained).eval(),
        **_example(trained),
        input_names=["images"],
        output_names=["logits"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(file, external_data=False)


def _read_onnx(trained: Trained, file: Path) -> Logits:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


# ---- torch.export ------------------------------------------------------------------------------------------------


def _write_program(trained: Trained, file: Path, metadata: Mapping[str, str]) -> None:
    program = torch.export.export(_FromPixels(trained).eval(), **_example(trained))
    buffer = io.BytesIO()  # on a full disk torch's own writer aborts the process
    torch.export.save(program, buffer, extra_files={"metadata.json": json.dumps(dict(metadata))})
    file.write_bytes(buffer.getbuffer())


# ---- safetensors -------------------------------------------------------------------------------------------------


def _write_tensors(trained: Trained, file: Path, metadata: Mapping[str, str]) -> None:
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    file.write_bytes(save(tensors, metadata={"format": "pt", **metadata}))


def _read_tensors(trained: Trained, file: Path) -> Logits:
    from safetensors.torch import load_file

    network = deepcopy(trained.network)
    for tensor in network.state_dict().values():
        tensor.zero_()
    network.load_state_dict(load_file(file))
    return lambda images: network(trained.preprocess(images))


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), True, _write_onnx, _read_onnx),
    "torch_export": Format(".pt2", (), True, _write_program, lambda _, file: torch.export.load(file).module()),
    "safetensors": Format(".safetensors", ("safetensors",), False, _write_tensors, _read_tensors),
}
