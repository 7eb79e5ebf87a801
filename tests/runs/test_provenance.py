"""The fingerprint: equal for the same experiment, different for any other."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from src.runs import provenance
from src.runs.provenance import device_name, differences, fingerprint, revision, versions

CONFIG = {
    "data": {"root": "a", "batch_size": 1, "eval_batch_size": 5, "source": {"root": "a", "_target_": "x"}, "mean": [0]},
    "model": {"_target_": "m", "skip": True},
    "optim": {"lr": 0.1},
    "schedule": {"_target_": "s"},
    "aug": {"transforms": [{"padding": 4}]},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "precision": "32-true"},
    "seed": 1,
    "label_smoothing": 0.0,
    "logger": {"name": "a"},
    "callbacks": {},
    "compile": False,
}


def put(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    config = node = deepcopy(config)
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


@pytest.mark.parametrize(
    "key",
    [
        *("data.batch_size", "data.mean", "data.source._target_", "model.skip", "model._target_", "optim.lr"),
        *("schedule._target_", "aug.transforms", "trainer.max_epochs", "trainer.precision", "seed", "label_smoothing"),
        *("trainer.limit_train_batches", "trainer.gradient_clip_val"),
    ],
)
def test_what_changes_the_result_changes_the_fingerprint(key: str) -> None:
    assert fingerprint(put(CONFIG, key, 7)) != fingerprint(CONFIG)


@pytest.mark.parametrize(
    "key",
    [
        *("data.root", "data.source.root", "data.eval_batch_size", "data.device", "trainer.accelerator"),
        *("logger", "callbacks", "compile"),
    ],
)
def test_what_does_not_does_not(key: str) -> None:
    assert fingerprint(put(CONFIG, key, 7)) == fingerprint(CONFIG)


def test_differences_are_named_with_both_values() -> None:
    other = put(put(put(CONFIG, "model.skip", False), "aug.transforms", []), "data.root", "b")
    other["optim"] = {"lr": 0.1, "momentum": 0.9}
    del other["label_smoothing"]
    assert differences(CONFIG, other) == {
        "model.skip": (True, False),
        "optim.momentum": (None, 0.9),
        "aug.transforms": ([{"padding": 4}], []),
        "label_smoothing": (0.0, None),
    }
    assert differences(CONFIG, deepcopy(CONFIG)) == {}


def test_the_order_of_keys_is_of_no_account() -> None:
    assert fingerprint(dict(reversed(CONFIG.items()))) == fingerprint(CONFIG)
    assert len(fingerprint(CONFIG)) == 64


def test_versions_name_what_computes() -> None:
    assert versions()["torch"] == torch.__version__.partition("+")[0] or versions()["torch"] == torch.__version__
    assert {"python", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf"} <= versions().keys()


def test_the_revision_of_a_checkout() -> None:
    found = revision()
    assert found == {"commit": None, "modified": None} or (
        len(found["commit"]) == 40 and found["modified"] in (True, False)
    )


def test_outside_a_checkout_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision() == {"commit": None, "modified": None}


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() == {"commit": None, "modified": None}


def test_devices_are_named_in_words() -> None:
    assert device_name(torch.device("cpu")).endswith(f"CPU, {torch.get_num_threads()} threads")
    assert device_name(torch.device("mps")) == "mps"
