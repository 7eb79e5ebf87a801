"""Whatever conf/ offers runs on a GPU, which is pretended where there is none (``tests/pretended.py``).

A tensor that is left on the CPU is found, and so is a step that waits for the GPU; wrong values are not. Corruptions
are not here: they are made on the CPU.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn

from src.augment import Transform
from src.augment.test_time import ViewAverage
from src.data.datamodule import ImageDataModule
from src.runs.folder import RunFolder
from src.training import run
from src.training.build import build_classifier, build_data, build_trainer
from src.training.classifier import StageMetrics
from tests.conftest import Run
from tests.pretended import Pretended, pretended_gpu

CONF = Path(__file__).parents[1] / "conf"
pytestmark = pytest.mark.filterwarnings("ignore:In .*Defaults list is missing")
GPU = torch.device("cuda", 0)
# Choices that name anything of a library are tried with one thing of it.
NAMED: dict[str, tuple[str, ...]] = {
    "model=timm": ("model.name=convnext_atto",),
    "model=torchvision": ("model.name=mobilenet_v3_small",),
    "optim=timm": ("optim.name=lamb", "optim.lr=0.01"),
}
LARGE = ("resnet18", "resnet34", "resnet44", "resnet56", "resnet110", "resnet50_imagenet_stem", "wrn_28_10", "wrn_40_2")
WITH_TIMM = ("model=timm", "optim=timm", "optim=lion", "optim=muon")


def choices(group: str) -> list[Any]:
    """Every choice of a group of conf/, but the one that stands for anything of one's own, as overrides."""
    files = [file for file in sorted((CONF / group).glob("[!_]*.yaml")) if "_target_: ???" not in file.read_text()]
    marks = dict.fromkeys(LARGE, pytest.mark.slow)
    return [pytest.param(f"{group}={file.stem}", id=file.stem, marks=marks.get(file.stem, ())) for file in files]


@cache
def _usual() -> DictConfig:
    few = ("data.train_images=60", "data.test_images=10", "data.val_size=20", "data.batch_size=8")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["sweep=pretended", "data=noise", "model=simplecnn", "callbacks=none", *few])


def composed(*overrides: str) -> DictConfig:
    """A configuration with 60 images of noise, with other choices of conf/ and other values."""
    cfg = _usual().copy()
    for override in overrides:
        if override in WITH_TIMM:
            pytest.importorskip("timm")
        group, name = override.split("=")
        if (CONF / group).is_dir():
            with initialize_config_dir(str(CONF), version_base="1.3"):
                cfg[group] = compose(f"{group}/{name}").get(group)
        cfg.merge_with_dotlist([*NAMED.get(override, ())] if (CONF / group).is_dir() else [override])
    return cfg


def batches(data: ImageDataModule, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches as a run makes them."""
    for first in range(count):
        fetched = data.train.__getitems__(range(8 * first, 8 * first + 8))
        images, labels, positions = data.transfer_batch_to_device(fetched, GPU, 0)
        images, labels = data.mix(data.augment(images, positions, 0), labels, positions, 0)
        yield data.normalise(images), labels


def is_there(tensor: Tensor, dtype: torch.dtype, *shape: int) -> bool:
    return (tensor.device, tensor.dtype, tuple(tensor.shape)) == (GPU, dtype, shape)


@pytest.fixture
def gpu() -> Iterator[Pretended]:
    if torch.cuda.is_available():
        pytest.skip("there is a real one")
    with pretended_gpu() as gpu:
        yield gpu


# ------------------------------------------------------------------------------------------------------------
# What this finds
# ------------------------------------------------------------------------------------------------------------


class OnTheHost(Transform):
    """Darkens images by a table that it does not move."""

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        return torch.arange(256, dtype=torch.uint8).div(2, rounding_mode="floor")[images.long()]


class HasALook(Transform):
    """Waits for the brightest pixel."""

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        return images if int(images.max()) else images + 1


class Weighted(nn.Module):
    """A loss whose weights are no buffer, so that they stay where they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.ones(10)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, self.weights)


def test_a_tensor_that_is_left_on_the_cpu_is_found(gpu: Pretended) -> None:
    images = torch.zeros(8, 3, 16, 16, dtype=torch.uint8, device=GPU)
    logits, labels = torch.zeros(8, 10, device=GPU), torch.zeros(8, dtype=torch.int64, device=GPU)
    for function, arguments in ((OnTheHost(), (images, torch.rand(8, 0))), (Weighted().to(GPU), (logits, labels))):
        with pytest.raises(RuntimeError, match="on the same device"):
            function(*arguments)


