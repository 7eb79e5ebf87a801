"""A run that goes on, or is asked to: what it keeps, and what it does not go on with."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
from PIL import Image

from src.inference.load import load, read_image
from src.runs import provenance, trust
from src.training.classifier import Classifier
from tests.training.test_resume import ctrl_c

Launch = Callable[..., Any]


class Stops(L.Callback):
    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 6


STOPS = f"+callbacks.stops._target_={__name__}.Stops"


@pytest.fixture(autouse=True)
def what_the_tests_name_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    known = trust.known_targets
    monkeypatch.setattr(trust, "known_targets", lambda group: known(group) | {f"{__name__}.Stops"})


@contextmanager
def divergence(epoch: int) -> Iterator[None]:
    """Training diverges when it begins an epoch, from 1."""
    original = Classifier.on_train_epoch_start

    def diverge(self: Classifier) -> None:
        if self.current_epoch + 1 == epoch:
            raise FloatingPointError("The loss became nan.")
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "on_train_epoch_start", diverge)
        yield


def content(folder: Path) -> dict[str, bytes]:
    """The files that a result consists of."""
    files = ("results.json", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
    return {name: (folder / name).read_bytes() for name in files}


# ------------------------------------------------------------------------------------------------------------
# A completed run
# ------------------------------------------------------------------------------------------------------------


def test_a_run_says_what_ended_it(train: Launch, resume: Launch) -> None:
    run = train(STOPS, "trainer.max_epochs=3")
    assert run.code == 0 and (run.results["ended"], run.results["epochs"]) == ("a callback", 2)
    assert "stopped by a callback before the end of epoch 3" in run.out
    before = content(run.folder)
    for more in ((), ("trainer.max_epochs=3",), ("trainer.max_epochs=2",), ("trainer.log_every_n_steps=1",)):
        again = resume(run.folder, *more)
        assert again.code == 1 and again.err.count("\n") == 1
        assert "has completed epoch 2, where a callback ended it before epoch 3; to train it longer, add" in again.err
    assert content(run.folder) == before
    assert resume(run.folder, "trainer.max_epochs=6").results["ended"] == "max_epochs"


def test_a_run_that_ran_out_of_time_goes_on_when_it_is_given_more(train: Launch, resume: Launch) -> None:
    run = train("+trainer.max_time=00:00:00:01", "trainer.max_epochs=4000", "logger=none")
    assert run.code == 0 and run.results["ended"] == "max_time"
    epochs = run.results["epochs"]
    assert "stopped by max_time before the end of epoch 4000" in run.out
    assert "add a longer +trainer.max_time." in resume(run.folder).err
    again = resume(run.folder, "+trainer.max_time=00:00:00:03")
    assert again.code == 0 and again.results["ended"] == "max_time"
    assert again.results["epochs"] > epochs


def test_a_run_without_time_for_an_epoch_gets_a_sentence(train: Launch) -> None:
    run = train("+trainer.max_time=00:00:00:00")
    assert run.code == 1 and run.err.startswith("Training was stopped before its first epoch")


def test_a_result_is_kept_where_training_longer_fails(copy_of_finished: Any, resume: Launch) -> None:
    folder = copy_of_finished.folder
    before = content(folder)
    with divergence(epoch=5):  # once the fourth has been saved
        again = resume(folder, "trainer.max_epochs=5")
    assert again.code == 1 and "The loss became nan." in again.err
    assert "keeps the result that it had" in " ".join(again.log.split())
    assert content(folder) == before and not (folder / ".completed").exists()

    with ctrl_c("training_step", 5):  # in the fifth epoch
        assert resume(folder, "trainer.max_epochs=5").code == 130
    with divergence(epoch=5):
        assert resume(folder).code == 0  # it is in the middle of it
    assert resume(folder).results["epochs"] == 5 and not (folder / ".completed").exists()


@pytest.mark.parametrize(("average", "same"), [("ema", True), ("swa", False)])
def test_a_longer_run_is_the_long_run_only_if_nothing_followed_its_length(
    train: Launch, resume: Launch, average: str, same: bool
) -> None:
    words = ("schedule=constant", f"average={average}")
    short, long = (train(*words, f"trainer.max_epochs={epochs}") for epochs in (1, 2))
    longer = resume(short.folder, "trainer.max_epochs=2")
    assert (longer.results["fingerprint"] == long.results["fingerprint"]) is same
    assert not same or longer.results["metrics"] == long.results["metrics"]


def test_a_sweep_knows_a_job_that_could_not_be_trained_longer(train: Launch, resume: Launch, tmp_path: Path) -> None:
    grid = ("--multirun", "seed=1", "sweep=s", "logger=none")
    assert train(*grid).code == 0
    (folder,) = (file.parent for file in tmp_path.glob("logs/train/sweeps/s/*/results.json"))
    with divergence(epoch=3):
        assert resume(folder, "trainer.max_epochs=3").code == 1
    again = train(*grid)
    assert again.code == 0 and "completed before" in again.out


# ------------------------------------------------------------------------------------------------------------
# Other data
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, 12 training and 4 test images each."""
    numbers = np.random.default_rng(0)
    for half, count in (("train", 12), ("test", 4)):
        for name in ("ant", "cat"):
            (tmp_path / "pictures" / half / name).mkdir(parents=True)
            for i in range(count):
                pixels = numbers.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / half / name / f"{i}.png")
    return tmp_path / "pictures"


