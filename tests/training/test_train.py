"""One command: what it writes, prints and repeats, and how it ends when it cannot go on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from src.runs.checkpoints import load_checkpoint
from src.runs.outcomes import load_outcomes
from src.training.build import build_data
from src.training.record import BFLOAT16_GAIN
from tests.conftest import TINY, WATCHED, Run

Launch = Callable[..., Any]


# ------------------------------------------------------------------------------------------------------------
# The run folder
# ------------------------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_design_says(finished) -> None:
    assert finished.code == 0 and finished.err == ""
    files = {str(file.relative_to(finished.folder)) for file in finished.folder.rglob("*") if file.is_file()}
    assert files >= {
        "results.json",
        "metrics.csv",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
    }
    tops = {re.sub(r"^(events\.out)\..*", r"\1", file).split("/")[0] for file in files}
    known = {"results.json", "metrics.csv", "test_outcomes.npz", "train.log"}
    known |= {"checkpoints", ".hydra", "events.out", ".lock"}
    assert {top for top in tops if not top.startswith("code-")} == known  # code-*.diff: of uncommitted changes


@pytest.mark.slow
def test_a_run_that_learned_nothing_says_so(train: Launch) -> None:
    steps = ("data.batch_size=10", "trainer.max_epochs=5", "callbacks=none", "logger=none")  # a hundred
    run = train(*steps, "optim.lr=1e-12")
    assert re.search(r"not learning +test loss 2\.\d+, guessing has ln\(10\) = 2\.3026", run.out)
    (again,) = re.findall(r"look closer +(.*)", run.out)
    assert "optim.lr=1e-12 callbacks=signals" in again and "callbacks=none" not in again
    sweep = train(*steps, "aug=none", "optim.lr=1e-12,0.02", "--multirun")
    stuck, learned = re.findall(r"lr=\S+: test accuracy .*", sweep.out)
    assert "callbacks=signals shows why" in stuck and "not learning" not in learned


def test_results_say_what_happened(finished) -> None:
    results = finished.results
    assert (results["schema"], results["status"], results["error"]) == (2, "completed", None)
    chosen = {"data": "digits", "model": "simplecnn", "optim": "sgd", "schedule": "cosine", "aug": "basic"}
    chosen |= {"loss": "cross_entropy", "average": "none", "metrics": "none"}
    assert results["choices"] == chosen | {"trainer": "cpu", "logger": "tensorboard", "callbacks": "default"}
    counting = {"data.train_size": 200, "model.skip": False, "optim.lr": 0.02, "trainer.max_epochs": 3, "seed": 42}
    assert results["settings"].items() >= counting.items()
    assert len(results["settings"]["data.content"]) == 64
    assert results["seed"] == 42 and results["config"]["optim"]["lr"] == 0.02
    assert len(results["fingerprint"]) == 64
    assert (results["epochs"], results["steps"]) == (3, 12)
    assert results["seconds"] > 0 and results["images_per_second"] > 0
    assert {"val/loss", "val/accuracy", "test/loss", "test/accuracy", "train/loss"} <= results["metrics"].keys()
    assert "CPU" in results["device"]
    by_class = results["test_accuracy_by_class"]
    assert list(by_class) == [str(digit) for digit in range(10)] and min(by_class.values()) >= 0
    images = torch.bincount(build_data(OmegaConf.create(results["config"])).test.labels, minlength=10)
    recognised = sum(share * count for share, count in zip(by_class.values(), images.tolist(), strict=True))
    assert recognised / images.sum() == pytest.approx(results["metrics"]["test/accuracy"])
    assert {"python", "torch", "lightning", "hydra-core"} <= results["versions"].keys()
    assert results["revision"].keys() == {"commit", "modified", "diff"}


def test_the_outcome_for_every_test_image_is_kept(finished) -> None:
    outcomes = load_outcomes(finished.folder / "test_outcomes.npz")
    images = build_data(OmegaConf.create(finished.results["config"])).test
    assert (outcomes.label == images.labels[images.positions].numpy()).all()
    assert outcomes.correct.mean() == pytest.approx(finished.results["metrics"]["test/accuracy"], abs=1e-6)
    assert -np.log(outcomes.probability).mean() == pytest.approx(finished.results["metrics"]["test/loss"], rel=1e-4)
    assert outcomes.correct.any() and (outcomes.probability[outcomes.correct] > 1 / 10).all()
    assert (outcomes.probability[~outcomes.correct] < 1 / 2).all()


def test_parameters_and_operations_are_those_of_the_network(finished) -> None:
    weights = finished.checkpoint()["state_dict"]
    counted = {name: tensor for name, tensor in weights.items() if name.startswith("network.")}
    assert finished.results["parameters"] == sum(tensor.numel() for tensor in counted.values())
    convolutions = 2 * 9 * (3 * 32 * 8 * 8 + 32 * 64 * 4 * 4 + 64 * 128 * 2 * 2)
    assert finished.results["flops_per_image"] == convolutions + 2 * 128 * 2 * 2 * 10


def test_metrics_have_a_row_for_every_epoch(finished) -> None:
    rows = finished.rows
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    for row in rows:
        assert all(value for value in row.values())
        assert 0 <= float(row["train/accuracy"]) <= 1 and float(row["train/loss"]) > 0


def test_the_best_epoch_is_the_first_of_highest_validation_accuracy(finished) -> None:
    accuracies = [float(row["val/accuracy"]) for row in finished.rows]
    best = accuracies.index(max(accuracies))
    assert finished.results["best_epoch"] == best + 1
    assert finished.results["metrics"]["val/accuracy"] == max(accuracies)
    assert finished.checkpoint("best")["epoch"] == best
    assert finished.checkpoint("last")["epoch"] == 2


def test_of_equal_epochs_the_first_is_the_best(train: Launch) -> None:
    run = train("optim.lr=1e-12")  # nothing is learned
    assert len({row["val/accuracy"] for row in run.rows}) == 1
    assert run.results["best_epoch"] == 1
    assert run.checkpoint("best")["epoch"] == 0 and run.checkpoint("last")["epoch"] == 1


def test_checkpoints_hold_tensors_and_plain_values_only(finished) -> None:
    for name in ("best", "last"):
        checkpoint = load_checkpoint(finished.folder / "checkpoints" / f"{name}.ckpt")
        assert checkpoint.config == finished.results["config"]
        assert checkpoint.classes == tuple(str(digit) for digit in range(10)) and checkpoint.image_size == 8


def test_the_last_screen_says_the_result_the_folder_and_what_to_do_next(finished) -> None:
    screen = finished.out.splitlines()[-8:]
    folder = finished.folder.relative_to(finished.folder.parents[3])
    accuracy = f"{finished.results['metrics']['test/accuracy']:.2%}"
    assert any(line.startswith("test accuracy") and line.endswith(accuracy) for line in screen)
    assert any(line.endswith(f" {folder}") for line in screen)
    assert any(line.endswith(f"tensorboard --logdir {folder}") for line in screen)
    assert any(line.endswith(f"python -m src.eval ckpt={folder / 'checkpoints' / 'best.ckpt'}") for line in screen)


def test_the_log_and_the_screen_tell_of_every_epoch(finished) -> None:
    for epoch, row in enumerate(finished.rows, start=1):
        told = f"epoch {epoch}/3  train loss {float(row['train/loss']):.4f}"
        assert told in finished.log and told in finished.out


# ------------------------------------------------------------------------------------------------------------
# Validation, or none
# ------------------------------------------------------------------------------------------------------------


def test_without_validation_the_last_epoch_is_tested(train: Launch) -> None:
    run = train("data.val_size=0")
    assert run.code == 0 and run.results["best_epoch"] == run.results["epochs"] == 2
    assert not any(name.startswith("val/") for name in run.results["metrics"])
    assert run.checkpoint("best")["epoch"] == 1
    assert "validation accuracy" not in run.out


def test_a_run_of_some_steps_needs_no_validation(train: Launch) -> None:
    run = train("data.val_size=0", "+trainer.max_steps=6")
    assert run.code == 0 and run.results["steps"] == 6 and run.results["best_epoch"] == 2


def test_what_was_not_tested_is_tested_by_a_later_launch(train: Launch, tmp_path: Path) -> None:
    sweep = ("--multirun", "sweep=s", "seed=1")
    assert train(*sweep, "test=false").code == 0
    (folder,) = (tmp_path / "logs/train/sweeps/s").glob("*seed=1*")
    untested = Run(0, "", "", folder)
    assert not (folder / "test_outcomes.npz").exists() and "test_accuracy_by_class" not in untested.results
    assert not any(name.startswith("test/") for name in untested.results["metrics"])
    reached = f"validation accuracy {untested.results['metrics']['val/accuracy']:.2%}"
    assert f"completed before, {reached}" in train(*sweep, "test=false").out
    other = train(*sweep, "optim.momentum=0.5", f"hydra.sweep.subdir='{folder.name}'", "on_conflict=keep")
    assert f"kept, {reached}, with other settings" in other.out
    trained, metrics = untested.trained(), untested.results["metrics"]
    assert "completed before" not in train(*sweep).out
    tested = untested.results["metrics"]
    assert (folder / "test_outcomes.npz").exists() and untested.trained() == trained
    assert metrics.items() < tested.items() and "test/accuracy" in tested
    assert f"completed before, test accuracy {tested['test/accuracy']:.2%}" in train(*sweep).out
    assert f"test accuracy {tested['test/accuracy']:.2%}" in train(*sweep, "test=false").out  # and is not forgotten


def test_a_run_that_is_not_tested_says_what_it_measured(train: Launch) -> None:
    run = train("test=false")
    accuracy = f"{run.results['metrics']['val/accuracy']:.2%}"
    assert re.search(f"^validation accuracy +{accuracy}$", run.out, re.MULTILINE) and "test accuracy" not in run.out
    nothing = train("test=false", "data.val_size=0")
    assert nothing.code == 1 and nothing.err.startswith("test=false and data.val_size=0: nothing would be measured;")


def test_validating_on_the_test_images_gives_their_accuracy(train: Launch) -> None:
    metrics = train("data.val_size=test").results["metrics"]
    assert metrics["val/accuracy"] == metrics["test/accuracy"] and metrics["val/loss"] == metrics["test/loss"]


# ------------------------------------------------------------------------------------------------------------
# Repeating
# ------------------------------------------------------------------------------------------------------------

RANDOM = ("aug=trivialaugment", "schedule=onecycle", "data.batch_size=33")


@pytest.fixture(scope="module")
def random_run(launch_in: Launch):
    return launch_in(*RANDOM)


def test_the_same_command_trains_the_same_weights_to_the_bit(random_run, train: Launch) -> None:
    again = train(*RANDOM)
    assert again.trained() == random_run.trained()
    assert again.results["metrics"].keys() == random_run.results["metrics"].keys()
    assert again.results["metrics"]["test/loss"] == random_run.results["metrics"]["test/loss"]
    assert again.results["fingerprint"] == random_run.results["fingerprint"]


def test_another_seed_trains_another_network(random_run, train: Launch) -> None:
    other = train(*RANDOM, "seed=43")
    assert other.results["metrics"]["test/loss"] != random_run.results["metrics"]["test/loss"]
    assert other.results["fingerprint"] != random_run.results["fingerprint"]


def test_watching_changes_nothing(random_run, train: Launch) -> None:
    silent = train(*RANDOM, "~logger", "~callbacks")
    assert silent.code == 0 and not list(silent.folder.glob("events.*"))
    assert silent.trained() == random_run.trained()


def test_a_compiled_network_is_recorded_like_any_other(
    train: Launch, finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile = nn.Module.compile  # through Dynamo, but without the minute that Inductor takes
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: compile(module, backend="eager"))
    run = train(*WATCHED, "compile=true")
    assert run.code == 0
    assert run.results["flops_per_image"] == finished.results["flops_per_image"]
    assert run.events.Tags()["graph"]
    assert run.checkpoint()["state_dict"].keys() == finished.checkpoint()["state_dict"].keys()


# ------------------------------------------------------------------------------------------------------------
# A folder belongs to one run
# ------------------------------------------------------------------------------------------------------------


def test_a_run_folder_is_never_overwritten(train: Launch, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert train(f"hydra.run.dir={folder}").code == 0
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    again = train(f"hydra.run.dir={folder}", "seed=1")
    assert again.code == 1
    assert "mine already holds a run, which is never overwritten; continue it with resume=mine" in again.err
    assert again.err.count("\n") == 1
    assert all(file.read_bytes() == content for file, content in before.items())


def test_every_run_has_its_own_folder(train: Launch, tmp_path: Path) -> None:
    for _ in range(2):  # within the same second
        train("optim.lr=-1")
    assert len(list((tmp_path / "logs" / "train" / "runs").iterdir())) == 2


# ------------------------------------------------------------------------------------------------------------
# A user's mistakes: one sentence each
# ------------------------------------------------------------------------------------------------------------

MISTAKES = {
    "optim.lr=-1": "optim.lr is -1; expected a learning rate above 0",
    "optim.lr=abc": "optim.lr is 'abc'; expected a number",
    "optim.weight_decay=-0.1": "optim.weight_decay is -0.1; expected 0 or more",
    "optim.algorithm=SDG": "optim.algorithm is 'SDG'; expected the name of a class in torch.optim",
    "optim.momentum=0": "Nesterov momentum requires a momentum",
    "optim=adam optim.betas=[1,2]": "Invalid beta parameter",
    "schedule.final=2": "schedule.final is 2; expected a number from 0 to 1",
    "schedule.warmup_epochs=-1": "schedule.warmup_epochs is -1; expected 0 or more",
    "label_smoothing=2": "loss.label_smoothing is 2; expected 0 to 1",
    "compile=no": "compile is 'no'; expected true, false, reduce-overhead or max-autotune",
    "data.batch_size=1000": "data.batch_size is 1000, but there are only 200 training images",
    "data.batch_size=2.5": "data.batch_size is 2.5; expected a whole number",
    "data.val_size=5000": "from 1 to 1438",
    "data.train_size=5000": "data.train_size is 5000; expected a whole number of the 1294 images there are",
    "data.image_size=4": "data.image_size must be a whole number >= 8",
    "data=image_folder data.root=nowhere": "There is no folder",
    "model.norm=instance": "model.norm is 'instance'; expected ",
    "trainer.accelerator=foo": "`accelerator='foo'`. Available names are",
    "trainer.precision=7": "Precision 7 is invalid",
    "trainer.max_epochs=0": "trainer.max_epochs is 0; expected a whole number, 1 or more",
    "trainer.max_epochs=two": "trainer.max_epochs is 'two'; expected a number",
    "trainer.log_every_n_steps=0": "trainer.log_every_n_steps is 0; expected a whole number, 1 or more",
    "trainer.limit_train_batches=0": "trainer.limit_train_batches is 0; expected at least one batch",
    "+trainer.max_steps=3": "trainer.max_steps is 3: an epoch might be validated before its end or not at all",
    "+trainer.check_val_every_n_epoch=2": "data.val_size=0",
    "+trainer.epochs=3": "unexpected keyword argument 'epochs'",
    "trainer.devices=auto trainer.accelerator=cpu": "trainer.devices is auto, but there is no GPU to count",
    "seed=-1": "seed is -1; expected a whole number from 0 to 4294967295",
    "seed=abc": "seed is 'abc'; expected a whole number",
    "seed=true": "seed is True; expected a whole number",
    "data.split_seed=true": "data.split_seed is True; expected a",
    "data.batch_size=true": "data.batch_size is True; expected a number",
    "trainer.max_epochs=true": "trainer.max_epochs is True; expected a number",
    "label_smoothing=true": "loss.label_smoothing is True; expected 0 to 1",
    "checkpoint_minutes=true": "checkpoint_minutes is True; expected a number of minutes",
}


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES.items(), ids=MISTAKES.keys())
def test_a_bad_value_gets_one_sentence(train: Launch, mistake: str, sentence: str) -> None:
    run = train(*mistake.split())
    assert run.code == 1
    assert sentence in run.err and run.err.count("\n") == 1 and "Traceback" not in run.err + run.out
    assert (run.results["status"], run.results["error"]) == ("failed", run.err.rstrip("\n"))
    assert "Traceback" in run.log and sentence in " ".join(run.log.split())


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_where_there_is_none(train: Launch) -> None:
    run = train("trainer=gpu")
    assert run.code == 1
    assert run.err == ("trainer.accelerator is gpu, but torch finds no GPU here; use trainer=cpu or trainer=auto.\n")


@pytest.mark.parametrize(
    ("capabilities", "precision", "offered", "warned"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "32-true", True, False),
        ({"bf16": True}, "bf16-mixed", False, False),  # ARM
        ({"amx_bf16": False, "avx512_bf16": False}, "32-true", False, False),
        ({"amx_bf16": False, "avx512_bf16": True}, "32-true", False, False),  # measured to be slower
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16-mixed", False, False),
        ({"amx_bf16": False, "avx512_bf16": False}, "bf16-mixed", False, True),
        ({"architecture": "unknown"}, "bf16-mixed", False, False),
    ],
)
def test_what_the_processor_does_in_bfloat16_is_said_where_it_matters(
    train: Launch,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, Any],
    precision: str,
    offered: bool,
    warned: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    run = train(f"trainer.precision={precision}", "debugging=fast_dev_run")
    assert run.code == 0, run.err
    assert ("faster?" in run.out and 'src.benchmark "rows=[choices]"' in run.out) == offered
    assert ("this processor has no bfloat16 units" in " ".join(run.log.split())) == warned


def test_the_gain_in_bfloat16_is_the_one_that_was_measured() -> None:
    assert f"**× {BFLOAT16_GAIN}**" in (Path(__file__).parents[2] / "src" / "benchmarks" / "README.md").read_text(
        "utf-8"
    )


def own_optimizer(module: nn.Module, lr: float, betas: list[float], weight_decay: float) -> torch.optim.Optimizer:
    """An optimiser of the user's own, which keeps what it is given."""
    return torch.optim.SGD([{"params": list(module.parameters()), "betas": betas}], lr, weight_decay=weight_decay)