def test_a_transform_that_waits_for_the_gpu_is_found(gpu: Pretended) -> None:
    HasALook()(torch.zeros(8, 3, 16, 16, dtype=torch.uint8, device=GPU), torch.rand(8, 0))
    assert gpu.waits == ["aten._local_scalar_dense.default"]


# ------------------------------------------------------------------------------------------------------------
# Part by part
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aug", choices("aug"))
def test_every_augmentation_stays_on_the_gpu_and_waits_for_nothing(gpu: Pretended, aug: str) -> None:
    data = build_data(composed(aug))
    data.keep_on(GPU)
    mixes = data.aug.mixing is not None
    for processes in (1, 2) if mixes else (1,):  # of which each takes the partners of its images from the store
        data.trainer = SimpleNamespace(world_size=processes)  # type: ignore[assignment]
        made = batches(data, 2)
        next(made)  # makes tables, which are kept
        gpu.waits.clear()
        images, labels = next(made)
        assert is_there(images, torch.float32, 8, 3, 32, 32)
        assert is_there(labels, torch.float32, 8, 10) if mixes else is_there(labels, torch.int64, 8)
        assert gpu.waits == []


@pytest.mark.parametrize("model", choices("model"))
def test_every_backbone_runs_on_the_gpu_and_waits_for_nothing(gpu: Pretended, model: str) -> None:
    cfg = composed(model)
    if "width" in cfg.model:  # smaller, and of the same parts
        cfg.model.update(width=0.25, depth=0.5)
    classifier = build_classifier(cfg, build_data(cfg)).to(GPU)
    images = torch.zeros(4, 3, 32, 32, device=GPU)
    gpu.waits.clear()
    assert is_there(classifier(images), torch.float32, 4, 10)
    with torch.autocast("cuda", torch.bfloat16):  # as in mixed precision
        logits = classifier.network(images)
        assert is_there(logits, torch.bfloat16, 4, 10)
    assert gpu.waits == []


@pytest.mark.parametrize("loss", choices("loss"))
def test_every_loss_stays_on_the_gpu_and_waits_for_nothing(gpu: Pretended, loss: str) -> None:
    cfg = composed(loss)
    cfg.loss.label_smoothing = 0.1
    of = build_classifier(cfg, build_data(cfg)).to(GPU).loss
    gpu.waits.clear()
    logits = torch.zeros(8, 10, device=GPU)
    for labels in (torch.zeros(8, dtype=torch.int64, device=GPU), torch.full((8, 10), 0.1, device=GPU)):
        assert is_there(of(logits, labels), torch.float32)
    assert gpu.waits == []


@pytest.mark.parametrize("metrics", choices("metrics"))
def test_every_metric_stays_on_the_gpu(gpu: Pretended, metrics: str) -> None:
    cfg = composed(metrics)
    classifier = build_classifier(cfg, build_data(cfg)).to(GPU)
    logits, labels = torch.zeros(8, 10, device=GPU), torch.zeros(8, dtype=torch.int64, device=GPU)
    for metric in classifier.more_metrics["test"].values():
        metric.update(logits, labels)
        assert is_there(metric.compute(), torch.float32)


def test_what_every_run_counts_stays_on_the_gpu_and_waits_for_nothing(gpu: Pretended) -> None:
    cfg = composed()
    classifier = build_classifier(cfg, build_data(cfg)).to(GPU)
    gpu.waits.clear()
    logits, labels = torch.zeros(8, 10, device=GPU), torch.zeros(8, dtype=torch.int64, device=GPU)
    metrics: StageMetrics = classifier.fit_metrics
    for each in (labels, torch.full((8, 10), 0.1, device=GPU)):
        metrics.update(torch.zeros((), device=GPU), logits, each)
    for metric in (metrics.loss, metrics.accuracy):
        assert is_there(metric.compute(), torch.float32)
    for _ in range(2):
        classifier.test_images.update(logits, labels, 0, 1)
    assert gpu.waits == []
    assert len(classifier.test_images.compute().label) == 16


@pytest.mark.parametrize("tta", choices("tta"))
def test_every_view_of_test_time_augmentation_stays_on_the_gpu(gpu: Pretended, tta: str) -> None:
    group, name = tta.split("=")
    average = ViewAverage.from_config(OmegaConf.load(CONF / group / f"{name}.yaml")[name], "probabilities")
    seen = [view(torch.zeros(8, 3, 16, 16, device=GPU)) for view in average.views]
    assert all(is_there(images, torch.float32, 8, 3, 16, 16) for images in seen)
    assert is_there(average(torch.zeros(len(seen), 8, 10, device=GPU)), torch.float32, 8, 10)


