"""The card beside an exported network says what is known of it, and no more."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown_it import MarkdownIt
from statsmodels.stats.proportion import proportion_confint

import src.export
from src.inference.load import load
from src.inference.model_card import find_evaluation, model_card
from src.runs.escaping import markdown as escape
from tests.conftest import launch

Card = Callable[..., str]


@pytest.fixture
def card(tmp_path: Path) -> Card:
    """The card of a run folder or checkpoint, as if it had been exported."""

    def write(ckpt: Path, evaluation: dict[str, Any] | None = None) -> str:
        file = tmp_path / "model.pt2"
        file.touch()
        return model_card(load(ckpt), "torch_export", file, 1.5e-6, evaluation)

    return write


def render(markdown: str) -> str:
    """To HTML, by the most trusting of readers."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


def row(card: str, name: str) -> list[str]:
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_run_folder_tells_everything(finished: Any, card: Card) -> None:
    text, results = card(finished.folder), finished.results
    assert text.startswith("# Model card: simplecnn on Digits\n")
    accuracy = results["metrics"]["test/accuracy"]
    low, high = proportion_confint(round(accuracy * 359), 359, method="wilson")
    assert row(text, "test accuracy") == [
        "test accuracy",
        f"{accuracy:.2%}",
        f"{100 * low:.1f} to {100 * high:.1f} % (n = 359)",
    ]
    assert row(text, "validation accuracy")[1] == f"{results['metrics']['val/accuracy']:.2%}"
    counts = [row(text, f"{part} images")[1] for part in ("training", "validation", "test")]
    assert counts == ["200", "144", "359"]
    assert row(text, "optimiser")[1].startswith("SGD, lr 0.02, momentum 0.9, nesterov True, weight_decay 0.0005")
    assert row(text, "epochs")[1] == f"3; these weights are from epoch {results['best_epoch']}"
    assert row(text, "run")[1] == escape(finished.folder.name)
    assert results["fingerprint"] in text and results["revision"]["commit"] in text
    assert "model.pt2, torch_export" in text and "by at most 1.5e-06" in text
    assert "Calibration was not measured" in text and "unknown" not in text
    assert str(finished.folder.parent) not in text  # where it lay is nobody else's business
    html = render(text)
    assert html.count("<table>") == 5 and html.count("<h2>") == 8 and "<li>" in html


def test_a_checkpoint_alone_tells_what_is_unknown(finished: Any, card: Card, tmp_path: Path) -> None:
    text = card(Path(shutil.copy(finished.folder / "checkpoints" / "best.ckpt", tmp_path / "moved.ckpt")))
    assert "Not known: nothing was recorded of these weights" in text
    assert "came without the run folder that made it" in text
    unknown = [row(text, name)[1] for name in ("run", "started", "code", "fingerprint", "device", "versions")]
    assert set(unknown) == {"unknown"}
    assert row(text, "optimiser")[1].startswith("SGD") and row(text, "training images")[1] == "200"


def test_figures_of_another_epoch_are_not_borrowed(copy_of_finished: Any, card: Card) -> None:
    folder, results = copy_of_finished.folder, copy_of_finished.results
    best = folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    content["epoch"] += 1
    torch.save(content, best)
    text = card(folder)
    assert f"{results['metrics']['test/accuracy']:.2%}" not in text and "Not known: nothing was recorded" in text
    assert results["fingerprint"] in text


def test_a_run_folder_of_another_configuration_is_not_asked(copy_of_finished: Any, card: Card) -> None:
    results = copy_of_finished.results
    results["config"]["seed"] += 1
    (copy_of_finished.folder / "results.json").write_text(json.dumps(results))
    assert "came without the run folder that made it" in card(copy_of_finished.folder)