def test_an_optimizer_of_ones_own_gets_plain_values(train: Launch, tmp_path: Path) -> None:
    file = tmp_path / "mine" / "optim" / "mine.yaml"
    file.parent.mkdir(parents=True)
    for conversion in ("", "_convert_: all\n"):
        file.write_text(
            f"_target_: tests.training.test_train.own_optimizer\n_partial_: true\n{conversion}"
            "lr: 1e-3\nweight_decay: 0\nbetas: [0.9, 0.99]\n"
        )
        run = train("--config-dir", str(tmp_path / "mine"), "optim=mine")
        assert run.code == 0, run.err
        (group,) = run.checkpoint()["optimizer_states"][0]["param_groups"]
        assert group["betas"] == [0.9, 0.99] and type(group["betas"]) is list


@pytest.mark.slow
@pytest.mark.parametrize(("options", "silent"), [((), True), (("+trainer.profiler=simple",), False)])
def test_lightning_is_silent_but_for_what_was_asked_of_it(
    tmp_path: Path, options: tuple[str, ...], silent: bool
) -> None:
    command = [sys.executable, "-W", "default", "-m", "src.train", *TINY, *WATCHED, "trainer.max_epochs=1", *options]
    (tmp_path / "srun").touch(mode=0o755)  # as on a cluster
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "PATH": path}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 0 and "GPU available" not in run.stdout
    assert ("Profiler Report" in run.stdout) is not silent
    assert "Lightning" not in run.stderr and "lightning" not in run.stderr


