"""All runs of a sweep are tested again, as a sweep whose factor is test-time augmentation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.eval
import src.report
import src.train
from src.analysis.table import load_runs, varying_factors
from src.runs.outcomes import load_outcomes
from tests.conftest import TINY, Run, launch

Launch = Callable[..., Any]
TESTED = Path("logs/eval/sweeps/s-tested")
JOBS = [f"aug={aug},model=simplecnn,optim.lr=0.02,seed={seed}" for aug in ("none", "basic") for seed in (1, 2)]


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A sweep of two augmentations and two seeds, and its evaluation with the mirror image."""
    cwd = tmp_path_factory.mktemp("swept")
    grid = ("--multirun", "aug=none,basic", "seed=1,2", "sweep=s", "trainer.max_epochs=3", "optim.lr=0.02")
    assert launch(src.train.main, cwd, *TINY, *grid, "smallest_effect=50").code == 0
    return launch(src.eval.main, cwd, "sweep=s", "tta=[flip]", "trainer=cpu")


@pytest.fixture
def again(tested: Run, tmp_path: Path) -> Callable[..., Run]:
    """The same command once more, with other arguments, in a copy."""
    shutil.copytree(tested.folder / "logs", tmp_path / "logs")
    return lambda *arguments: launch(src.eval.main, tmp_path, "trainer=cpu", *(arguments or ["sweep=s", "tta=[flip]"]))


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def written(cwd: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in (cwd / TESTED).glob("*/results.json")}


def test_every_run_is_tested_with_and_without(tested: Run) -> None:
    assert tested.code == 0 and tested.err == ""
    assert set(written(tested.folder)) == {f"{job},tta={name}" for job in JOBS for name in ("none", "flip")}
    (launched,) = json.loads((tested.folder / TESTED / "sweep.json").read_text())["launches"]
    assert launched["command"] == 'python -m src.eval sweep=s "tta=[flip]" trainer=cpu'
    for job in JOBS:
        trained = results(tested.folder / "logs/train/sweeps/s" / job)
        plain, flipped = (tested.folder / TESTED / f"{job},tta={name}" for name in ("none", "flip"))
        assert results(plain)["metrics"] == trained["metrics"]
        assert results(plain)["test_accuracy_by_class"] == trained["test_accuracy_by_class"]
        assert results(flipped)["settings"]["tta"] == "flip"
        assert len({results(folder)["fingerprint"] for folder in (plain, flipped)} | {trained["fingerprint"]}) == 3
        for folder in (plain, flipped):
            correct = load_outcomes(folder / "test_outcomes.npz").correct
            assert correct.mean() == pytest.approx(results(folder)["metrics"]["test/accuracy"], abs=1e-6)
        assert f"{job}: none {trained['metrics']['test/accuracy']:.2%}, flip " in tested.out


def test_it_is_what_the_evaluation_of_a_checkpoint_says(tested: Run, evaluate: Launch, tmp_path: Path) -> None:
    assert evaluate(f"ckpt={tested.folder / 'logs/train/sweeps/s' / JOBS[0]}", "tta=[flip]", "trainer=cpu").code == 0
    (file,) = tmp_path.glob("logs/eval/runs/*/eval.json")
    flip = next(row for row in json.loads(file.read_text())["tta"] if row["name"] == "flip")
    metrics = results(tested.folder / TESTED / f"{JOBS[0]},tta=flip")["metrics"]
    assert metrics["test/accuracy"] == pytest.approx(flip["accuracy"]) and metrics["test/loss"] == flip["nll"]


def test_the_report_compares_them_in_pairs(tested: Run) -> None:
    assert tested.out.rstrip().endswith(f"python -m src.report sweep={TESTED}")
    report = launch(src.report.main, tested.folder, f"sweep={TESTED}")
    assert report.code == 0, report.err
    assert report.out.startswith("What is test-time augmentation worth?\ntta flip against none: equivalent")
    runs = load_runs(tested.folder / TESTED)
    assert varying_factors(runs) == ["aug", "tta"] and len(runs) == 8
    assert (runs[runs.tta == "flip"].flops_per_image == 2 * runs[runs.tta == "none"].flops_per_image.iloc[0]).all()
    gain = runs[runs.tta == "flip"]["test/accuracy"].mean() - runs[runs.tta == "none"]["test/accuracy"].mean()
    assert f"{100 * gain:+.1f} points" in report.out


def test_what_was_tested_is_not_tested_again(again: Callable[..., Run], tmp_path: Path) -> None:
    before = written(tmp_path)
    shutil.rmtree(tmp_path / TESTED / f"{JOBS[2]},tta=flip")
    assert again().code == 0
    now = written(tmp_path)
    assert now.keys() == before.keys()
    assert {name for name in now if now[name] != before[name]} == {f"{JOBS[2]},tta={tta}" for tta in ("none", "flip")}


@pytest.mark.parametrize(
    "request_",
    [
        ("tta=[flip]", "tta.average=logits"),
        ("tta=[flip]", "trainer.precision=64-true"),
        ("tta=[flip]", "trainer.limit_test_batches=1"),
        ("tta=[flip]", "data=digits", "data.image_size=8"),
        ("tta=[flip_shift]",),
        (),
    ],
)
def test_another_request_is_not_mixed_with_the_former(
    again: Callable[..., Run], tmp_path: Path, request_: tuple[str, ...]
) -> None:
    before = written(tmp_path)
    run = again("sweep=s", *request_)
    assert run.code == 1 and run.err.startswith(f"{TESTED} holds other runs, or tests with other settings, images")
    assert written(tmp_path) == before


