"""Starting from trained weights, and training the head only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from src.models.simplecnn import SimpleCNN
from src.runs.weights import hash_of, read_weights
from src.training.initial import head_of, start_from

Launch = Callable[..., Any]


def network(num_classes: int = 10, seed: int = 0) -> SimpleCNN:
    torch.manual_seed(seed)
    return SimpleCNN(num_classes=num_classes, image_size=8)


def test_every_kind_of_file(finished: Any, tmp_path: Path) -> None:
    weights = {
        name.removeprefix("network."): value.contiguous()
        for name, value in finished.checkpoint("best")["state_dict"].items()
        if name.startswith("network.")
    }
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "b.pth")
    for path in (finished.folder, finished.folder / "checkpoints" / "best.ckpt", *sorted(tmp_path.iterdir())):
        own = network(seed=1)
        start_from(own, path)
        assert all(torch.equal(value, weights[name]) for name, value in own.state_dict().items()), path


def test_a_head_for_other_classes_is_new(finished: Any, caplog: pytest.LogCaptureFixture) -> None:
    own = network(num_classes=3, seed=1)
    start_from(own, finished.folder)
    assert torch.equal(own.conv1.weight, finished.checkpoint("best")["state_dict"]["network.conv1.weight"])
    assert torch.equal(own.fc.weight, network(num_classes=3, seed=1).fc.weight)
    assert "The head (fc.bias, fc.weight) starts anew" in caplog.text


def test_weights_of_another_network_and_other_files_get_a_sentence(finished: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"are of another network than model: 1 do not fit, such as conv1.weight\."):
        start_from(SimpleCNN(num_classes=10, image_size=8, channels=1), finished.folder)
    (tmp_path / "a.pt").write_text("weights")
    with pytest.raises(ValueError, match=r"is no file of weights"):
        start_from(network(), tmp_path / "a.pt")
    torch.save({"state_dict": {"conv1.weight": 1}}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"it has other values than tensors"):
        start_from(network(), tmp_path / "c.pt")
    with pytest.raises(FileNotFoundError, match=r"to start from \(init_from\)\.$"):
        start_from(network(), tmp_path / "b.pt")


def test_a_frozen_backbone_keeps_weights_and_averages(train: Launch) -> None:
    first = train("model.norm=batch", "trainer.max_epochs=1")
    tuned = train("model.norm=batch", f"init_from={first.folder}", "freeze=backbone", "trainer.max_epochs=1",
                  "callbacks=signals", "optim.lr=0.01")  # fmt: skip
    assert tuned.code == 0, tuned.err
    before, after = first.checkpoint("best")["state_dict"], tuned.checkpoint("last")["state_dict"]
    moved = {name for name in before if name.startswith("network.") and not torch.equal(before[name], after[name])}
    assert moved == {"network.fc.weight", "network.fc.bias"}


def test_a_hash_is_of_the_weights_and_not_of_the_file(finished: Any, tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in read_weights(finished.folder).items()}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(dict(reversed(weights.items())), tmp_path / "a.pt")
    places = (finished.folder, tmp_path / "a.safetensors", tmp_path / "a.pt")
    assert len({hash_of(place) for place in places}) == 1
    weights["fc.bias"] = weights["fc.bias"] + 1
    torch.save(weights, tmp_path / "a.pt")
    assert hash_of(tmp_path / "a.pt") != hash_of(finished.folder)


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_weights(train: Launch, resume: Launch, tmp_path: Path) -> None:
    file = tmp_path / "a.pt"

    def again(seed: int) -> Any:
        torch.save(network(seed=seed).state_dict(), file)
        quick = ("seed=1", "trainer.max_epochs=1", "logger=none", "callbacks=none", "sweep=s", f"init_from={file}")
        return train("--multirun", *quick)

    assert again(1).code == 0
    (record,) = tmp_path.glob("logs/train/sweeps/s/*/results.json")
    results = json.loads(record.read_text())
    assert results["settings"]["weights.content"] == hash_of(file)
    assert "completed before" in again(1).out
    other = again(2)
    assert other.code == 1 and "weights.content was" in other.err, other.err
    resumed = resume(record.parent, "trainer.max_epochs=2")
    assert resumed.code == 1 and "The run started from other weights than those that are now in" in resumed.err
    file.unlink()  # which a resumed run needs no more
    assert resume(record.parent, "trainer.max_epochs=2").code == 0
    assert json.loads(record.read_text())["settings"]["weights.content"] == results["settings"]["weights.content"]


def test_the_head_is_the_last_layer() -> None:
    assert head_of(network()) == "fc"