def test_debug_shows_the_trace(train: Launch) -> None:
    run = train("optim.lr=-1", "debug=true")
    assert run.code == 1
    assert run.err.startswith("Traceback") and "in build_optimizer" in run.err
    assert run.results["error"].startswith("optim.lr is -1")


def test_training_that_diverges_says_where_and_keeps_earlier_checkpoints(train: Launch) -> None:
    run = train("schedule=constant", "optim.lr=1e30", "trainer.limit_train_batches=1")  # the first step does it
    assert run.code == 1
    assert run.err == (
        "The loss became nan in epoch 2, at step 1, with learning rate 1e+30: training diverged. "
        "Lower optim.lr or raise schedule.warmup_epochs; the checkpoints of earlier epochs are intact.\n"
    )
    assert (run.results["status"], run.results["error"]) == ("failed", run.err.rstrip("\n"))
    assert run.checkpoint("best")["epoch"] == run.checkpoint("last")["epoch"] == 0
    assert len(run.rows) == 1


def test_results_are_valid_json_while_a_run_goes_on(finished) -> None:
    assert json.loads((finished.folder / "results.json").read_text())
    assert not list(finished.folder.glob(".*.json*")) and not list(finished.folder.glob("checkpoints/*.part"))


# ------------------------------------------------------------------------------------------------------------
# Seeds
# ------------------------------------------------------------------------------------------------------------


def test_the_sources_of_variation_follow_the_seed_unless_set(train: Launch, finished: Any) -> None:
    of_finished = ("trainer.max_epochs=3", "trainer.log_every_n_steps=1", "optim.lr=0.02", "aug=basic")
    seed = finished.results["seed"]
    all_set = train(*of_finished, "seed=7", *(f"seeds.{name}={seed}" for name in ("init", "order", "augment")))
    assert all_set.trained() == finished.trained()
    assert all_set.results["fingerprint"] != finished.results["fingerprint"]
    assert not any(key.startswith("seeds.") for key in finished.results["settings"])


def test_a_wrong_seed_of_a_source_is_told(train: Launch) -> None:
    run = train("seeds.init=-1")
    assert run.code == 1
    assert "seeds.init is -1; expected a whole number from 0 to 4294967295." in run.err
