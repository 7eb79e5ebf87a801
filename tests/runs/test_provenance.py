"""What a run was made with."""

import subprocess
from pathlib import Path

import pytest
import torch

from src.runs import provenance
from src.runs.escaping import plural
from src.runs.provenance import device_name, revision, versions


def test_versions_name_what_computes() -> None:
    assert versions()["torch"] == torch.__version__.partition("+")[0] or versions()["torch"] == torch.__version__
    assert {"python", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf"} <= versions().keys()


def test_the_revision_of_a_checkout() -> None:
    found, _ = revision()
    assert found == {"commit": None, "modified": None, "diff": None} or (
        len(found["commit"]) == 40 and found["modified"] in (True, False)
    )


def test_changed_and_new_files_of_code_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    code = tmp_path / "src" / "runs" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.write_text("a = 1\n")
    git("init", "-q"), git("add", "."), git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "__file__", str(code))
    clean, diff = revision()
    assert (clean["modified"], clean["diff"], diff) == (False, None, "")
    seen = {None}
    changes = {"src/runs/provenance.py": ("a = 2\n", "a = 3\n"), "src/new é.py": ("b = 1\n", "b = 2\n")}
    for name, texts in changes.items():
        for text in texts:
            (tmp_path / name).write_text(text)
            found, diff = revision()
            assert found["commit"] == clean["commit"] and found["modified"] and text in diff
            assert found["diff"] not in seen and revision() == (found, diff)
            seen.add(found["diff"])


def test_outside_a_checkout_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision() == ({"commit": None, "modified": None, "diff": None}, "")


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() == ({"commit": None, "modified": None, "diff": None}, "")


def test_devices_are_named_in_words() -> None:
    assert device_name(torch.device("cpu")).endswith(f"CPU, {plural(torch.get_num_threads(), 'thread')}")
    assert device_name(torch.device("mps")) == "mps"
