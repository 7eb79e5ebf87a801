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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.augment.corruptions import CORRUPTIONS
from src.inference.load import load
from src.training.build import build_data

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
    assert told["ckpt"] == str(checkpoint) and told["other_images"] is None
    assert f"test accuracy {told['metrics']['test/accuracy']:.2%}, loss {told['metrics']['test/loss']:.4f}\n" in run.out
    assert run.out.rstrip().endswith("eval.json")
    assert (tmp_path / run.out.splitlines()[-1]).read_text()


def test_other_images_are_normalised_as_those_it_learned_from(
    finished: Any, evaluate: Launch, checkpoint: Path, tmp_path: Path
) -> None:
    override = ["data=digits", "data.image_size=8", "data.mean=[0,0,0]", "data.std=[1,1,1]", "data.eval_batch_size=359"]
    assert evaluate(f"ckpt={checkpoint}", *override).code == 0
    assert read_eval(tmp_path)["metrics"] == in_test(finished.results["metrics"])
    assert read_eval(tmp_path)["other_images"] == {"_target_": "src.data.digits.Digits", "image_size": 8}


def test_an_empty_choice_of_test_time_augmentation_is_none(
    finished: Any, evaluate: Launch, checkpoint: Path, tmp_path: Path
) -> None:
    assert evaluate(f"ckpt={checkpoint}", "tta=[]", "trainer=cpu").code == 0
    assert read_eval(tmp_path)["metrics"] == in_test(finished.results["metrics"])
    assert [row["name"] for row in read_eval(tmp_path)["tta"]] == ["none"]


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
    assert_one_sentence(evaluate(), "Name a checkpoint: python -m src.eval ckpt=RUN")


@pytest.mark.parametrize(("path", "file"), [("nowhere.ckpt", "nowhere.ckpt"), (".", "checkpoints/best.ckpt")])
def test_no_such_file(evaluate: Launch, path: str, file: str) -> None:
    assert_one_sentence(evaluate(f"ckpt={path}"), f"There is no checkpoint {file}; a run keeps its own in")


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


# ------------------------------------------------------------------------------------------------------------
# The full evaluation
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(evaluated: Any) -> dict[str, Any]:
    """Its eval.json."""
    return json.loads((evaluated.folder / "eval.json").read_text())


@pytest.fixture(scope="module")
def logits(finished: Any) -> Callable[..., torch.Tensor]:
    """What the network says of the test images ([359, 10], float64), after a change to them."""
    trained = load(finished.folder)
    images = build_data(trained.config).test.images

    @torch.inference_mode()
    def logits(change: Callable[[torch.Tensor], torch.Tensor] = lambda images: images) -> torch.Tensor:
        return trained.network(trained.preprocess(change(images))).double()

    return logits


@pytest.fixture(scope="module")
def labels(finished: Any) -> torch.Tensor:
    return build_data(load(finished.folder).config).test.labels


def test_each_augmentation_is_measured_and_the_plain_network_comes_first(
    finished: Any, told: dict[str, Any], logits: Any, labels: torch.Tensor
) -> None:
    none, flip, flip_shift = told["tta"]
    assert [(row["name"], row["views"]) for row in told["tta"]] == [("none", 1), ("flip", 2), ("flip_shift", 6)]
    assert told["metrics"] == in_test(finished.results["metrics"]) and told["images"] == 359
    assert none["accuracy"] == pytest.approx(told["metrics"]["test/accuracy"], abs=1e-6)
    assert none["nll"] == pytest.approx(told["metrics"]["test/loss"], abs=1e-6)
    assert all(row["images_per_second"] > 0 for row in told["tta"])
    assert none["images_per_second"] > flip["images_per_second"] > flip_shift["images_per_second"]

    plain, mirrored = logits(), logits(lambda images: images.flip(-1))
    both = (plain.softmax(1) + mirrored.softmax(1)) / 2
    padded = [logits(lambda images, d=d: images[:, :, reflected(d)][:, :, :, reflected(d)]) for d in (-1, 1)]
    turned = [logits(lambda images, d=d: images.flip(-1)[:, :, reflected(d)][:, :, :, reflected(d)]) for d in (-1, 1)]
    moved = sum(each.softmax(1) for each in (*padded, *turned)) / 4
    for row, probabilities in ((none, plain.softmax(1)), (flip, both), (flip_shift, (both + moved) / 2)):
        right = probabilities.argmax(1) == labels
        assert row["accuracy"] == right.double().mean().item()
        assert row["nll"] == pytest.approx(-probabilities.log()[range(359), labels].mean().item(), rel=1e-5)
        if row is not none:
            before = plain.argmax(1) == labels
            assert row["won"] == (right & ~before).sum() and row["lost"] == (~right & before).sum()
            assert row["gain"] == pytest.approx(row["accuracy"] - none["accuracy"])
            assert row["gain_interval"][0] <= row["gain"] <= row["gain_interval"][1]


def reflected(shift: int) -> list[int]:
    """The rows of an 8-pixel image that is moved down by a pixel, or up."""
    return [1, 0, 1, 2, 3, 4, 5, 6] if shift == 1 else [1, 2, 3, 4, 5, 6, 7, 6]


