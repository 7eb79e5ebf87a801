"""What a run was made with."""

from pathlib import Path

import pytest
import torch

from src.runs import provenance
from src.runs.provenance import device_name, revision, versions


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
