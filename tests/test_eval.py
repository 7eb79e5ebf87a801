"""A checkpoint is tested again from the checkpoint alone."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

Launch = Callable[..., Any]


def read_eval(cwd: Path) -> dict[str, Any]:
    (file,) = cwd.glob("logs/eval/runs/*/eval.json")
    return json.loads(file.read_text())


def in_test(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


@pytest.fixture
def checkpoint(finished: Any, tmp_path: Path) -> Path:
    """The best checkpoint of a completed run, moved elsewhere alone."""
    return Path(shutil.copy(finished.folder / "checkpoints" / "best.ckpt", tmp_path / "moved.ckpt"))


@pytest.fixture
def altered(checkpoint: Path) -> Callable[..., Path]:
    """The same with something changed: ``change`` gets what it holds."""

    def alter(change: Callable[[dict[str, Any]], None]) -> Path:
        content = torch.load(checkpoint, weights_only=True)
        change(content)
        torch.save(content, checkpoint)
        return checkpoint

    return alter


def test_the_test_figures_are_reproduced_exactly(
    finished: Any, evaluate: Launch, checkpoint: Path, tmp_path: Path
) -> None:
    run = evaluate(f"ckpt={checkpoint}", "trainer=cpu")
    assert run.code == 0 and run.err == ""
    told = read_eval(tmp_path)
    assert told["metrics"] == in_test(finished.results["metrics"])
    assert told["ckpt"] == str(checkpoint)
    assert f"test accuracy {told['metrics']['test/accuracy']:.2%}, loss {told['metrics']['test/loss']:.4f}\n" in run.out
    assert run.out.rstrip().endswith("eval.json")
    assert Path(run.out.splitlines()[-1]).read_text()


def test_other_images_are_normalised_as_those_it_learned_from(
    finished: Any, evaluate: Launch, checkpoint: Path, tmp_path: Path
) -> None:
    override = ["data=digits", "data.image_size=8", "data.mean=[0,0,0]", "data.std=[1,1,1]", "data.eval_batch_size=359"]
    assert evaluate(f"ckpt={checkpoint}", *override).code == 0
    assert read_eval(tmp_path)["metrics"] == in_test(finished.results["metrics"])


def test_a_last_checkpoint_can_be_tested_too(finished: Any, evaluate: Launch, tmp_path: Path) -> None:
    assert evaluate(f"ckpt={finished.folder / 'checkpoints' / 'last.ckpt'}").code == 0
    assert 0 <= read_eval(tmp_path)["metrics"]["test/accuracy"] <= 1


def test_another_precision_can_be_asked_for(finished: Any, evaluate: Launch, checkpoint: Path, tmp_path: Path) -> None:
    assert evaluate(f"ckpt={checkpoint}", "trainer.precision=bf16-mixed").code == 0
    loss = read_eval(tmp_path)["metrics"]["test/loss"]
    assert loss != finished.results["metrics"]["test/loss"]
    assert loss == pytest.approx(finished.results["metrics"]["test/loss"], rel=0.01)


# ------------------------------------------------------------------------------------------------------------
# What is no checkpoint, or not one for these images
# ------------------------------------------------------------------------------------------------------------


def assert_one_sentence(run: Any, *fragments: str) -> None:
    assert run.code == 1
    assert all(fragment in run.err for fragment in fragments), run.err
    assert run.err.count("\n") == 1 and "Traceback" not in run.err


def test_no_checkpoint_given(evaluate: Launch) -> None:
    assert_one_sentence(evaluate(), "Name a checkpoint: python -m src.eval ckpt=<run folder>/checkpoints/best.ckpt")


@pytest.mark.parametrize("path", ["nowhere.ckpt", "."])
def test_no_such_file(evaluate: Launch, path: str) -> None:
    assert_one_sentence(evaluate(f"ckpt={path}"), f"There is no checkpoint {path}; a run keeps its own in")


class Malicious:
    """Unpickling this runs a command."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("kind", ["noise", "nothing", "text", "weights", "other trainer", "pickle", "pickle in torch"])
def test_a_file_that_is_no_checkpoint(evaluate: Launch, tmp_path: Path, kind: str) -> None:
    file, crime = tmp_path / "file.ckpt", tmp_path / "PWNED"
    match kind:
        case "noise":
            file.write_bytes(np.random.default_rng(0).bytes(1000))
        case "nothing":
            file.touch()
        case "text":
            file.write_text("ckpt")
        case "weights":
            torch.save({"weight": torch.zeros(2)}, file)
        case "other trainer":
            torch.save({"state_dict": {}, "hyper_parameters": {"lr": 1}}, file)
        case "pickle":
            file.write_bytes(pickle.dumps(Malicious(crime)))
        case "pickle in torch":
            torch.save({"state_dict": {}, "hyper_parameters": {"config": Malicious(crime), "classes": []}}, file)
    assert_one_sentence(evaluate(f"ckpt={file}"), f"{file} is no checkpoint of this project, or it is damaged")
    assert not crime.exists()


def test_a_checkpoint_whose_configuration_would_run_foreign_code(
    evaluate: Launch, altered: Any, tmp_path: Path
) -> None:
    def poison(content: dict[str, Any]) -> None:
        crime = {"_target_": "os.system", "command": f"touch {tmp_path / 'PWNED'}"}
        content["hyper_parameters"]["config"]["model"] = crime

    assert_one_sentence(evaluate(f"ckpt={altered(poison)}"), "asks for 'os.system'", "it was not built")
    assert not (tmp_path / "PWNED").exists()


def test_a_checkpoint_of_another_model(evaluate: Launch, altered: Any) -> None:
    def exchange(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["config"]["model"]["_target_"] = "src.models.deepcnn.DeepCNN"

    assert_one_sentence(evaluate(f"ckpt={altered(exchange)}"), "weights do not fit src.models.deepcnn.DeepCNN")


def test_images_of_a_size_that_the_network_does_not_admit(evaluate: Launch, checkpoint: Path) -> None:
    run = evaluate(f"ckpt={checkpoint}", "data=digits", "data.image_size=16")
    assert_one_sentence(run, "images of 16 x 16 pixels; use images of the size it was trained on")


def test_classes_that_differ(evaluate: Launch, checkpoint: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "1.png")
    run = evaluate(f"ckpt={checkpoint}", "data=image_folder", f"data.root={tmp_path / 'images'}", "data.image_size=8")
    assert run.code == 1 and "Traceback" not in run.err
    assert run.err.splitlines()[-1] == (  # below the progress bars of decoding
        "The checkpoint was trained on the classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, but the data have cat, dog; "
        "evaluate on data with the same classes."
    )


def test_debug_shows_the_trace(evaluate: Launch) -> None:
    run = evaluate("ckpt=nowhere.ckpt", "debug=true")
    assert run.code == 1 and run.err.startswith("Traceback") and "load_checkpoint" in run.err