def test_logits_can_be_averaged_instead(
    finished: Any, evaluate: Launch, logits: Any, labels: torch.Tensor, tmp_path: Path
) -> None:
    assert evaluate(f"ckpt={finished.folder}", "trainer=cpu", "tta=flip", "tta.average=logits").code == 0
    told = read_eval(tmp_path)
    log_probabilities = (logits() + logits(lambda images: images.flip(-1))).div(2).log_softmax(1)
    assert told["tta"][1]["nll"] == pytest.approx(-log_probabilities[range(359), labels].mean().item(), rel=1e-5)
    assert told["primary"] == "flip" and told["averaged"] == "logits"


def test_details_are_those_of_the_augmentation_named_first(
    told: dict[str, Any], logits: Any, labels: torch.Tensor
) -> None:
    assert told["primary"] == "flip"
    confusion = np.array(told["confusion"])
    predicted = (logits().softmax(1) + logits(lambda images: images.flip(-1)).softmax(1)).argmax(1)
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (labels.numpy(), predicted.numpy()), 1)
    assert (confusion == counts).all()
    assert confusion.sum(axis=1).tolist() == labels.bincount().tolist() == [row["images"] for row in told["by_class"]]
    assert confusion.trace() / 359 == told["tta"][1]["accuracy"]
    for i, row in enumerate(told["by_class"]):
        assert row["class"] == str(i) and row["recall"] == pytest.approx(confusion[i, i] / row["images"])
    bins = told["reliability"]
    assert sum(row["images"] for row in bins) == 359
    ece = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / 359
    assert ece == pytest.approx(told["tta"][1]["ece"])


def test_accuracy_under_each_corruption_and_severity(told: dict[str, Any], logits: Any, labels: torch.Tensor) -> None:
    rows = told["corruptions"]
    named = [(row["corruption"], row["severity"]) for row in rows]
    assert named == [(name, severity) for name in ("jpeg", "contrast") for severity in range(1, 6)]
    for row in (rows[2], rows[9]):

        def harm(images: torch.Tensor, row: dict[str, Any] = row) -> torch.Tensor:
            return CORRUPTIONS[row["corruption"]](images, torch.arange(359), row["severity"])

        plain, mirrored = logits(harm), logits(lambda images: harm(images).flip(-1))
        right = (plain.softmax(1) + mirrored.softmax(1)).argmax(1) == labels
        assert row["accuracy"] == right.double().mean().item()
        assert row["accuracy_interval"][0] < row["accuracy"] < row["accuracy_interval"][1]


def test_figures_and_events(evaluated: Any, told: dict[str, Any]) -> None:
    figures = ("reliability", "confusion", "mistakes", "corruptions")
    for name in figures:
        with Image.open(evaluated.folder / f"{name}.png") as image:
            assert image.width > 400 and len(image.convert("RGB").getcolors(10**6)) > 10
    events = EventAccumulator(str(evaluated.folder)).Reload()
    assert {f"evaluation/{name}" for name in figures} == set(events.Tags()["images"])
    (accuracy,) = events.Scalars("accuracy/tta_flip")
    assert accuracy.value == pytest.approx(told["tta"][1]["accuracy"])
    assert [event.step for event in events.Scalars("accuracy_corrupted/jpeg")] == [1, 2, 3, 4, 5]
    assert len(events.Tensors("evaluation/by_class/text_summary")) == 1


def test_the_screen_says_it_all(evaluated: Any, told: dict[str, Any]) -> None:
    assert evaluated.code == 0 and evaluated.err == ""
    flip = told["tta"][1]
    scores, gain = (line.split() for line in evaluated.out.splitlines() if line.startswith("flip "))
    low, high = (f"{100 * bound:.2f}" for bound in flip["accuracy_interval"])
    assert scores[:6] == ["flip", "2", f"{100 * flip['accuracy']:.2f}", low, "to", high]
    low, high = (f"{100 * bound:+.2f}" for bound in flip["gain_interval"])
    counts = [str(flip["won"]), "/", str(flip["lost"])]
    assert gain == ["flip", f"{100 * flip['gain']:+.2f}", low, "to", high, *counts, f"{flip['p']:.2g}"]
    assert str(evaluated.folder / "eval.json").endswith(evaluated.out.splitlines()[-1])


def test_a_quick_try_on_a_few_batches(finished: Any, evaluate: Launch, tmp_path: Path) -> None:
    override = ["data=digits", "data.image_size=8", "data.eval_batch_size=50", "trainer.limit_test_batches=2"]
    assert evaluate(f"ckpt={finished.folder}", *override).code == 0
    assert read_eval(tmp_path)["images"] == 100


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            "corruptions=[fog]",
            "corruptions is ['fog']; expected true, false or a list of gaussian_noise, gaussian_blur",
        ),
        ("tta.average=votes", "tta.average is 'votes'; expected one of probabilities, logits."),
        ("trainer.devices=2", "trainer.devices is 2; a network is used on one device."),
    ],
)
def test_a_setting_that_makes_no_sense(finished: Any, evaluate: Launch, option: str, sentence: str) -> None:
    assert_one_sentence(evaluate(f"ckpt={finished.folder}", "trainer=cpu", option), sentence)
