"""A run folder or a checkpoint becomes a network that is ready to use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from src.inference.load import load, read_image
from src.runs.checkpoints import load_checkpoint
from src.training.build import build_data
from tests.test_readmes import ROOT, blocks

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def altered(finished: Any, tmp_path: Path) -> Callable[[Change], Path]:
    """The best checkpoint of a completed run with something changed."""

    def alter(change: Change) -> Path:
        content = finished.checkpoint("best")
        change(content)
        torch.save(content, tmp_path / "altered.ckpt")
        return tmp_path / "altered.ckpt"

    return alter


@pytest.mark.parametrize("path", [".", "checkpoints/best.ckpt"])
def test_a_loaded_network_reproduces_the_test_figures(finished: Any, path: str) -> None:
    trained = load(finished.folder / path)
    assert trained.classes == tuple("0123456789") and trained.image_size == 8
    assert trained.checkpoint == finished.folder / "checkpoints" / "best.ckpt"
    test = build_data(trained.config).test
    with torch.inference_mode():
        logits = trained.network(trained.preprocess(test.images))
    assert logits.shape == (359, 10) and logits.dtype == torch.float32
    accuracy = (logits.argmax(1) == test.labels).float().mean().item()
    assert accuracy == pytest.approx(finished.results["metrics"]["test/accuracy"], abs=1e-6)


def test_the_program_of_the_readme_runs(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = blocks(ROOT / "src/inference/README.md", "python")
    monkeypatch.chdir(tmp_path)
    for file in ("a.png", "b.jpg"):
        Image.new("RGB", (12, 9)).save(file)
    exec(program.replace("logs/train/runs/RUN", finished.folder.as_posix()), {})
    assert capsys.readouterr().out.count("'") == 4  # two class names


def test_it_is_ready_for_use_and_leaves_the_callers_draws_alone(finished: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    network = load(str(finished.folder)).network
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in network.modules())
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_preprocessing_is_that_of_training(finished: Any) -> None:
    trained = load(finished.folder)
    data = build_data(trained.config)
    images = data.test.images[:5]
    assert torch.equal(trained.preprocess(images), data.normalise(images))
    assert trained.preprocess.mean.tolist() == pytest.approx(list(trained.config.data.mean))
    assert trained.preprocess.std.tolist() == pytest.approx(list(trained.config.data.std))


def test_no_data_set_is_read(altered: Any) -> None:
    def lose_the_data(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["config"]["data"]["source"] = {
            "_target_": "src.data.image_folder.ImageFolder",
            "root": "nowhere",
        }

    assert load(altered(lose_the_data)).network(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


def test_checkpoints_from_before_the_image_size_was_kept(altered: Any) -> None:
    assert load(altered(lambda content: content["hyper_parameters"].pop("image_size"))).image_size == 8


def test_weights_are_laid_out_the_usual_way_whatever_they_were_trained_in(launch_in: Any) -> None:
    run = launch_in("channels_last=true", "trainer.max_epochs=1")
    weights = load(run.folder).network.state_dict()
    assert weights.keys() == load_checkpoint(run.folder / "checkpoints" / "best.ckpt").weights.keys()
    assert all(value.is_contiguous() for value in weights.values())


def test_a_configuration_that_would_run_foreign_code_is_refused(altered: Any, tmp_path: Path) -> None:
    def poison(content: dict[str, Any]) -> None:
        crime = {"_target_": "os.system", "command": f"touch {tmp_path / 'PWNED'}"}
        content["hyper_parameters"]["config"]["model"] = crime

    with pytest.raises(ValueError, match=r"asks for 'os\.system'"):
        load(altered(poison))
    assert not (tmp_path / "PWNED").exists()


def test_a_run_that_has_not_finished_an_epoch(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*best\.ckpt"):
        load(tmp_path)


# ---- Images --------------------------------------------------------------------------------------------


def test_an_image_file_becomes_what_the_network_saw_in_training(tmp_path: Path) -> None:
    digit = (load_digits().images[0] * 255 / 16).round().astype(np.uint8)
    Image.fromarray(digit).save(tmp_path / "0.png")
    image = read_image(tmp_path / "0.png", 8)
    assert image.dtype == torch.uint8 and torch.equal(image, torch.from_numpy(digit).expand(3, 8, 8))


def test_an_image_of_pillow_is_read_likewise_and_left_as_it_is(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=image.getexif())
    assert torch.equal(read_image(image, 8), read_image(tmp_path / "turned.png", 8))
    assert image.size == (30, 20)