def test_the_score_that_chose_the_epoch_is_named(copy_of_finished: Any, card: Card) -> None:
    folder, results = copy_of_finished.folder, copy_of_finished.results
    assert row(card(folder), "validation accuracy")[0].endswith(", by whose highest value the epoch was chosen")
    best = folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    for config in (content["hyper_parameters"]["config"], results["config"]):
        config["score"] = "-val/loss"
    torch.save(content, best)
    (folder / "results.json").write_text(json.dumps(results))
    text = card(folder)
    assert row(text, "validation loss")[:2] == [
        "validation loss (cross-entropy), by whose lowest value the epoch was chosen",
        f"{results['metrics']['val/loss']:.4f}",
    ]
    assert row(text, "validation accuracy")[0] == "validation accuracy"


def test_what_makes_a_figure_doubtful_is_said(copy_of_finished: Any, card: Card) -> None:
    folder, results = copy_of_finished.folder, copy_of_finished.results
    best = folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    for config in (content["hyper_parameters"]["config"], results["config"]):
        config["data"]["val_size"] = "test"
        config["trainer"]["limit_test_batches"] = 1
    torch.save(content, best)
    (folder / "results.json").write_text(json.dumps(results | {"status": "failed"}))
    text = card(folder)
    assert "chosen by the test images themselves" in text and "this was a quick try" in text
    assert "has not completed (its status: failed)" in text
    assert row(text, "test accuracy")[2] == "n unknown"


# ------------------------------------------------------------------------------------------------------------
# The evaluation
# ------------------------------------------------------------------------------------------------------------

EVALUATION = {
    "images": 100,
    "metrics": {"test/accuracy": 0.5, "test/loss": 1.25},
    "tta": [{"name": "flip", "accuracy": 0.75, "accuracy_interval": [0.6569, 0.8248], "ece": 0.0321}],
    "corruptions": [
        {"corruption": "jpeg", "severity": severity, "accuracy": 0.5 - severity / 20, "accuracy_interval": [0.1, 0.4]}
        for severity in range(1, 6)
    ],
}


def test_an_evaluation_is_told(finished: Any, card: Card) -> None:
    text = card(finished.folder, EVALUATION)
    assert row(text, "test accuracy |")[1:] == ["50.00%", "40.4 to 59.6 % (n = 100)"]
    assert row(text, "test accuracy, tta=flip")[1:] == ["75.00%", "65.7 to 82.5 % (n = 100)"]
    assert row(text, "expected calibration error, tta=flip")[1] == "3.21%"
    assert row(text, "test accuracy under jpeg, severity 5")[1:] == ["25.00%", "10.0 to 40.0 % (n = 100)"]
    assert "Calibration was not measured" not in text and "It was not tried on noisy" not in text


def test_other_images_are_called_so(finished: Any, card: Card) -> None:
    other = {"_target_": "src.data.image_folder.ImageFolder", "root": "people/someone/photos", "image_size": 8}
    text = card(finished.folder, EVALUATION | {"other_images": other})
    assert row(text, "test accuracy on other images: ImageFolder, photos |")[1] == "50.00%"
    assert f"{finished.results['metrics']['test/accuracy']:.2%}" not in text and "someone" not in text


def test_the_latest_evaluation_of_this_checkpoint_is_found(copy_of_finished: Any, tmp_path: Path) -> None:
    best = copy_of_finished.folder / "checkpoints" / "best.ckpt"
    with contextlib.chdir(tmp_path):
        assert find_evaluation(best, None) is None
        for name, ckpt, other in (
            ("1", best, None),
            ("2", copy_of_finished.folder, None),
            ("3", best.with_name("last.ckpt"), None),
            ("4", "elsewhere", None),
            ("5", best, {"_target_": "src.data.digits.Digits"}),
        ):
            file = tmp_path / "logs" / "eval" / "runs" / name / "eval.json"
            file.parent.mkdir(parents=True)
            content = {"ckpt": str(ckpt), "other_images": other, "metrics": {"test/loss": int(name)}}
            file.write_text(json.dumps(content | {"images": 1}))
        (tmp_path / "logs" / "eval" / "eval.json").write_text("[not JSON")
        found = find_evaluation(best, None)
        assert found is not None and found["metrics"] == {"test/loss": 2}
        best.touch()  # trained anew since
        assert find_evaluation(best, None) is None