def rename_a_class(root: Path) -> None:
    for half in ("train", "test"):
        (root / half / "ant").rename(root / half / "zebra")


def add_an_image(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "new.png")


def remove_a_test_image(root: Path) -> None:
    (root / "test" / "cat" / "0.png").unlink()


def replace_an_image(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "0.png")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (replace_an_image, "the content of images, or their labels, has changed"),
        (rename_a_class, r"names of the classes were \['ant', 'cat'\] and are now \['cat', 'zebra'\]"),
        pytest.param(
            add_an_image, r"numbers of images were .*'train': 20.* and are now .*'train': 21", marks=pytest.mark.slow
        ),
        (remove_a_test_image, r"numbers of images were .*'test': 8\} and are now .*'test': 7\}"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(
    train_as_given: Launch, resume: Launch, root: Path, change: Callable[[Path], None], sentence: str
) -> None:
    arguments = ("data=image_folder", f"data.root={root}", "data.image_size=8", "data.batch_size=5", "data.val_size=4",
                 "model=simplecnn", "trainer=cpu", "trainer.max_epochs=2", "logger=none")  # fmt: skip
    completed = train_as_given(*arguments)
    assert completed.code == 0, completed.err
    assert "20 training, 4 validation and 8 test images of 8 x 8 pixels in 2 classes" in " ".join(completed.log.split())
    with ctrl_c("training_step", 6):
        interrupted = train_as_given(*arguments)
    change(root)
    before = content(completed.folder)
    for run, more in ((completed, ("trainer.max_epochs=3",)), (interrupted, ())):
        again = resume(run.folder, *more)
        assert again.code == 1 and re.search(f"^The run .*{sentence}", again.err, re.MULTILINE)
        assert again.results["classes"] == ["ant", "cat"]
    assert content(completed.folder) == before


# ------------------------------------------------------------------------------------------------------------
# What a run remembers
# ------------------------------------------------------------------------------------------------------------


def test_a_run_remembers_when_it_began_and_every_code_that_trained_it(
    train: Launch, resume: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ({"commit": name * 40, "modified": True, "diff": name} for name in "ab")
    monkeypatch.setattr(provenance, "revision", lambda: (first, "the first changes"))
    with ctrl_c("training_step", 6):
        stopped = train()
    elapsed = stopped.checkpoint()["callbacks"]["History"]["elapsed"]
    began = json.loads((stopped.folder / "results.json").read_text()) | {"started": "2020-01-01T00:00:00+00:00"}
    (stopped.folder / "results.json").write_text(json.dumps(began))
    monkeypatch.setattr(provenance, "revision", lambda: (second, "the second changes"))
    run = resume(stopped.folder)
    assert run.code == 0 and run.results["started"] == "2020-01-01T00:00:00+00:00"
    assert run.results["revisions"] == [first, second] and run.results["revision"] == second
    assert float(run.rows[1]["seconds"]) > elapsed > 0
    assert run.results["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in run.rows))
    assert (run.folder / "code-a.diff").read_text() == "the first changes"
    assert (run.folder / "code-b.diff").read_text() == "the second changes"


def test_a_sweep_keeps_each_difference_once(train: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "revision", lambda: ({"commit": "a", "modified": True, "diff": "b"}, "changes"))
    assert train("--multirun", "seed=1,2", "sweep=s", "logger=none", "trainer.max_epochs=1").code == 0
    assert [file.relative_to(tmp_path / "logs/train/sweeps/s").parts for file in tmp_path.rglob("*.diff")] == [
        ("code-b.diff",)
    ]


def test_other_images_are_read_as_those_it_was_trained_on(train_as_given: Launch, root: Path) -> None:
    dark = np.full((8, 8), 4000, dtype=np.uint16)
    Image.fromarray(dark).save(root / "train" / "ant" / "0.png")
    run = train_as_given("data=image_folder", f"data.root={root}", "data.image_size=8", "data.batch_size=5",
                         "model=simplecnn", "trainer=cpu", "trainer.max_epochs=1", "logger=none")  # fmt: skip
    assert run.code == 0, run.err
    assert "16-bit images are read as images of 12 bits" in run.log
    trained = load(run.folder)
    assert trained.bits == 12
    assert read_image(root / "train" / "ant" / "0.png", 8, trained.bits).unique().tolist() == [4000 >> 4]


def test_what_ran_is_recorded(finished: Any) -> None:
    assert (finished.results["precision"], finished.results["ended"]) == ("32-true", "max_epochs")