@pytest.mark.parametrize("optim", choices("optim"))
def test_every_optimiser_steps_on_the_gpu(gpu: Pretended, optim: str) -> None:
    cfg = composed(optim)
    classifier = build_classifier(cfg, build_data(cfg)).to(GPU)
    optimizer = classifier.optimizer(classifier.network)
    for _ in range(2):
        classifier.backward(torch.zeros((), device=GPU))
        optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert all(value.device == GPU for value in kept if value.ndim)


@pytest.mark.parametrize(("trainer", "pinned"), [("trainer=gpu", True), ("trainer=cpu", False)])
def test_only_a_run_on_the_gpu_pins_memory(gpu: Pretended, trainer: str, pinned: bool) -> None:
    """Which takes a CUDA context: some 500 MB of the GPU, and an error where others have it to themselves."""
    cfg = composed(trainer, "data.device=cpu")
    data = build_data(cfg)
    data.trainer = build_trainer(cfg, logger=False)
    assert [loader().pin_memory for loader in (data.train_dataloader, data.test_dataloader)] == [pinned, pinned]


@pytest.mark.parametrize("compile", ["reduce-overhead", "max-autotune"])
def test_gradients_that_cuda_graphs_overwrite_are_not_accumulated(gpu: Pretended, compile: str) -> None:
    cfg = composed("trainer=gpu", "trainer.accumulate_grad_batches=2", f"compile={compile}")
    with pytest.raises(ValueError, match=f"accumulate_grad_batches is 2 and compile is {compile}: .* use compile=true"):
        build_trainer(cfg, logger=False)
    for other in ("trainer=cpu", "compile=true", "trainer.accumulate_grad_batches=1"):
        build_trainer(composed("trainer=gpu", "trainer.accumulate_grad_batches=2", f"compile={compile}", other))


# ------------------------------------------------------------------------------------------------------------
# Whole runs
# ------------------------------------------------------------------------------------------------------------


class Watch(L.Callback):
    """What each step waited for, from the end of the one before."""

    def __init__(self, gpu: Pretended) -> None:
        self.gpu = gpu
        self.steps: list[list[str]] = []

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(self.gpu.waits.copy())
        self.gpu.waits.clear()


@pytest.mark.parametrize(
    ("overrides", "waits"),
    [
        (("trainer.gradient_clip_val=1", "optim=adamw", "aug=mixup_cutmix"), 0),
        (("trainer.precision=16-mixed", "data.device=cpu", "metrics=f1"), 0),
        (("trainer.precision=16-mixed", "trainer.gradient_clip_val=1"), 1),  # torch's GradScaler asks for infinities
        (("average=ema", "callbacks=signals", "callbacks.tensorboard=null"), 2),  # torch's AveragedModel, for its count
        (("average=swa", "average.start=0.3"), 2),
    ],
    ids=["clipping", "main memory", "float16", "ema and signals", "swa"],
)
def test_a_run_waits_for_the_gpu_only_to_log(
    gpu: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], waits: int
) -> None:
    watch, build_run_trainer = Watch(gpu), run.build_run_trainer

    def watched(*arguments: Any, **settings: Any) -> Any:
        trainer, history = build_run_trainer(*arguments, **settings)
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        return trainer, history

    monkeypatch.setattr(run, "build_run_trainer", watched)
    folder = RunFolder(tmp_path)
    folder.start_record()
    cfg = composed("logger=none", "trainer=gpu", "trainer.max_epochs=1", "data.image_size=8", *overrides)
    run.fit_and_test(cfg, folder)
    assert folder.results()["device"] == "pretended"
    assert [len(step) for step in watch.steps[1:-1]] == [waits] * 3, watch.steps  # the first and the last one log


def test_a_network_is_evaluated_and_predicts_on_the_gpu(
    gpu: Pretended, finished: Run, evaluate: Callable[..., Run], predict: Callable[..., Run], tmp_path: Path
) -> None:
    evaluated = evaluate(f"ckpt={finished.folder}", "tta=[none,flip,flip_shift]", "corruptions=[contrast]")
    assert evaluated.code == 0, evaluated.err
    assert json.loads((evaluated.folder / "eval.json").read_text())["device"] == "pretended"
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    predicted = predict("images=black.png", "trainer=auto")
    assert predicted.code == 0 and "10.0%" in predicted.out, predicted.err