@pytest.mark.parametrize("content", ["{}", "nonsense", "[]", '{"ckpt": "other.ckpt", "metrics": {}}', None])
def test_an_evaluation_that_is_none_stops_the_export(finished: Any, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "eval.json"
    if content is not None:
        file.write_text(content)
    run = launch(src.export.main, tmp_path, f"ckpt={finished.folder}", f"eval={file}", "out=given")
    assert run.code == 1 and run.err.count("\n") == 1
    assert f"There is no evaluation {file}" in run.err or f"{file} is no evaluation of" in run.err
    assert not (tmp_path / "given").exists()


# ------------------------------------------------------------------------------------------------------------
# What it quotes may be a stranger's
# ------------------------------------------------------------------------------------------------------------

QUOTED = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![](http://tracker.example/x.png)",
    "<http://tracker.example>",
    "https://tracker.example www.tracker.example mail@tracker.example",
    "a | b",
    "`code` ``` *bold* _it_ ~~gone~~ $x$",
    "\n\n# heading\n\n<div>\n\n| x |",
    "\\[x](y)",
    "&lt;script&gt;",
    "\u202eecnelis",
]


@pytest.mark.parametrize("text", QUOTED)
def test_quoted_text_stays_text(text: str) -> None:
    html = render(f"| a | b |\n| --- | --- |\n| {escape(text)} | c |")
    assert re.findall(r"<(?!/?(?:table|thead|tbody|tr|th|td)\b)[^>]*>", html) == []
    assert html.count("<td>") == 2 and html.count("<tr>") == 2
    assert not re.search(r"://|www\.|\w@", escape(text))  # which readers make links of


def test_a_strangers_names_change_nothing_in_the_card(copy_of_finished: Any, card: Card) -> None:
    folder, results = copy_of_finished.folder, copy_of_finished.results
    best = folder / "checkpoints" / "best.ckpt"
    before = re.sub(r">[^<]*<", "><", render(card(folder)))
    evil = " ".join(QUOTED)
    content = torch.load(best, weights_only=True)
    content["hyper_parameters"]["classes"] = [f"{evil}{i}" for i in range(10)]
    for config in (content["hyper_parameters"]["config"], results["config"]):
        config["schedule"]["name"] = evil
        config["trainer"]["precision"] = evil.replace("://", ":")  # an address is refused there
    torch.save(content, best)
    results["choices"]["model"] = evil
    results["revision"]["commit"] = results["started"] = results["device"] = results["fingerprint"] = evil
    (folder / "results.json").write_text(json.dumps(results))
    assert re.sub(r">[^<]*<", "><", render(card(folder))) == before


def test_a_model_named_like_a_path_leads_nowhere(copy_of_finished: Any, tmp_path: Path) -> None:
    best = copy_of_finished.folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    content["hyper_parameters"]["classes"] = [f"../../escaped{i}" for i in range(10)]
    torch.save(content, best)
    cwd = tmp_path / "a" / "b" / "c"
    cwd.mkdir(parents=True)
    run = launch(src.export.main, cwd, f"ckpt={best}", "format=torch_export", "out=given")
    assert run.code == 0, run.err
    assert sorted(file.name for file in cwd.rglob("*")) == ["given", "model.pt2", "model.pt2.md"]
    assert not list(tmp_path.rglob("*escaped*"))


def test_what_the_recipe_has_no_row_for_is_listed(train: Callable[..., Any], card: Card) -> None:
    run = train("average=ema", "trainer.gradient_clip_val=0.5", "callbacks=early_stopping")
    more = row(card(run.folder), "also")[1]
    assert "average.decay 0.999" in more and "trainer.gradient_clip_val 0.5" in more
    assert "callbacks.early_stopping.patience" in more and "optim." not in more
    assert row(card(train().folder), "also")[1] == "trainer.accumulate_grad_batches 1"