def test_another_checkpoint_is_another_test(again: Callable[..., Run], tmp_path: Path) -> None:
    before, folder = written(tmp_path), tmp_path / "logs/train/sweeps/s" / JOBS[1] / "checkpoints"
    shutil.copyfile(tmp_path / "logs/train/sweeps/s" / JOBS[0] / "checkpoints/best.ckpt", folder / "best.ckpt")
    assert again().code == 0
    changed = {name for name, time in written(tmp_path).items() if time != before[name]}
    assert changed == {f"{JOBS[1]},tta={tta}" for tta in ("none", "flip")}


def test_other_images_without_augmentation_keep_the_question_of_the_runs(
    again: Callable[..., Run], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / TESTED)
    assert again("sweep=s", "data=digits", "data.image_size=8").code == 0
    runs = load_runs(tmp_path / TESTED)
    assert len(runs) == 4 and varying_factors(runs) == ["aug"]
    assert len({settings["tested.content"] for settings in runs.settings}) == 1 and runs.asked.iloc[0].factor is None
    report = launch(src.report.main, tmp_path, f"sweep={TESTED}", "images=true")
    assert report.code == 1 and "was tested on other images" in report.err
    report = launch(src.report.main, tmp_path, f"sweep={TESTED}")
    assert "own data set: _target_=src.data.digits.Digits, image_size=8." in report.out
    assert "aug basic against none" in report.out  # the first asked for is the baseline


def test_runs_without_a_checkpoint_are_named(again: Callable[..., Run], tmp_path: Path) -> None:
    kept = tmp_path / "logs/train/sweeps/s"
    shutil.rmtree(kept / JOBS[0] / "checkpoints")
    run = again()
    assert run.code == 0 and "1 run without a checkpoint: not tested" in run.out + run.err
    for job in JOBS[1:]:
        shutil.rmtree(kept / job / "checkpoints")
    run = again()
    assert run.code == 1 and run.err.endswith(
        "4 have completed and none of these has its checkpoint; there is nothing to test.\n"
    )


def test_two_sweeps_of_one_name_are_not_mixed(again: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "logs/train/sweeps/s", tmp_path / "other/s")
    run = again("sweep=other/s")
    assert run.code == 1 and run.err.startswith(f"{TESTED} holds other runs")
    assert again("sweep=other/s", "hydra.run.dir=logs/eval/other").code == 0
    runs = load_runs(tmp_path / "logs/eval/other")
    assert len(runs) == 4 and (runs.status == "completed").all()
    assert again("sweep=other/s", "hydra.run.dir=other/s").code == 1


def test_a_sweep_is_the_same_by_its_name_and_by_its_path(again: Callable[..., Run], tmp_path: Path) -> None:
    run = again(f"sweep={tmp_path / 'logs/train/sweeps/s'}", "tta=[flip]")
    assert run.code == 0 and run.out.count("tested before") == 4


def test_what_is_missing_or_pruned_in_the_sweep_is_so_in_its_test(again: Callable[..., Run], tmp_path: Path) -> None:
    for job, status in ((JOBS[0], "failed"), (JOBS[1], "pruned")):
        file = tmp_path / "logs/train/sweeps/s" / job / "results.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"status": status}))
    shutil.rmtree(tmp_path / TESTED)
    assert again().code == 0
    counts = load_runs(tmp_path / TESTED).status.value_counts().to_dict()
    assert counts == {"completed": 4, "missing": 2}


def test_one_damaged_run_keeps_no_other_from_its_test(again: Callable[..., Run], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / TESTED)
    (tmp_path / "logs/train/sweeps/s" / JOBS[1] / "checkpoints/best.ckpt").write_bytes(b"damaged")
    run = again()
    assert run.code == 1 and "1 run could not be tested, for the reasons above; the others were." in run.err
    assert len(written(tmp_path)) == 6


def test_results_without_configuration_or_metrics_are_tested(again: Callable[..., Run], tmp_path: Path) -> None:
    file = tmp_path / "logs/train/sweeps/s" / JOBS[0] / "results.json"
    known = json.loads(file.read_text())
    del known["config"]
    known["val/accuracy"] = known.pop("metrics")["val/accuracy"]
    file.write_text(json.dumps(known))
    shutil.rmtree(tmp_path / TESTED)
    assert again().code == 0 and len(written(tmp_path)) == 8


def test_the_trials_of_a_search_are_not_tested(again: Callable[..., Run], tmp_path: Path) -> None:
    file = tmp_path / "logs/train/sweeps/s" / JOBS[0] / "results.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps(known | {"overrides": [*known["overrides"], "tuner.trial=0"]}))
    run = again()
    assert run.code == 1 and "is a search, whose trials are compared on validation images" in run.err


def test_epochs_chosen_on_test_images_stay_told(again: Callable[..., Run], tmp_path: Path) -> None:
    for job in JOBS:
        file = tmp_path / "logs/train/sweeps/s" / job / "results.json"
        known = json.loads(file.read_text())
        metrics = known["metrics"]
        metrics |= {"val/accuracy": metrics["test/accuracy"], "val/loss": metrics["test/loss"]}
        file.write_text(json.dumps(known))
    shutil.rmtree(tmp_path / TESTED)
    assert again().code == 0
    report = launch(src.report.main, tmp_path, f"sweep={TESTED}")
    assert "The test images served as validation set" in report.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep=s", "ckpt=x"], "leave out ckpt and corruptions."),
        (["sweep=s", "corruptions=true"], "leave out ckpt and corruptions."),
        (["sweep=nowhere"], "There is no sweep nowhere; in logs/train/sweeps there are: none."),
    ],
)
def test_mistakes_get_one_sentence(evaluate: Launch, arguments: list[str], says: str) -> None:
    run = evaluate(*arguments)
    assert run.code == 1 and says in run.err and run.err.count("\n") == 1
