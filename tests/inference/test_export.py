"""A trained network leaves in a format that others read, and computes the same there."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from safetensors import safe_open
from torch import Tensor

import src.export
from src.inference.formats import FORMATS, export
from src.inference.load import Trained, load
from tests.conftest import launch

Launch = Callable[..., Any]
EXTRAS = ("onnx", "onnxscript", "onnxruntime", "safetensors")


@pytest.fixture(scope="module")
def exported(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """What the command left behind, for every format: what it printed, and the file."""
    cwd = tmp_path_factory.mktemp("export")
    runs = {}
    for format, form in FORMATS.items():
        run = launch(src.export.main, cwd, f"ckpt={finished.folder}", f"format={format}", "out=given")
        runs[format] = run, cwd / "given" / f"model{form.suffix}"
    return runs


@pytest.fixture(scope="module")
def trained(finished: Any) -> Trained:
    return load(finished.folder)


def some_images(batch: int) -> Tensor:
    return torch.randint(0, 256, (batch, 3, 8, 8), generator=torch.Generator().manual_seed(99), dtype=torch.uint8)


@pytest.mark.parametrize("format", FORMATS)
def test_the_command_says_what_it_did_and_nothing_else(exported: Any, format: str) -> None:
    run, file = exported[format]
    assert run.code == 0 and run.err == ""
    verified, model, card = run.out.splitlines()
    assert verified.startswith("verified: logits differ from PyTorch's by at most ")
    assert float(verified.split()[8]) <= 1e-4 and "(allowed: 1e-04), over batches of 1, 2, 7 random images" in verified
    assert model == f"given/{file.name}  {file.stat().st_size / 1e6:.1f} MB"
    assert card == f"given/{file.name}.md" and (file.parent / f"{file.name}.md").is_file()
    assert len(list(file.parent.iterdir())) == 2 * len(FORMATS)  # nothing half-finished


@pytest.mark.parametrize("batch", [1, 2, 7, 13])
def test_onnx_takes_pixels_in_batches_of_any_size(exported: Any, trained: Trained, batch: int) -> None:
    session = onnxruntime.InferenceSession(exported["onnx"][1])
    images = some_images(batch)
    (logits,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = trained.network(trained.preprocess(images))
    torch.testing.assert_close(torch.from_numpy(logits), ours, rtol=0, atol=1e-4)
    assert batch == 1 or ours.std(dim=0).max() > 0.01  # not the same for all images


def test_onnx_is_one_valid_file(exported: Any) -> None:
    onnx.checker.check_model(exported["onnx"][1], full_check=True)
    (entry,) = onnx.load(exported["onnx"][1], load_external_data=False).graph.input
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim] == ["batch", 3, 8, 8]


@pytest.mark.parametrize("format", FORMATS)
def test_constants_and_classes_are_in_the_metadata(exported: Any, trained: Trained, format: str) -> None:
    file = exported[format][1]
    match format:
        case "onnx":
            raw = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
        case "torch_export":
            extra = {"metadata.json": ""}
            torch.export.load(file, extra_files=extra)
            raw = json.loads(extra["metadata.json"])
        case "safetensors":
            with safe_open(file, "pt") as content:
                raw = content.metadata()
    metadata = {key: json.loads(value) for key, value in raw.items() if key != "format"}
    assert metadata["classes"] == list("0123456789") and metadata["image_size"] == 8
    assert metadata["mean"] == list(trained.config.data.mean) and metadata["std"] == list(trained.config.data.std)
    assert metadata["output"] == "logits: float32 [batch, 10]"
    assert ("uint8" in metadata["input"]) == (format != "safetensors")
    assert instantiate(OmegaConf.create(metadata["model"])).state_dict().keys() == trained.network.state_dict().keys()


@pytest.mark.parametrize("format", FORMATS)
def test_the_program_in_the_card_runs(exported: Any, trained: Trained, format: str, tmp_path: Path) -> None:
    card = (exported[format][1].parent / f"{exported[format][1].name}.md").read_text()
    program = card.partition("```python\n")[2].partition("```")[0]
    pixels = some_images(1)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    (tmp_path / exported[format][1].name).symlink_to(exported[format][1])
    screen = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(screen):
        exec(compile(program, "card", "exec"), {})
    predicted = trained.network(trained.preprocess(pixels)).argmax().item()
    assert screen.getvalue() == f"{trained.classes[predicted]}\n"


def test_the_card_of_a_grey_network_is_of_one_channel(launch_in: Any, tmp_path: Path) -> None:
    run = launch_in("data.channels=1", "trainer.max_epochs=1", "logger=none", "callbacks=none")
    done = launch(src.export.main, tmp_path, f"ckpt={run.folder}", "format=safetensors", f"out={tmp_path}")
    assert done.code == 0, done.err
    card = (tmp_path / "model.safetensors.md").read_text()
    assert "float32 [batch, 1, 8, 8], grey" in card and "[batch, 3," not in card and "red, green" not in card
    pixels = some_images(1)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    screen = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(screen):
        exec(compile(card.partition("```python\n")[2].partition("```")[0], "card", "exec"), {})
    trained = load(run.folder)
    assert screen.getvalue() == f"{trained.network(trained.preprocess(pixels)).argmax().item()}\n"


# ------------------------------------------------------------------------------------------------------------
# Other networks
# ------------------------------------------------------------------------------------------------------------


def freshly_initialised(trained: Trained, **model: Any) -> Trained:
    config = trained.config.copy()
    config.model = model
    network = instantiate(config.model, num_classes=10, image_size=8)
    return replace(trained, network=network.eval(), config=config)


@pytest.mark.parametrize(
    "model",
    [
        {"_target_": "src.models.resnet.resnet20"},  # strided slices, padded channels
        {"_target_": "src.models.resnet.resnet10", "norm": "none"},
        {"_target_": "src.models.deepcnn.DeepCNN", "skip": True, "norm": "batch"},
    ],
    ids=lambda model: model["_target_"].rpartition(".")[2],
)
@pytest.mark.parametrize("format", ["torch_export", "safetensors"])
def test_other_backbones(trained: Trained, tmp_path: Path, model: dict[str, Any], format: str) -> None:
    difference, _ = export(freshly_initialised(trained, **model), format, tmp_path / "model.pt2", tolerance=1e-4)
    assert difference <= 1e-4


def test_a_residual_network_in_onnx(trained: Trained, tmp_path: Path) -> None:
    network = freshly_initialised(trained, _target_="src.models.resnet.resnet20")
    difference, _ = export(network, "onnx", tmp_path / "model.onnx", tolerance=1e-4)
    assert difference <= 1e-4


# ------------------------------------------------------------------------------------------------------------
# What goes wrong
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["safetensors", "torch_export"])
@pytest.mark.parametrize("wrong", ["a little", "nan"])
def test_what_computes_something_else_is_not_kept(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, wrong: str
) -> None:
    write = FORMATS[format].write

    def falsely(trained: Trained, *arguments: Any) -> None:
        altered = freshly_initialised(trained, **OmegaConf.to_container(trained.config.model))  # type: ignore[arg-type]
        altered.network.load_state_dict(trained.network.state_dict())
        with torch.no_grad():
            altered.network.fc.bias[3] += 2e-4 if wrong == "a little" else torch.nan
        write(altered, *arguments)

    monkeypatch.setitem(FORMATS, format, replace(FORMATS[format], write=falsely))
    with pytest.raises(ValueError, match=r"the logits differ by up to (2.0e-04|nan) .* the file was not kept"):
        export(trained, format, tmp_path / "model.pt2", tolerance=1e-4)
    assert not list(tmp_path.iterdir())
    if wrong == "a little":
        difference, allowed = export(trained, format, tmp_path / "model.pt2", tolerance=1e-3)
        assert difference == pytest.approx(2e-4, rel=0.01) and allowed == 1e-3


def test_large_logits_have_no_digits_for_the_tolerance(trained: Trained, tmp_path: Path) -> None:
    network = freshly_initialised(trained, _target_="src.models.resnet.resnet20")
    with torch.no_grad():
        network.network.fc.weight *= 1e6
    difference, allowed = export(network, "torch_export", tmp_path / "model.pt2", tolerance=1e-4)
    assert difference <= allowed and 0.1 < allowed < 100


def assert_one_sentence(run: Any, *fragments: str) -> None:
    assert run.code == 1
    assert all(fragment in run.err for fragment in fragments), run.err
    assert run.err.count("\n") == 1 and "Traceback" not in run.err


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)  # as if they were not installed
    yield


@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_without_the_extra_one_sentence_says_how_to_install_it(
    finished: Any, tmp_path: Path, without_extras: None, format: str
) -> None:
    run = launch(src.export.main, tmp_path, f"ckpt={finished.folder}", f"format={format}")
    assert_one_sentence(run, f"format={format} takes {format}", "uv sync --extra export", f"pip install {format}")
    assert not list(tmp_path.iterdir())


def test_torch_export_and_its_card_need_no_extra(finished: Any, tmp_path: Path, without_extras: None) -> None:
    run = launch(src.export.main, tmp_path, f"ckpt={finished.folder}", "format=torch_export")
    assert run.code == 0, run.err
    (file,) = tmp_path.glob("logs/export/*/model.pt2")
    assert file.with_name("model.pt2.md").is_file()


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.md"])
def test_nothing_is_overwritten(finished: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    out = tmp_path / "model.safetensors"
    run = launch(src.export.main, tmp_path, f"ckpt={finished.folder}", "format=safetensors", f"out={out}")
    assert_one_sentence(run, f"{tmp_path / name} is there already and is not overwritten")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_a_format_that_is_none(finished: Any, tmp_path: Path) -> None:
    run = launch(src.export.main, tmp_path, f"ckpt={finished.folder}", "format=pickle")
    assert_one_sentence(run, "format is 'pickle'; expected onnx, torch_export, safetensors.")


@pytest.mark.parametrize("tolerance", ["-1", "much", "null"])
def test_a_tolerance_that_is_none(finished: Any, tmp_path: Path, tolerance: str) -> None:
    run = launch(src.export.main, tmp_path, f"ckpt={finished.folder}", f"tolerance={tolerance}")
    assert_one_sentence(run, "tolerance is", "expected a number, 0 or more")


def test_no_checkpoint_given(tmp_path: Path) -> None:
    assert_one_sentence(launch(src.export.main, tmp_path), "Name a run folder or a checkpoint: python -m src.export")
    assert_one_sentence(launch(src.export.main, tmp_path, "ckpt=no.ckpt"), "There is no checkpoint no.ckpt")
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_is_no_checkpoint(exported: Any, tmp_path: Path) -> None:
    file = exported["onnx"][1]
    assert_one_sentence(launch(src.export.main, tmp_path, f"ckpt={file}"), f"{file} is no checkpoint of this project")


def test_preprocessing_in_the_file_is_that_of_training(trained: Trained) -> None:
    values = np.array([0, 1, 128, 255], dtype=np.uint8)
    images = torch.from_numpy(np.broadcast_to(values[:, None, None, None], (4, 3, 8, 8)).copy())
    mean, std = (torch.tensor(list(c)).view(3, 1, 1) for c in (trained.config.data.mean, trained.config.data.std))
    torch.testing.assert_close(trained.preprocess(images), (images / 255 - mean) / std)
