"""Loss, metrics, memory format, checkpoints of the LightningModule."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from src.training.classifier import Classifier, ImageMean
from src.training.optimizers import build_optimizer
from src.training.schedules import Constant, Cosine, Schedule

CLASSES = ("cat", "dog", "fox")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def classifier(schedule: Schedule | None = None, lr: float = 0.05, **settings: Any) -> Classifier:
    optimizer = partial(build_optimizer, algorithm="SGD", lr=lr)
    return Classifier(network(), optimizer, schedule or Constant(), classes=CLASSES, image_size=8, **settings)


def images_and_labels(count: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def loader(batch_size: int = 15) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*images_and_labels()), batch_size)


def fit(module: Classifier, epochs: int = 1, **settings: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, **settings,
    )  # fmt: skip
    trainer.fit(module, loader(), loader())
    return trainer


pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging intervals


def test_loss_and_accuracy_are_those_of_all_images_whatever_the_batches() -> None:
    module = classifier()
    trainer = fit(module)
    images, labels = images_and_labels()
    with torch.no_grad():
        logits = module.eval()(images)
    validated = trainer.callback_metrics
    assert validated["val/loss"].item() == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    right = sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))
    assert validated["val/accuracy"].item() == pytest.approx(right / 40)


def test_training_metrics_are_collected_as_the_weights_move() -> None:
    reference = network().train()
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    images, labels = images_and_labels()
    total, right = 0.0, 0
    for batch, label in zip(images.split(15), labels.split(15), strict=True):
        logits = reference(batch)
        loss = cross_entropy(logits, label)
        total, right = total + loss.item() * len(label), right + int((logits.argmax(1) == label).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    module = classifier()
    trained = fit(module).callback_metrics
    assert trained["train/loss"].item() == pytest.approx(total / 40, rel=1e-4)
    assert trained["train/accuracy"].item() == pytest.approx(right / 40)
    for own, expected in zip(module.network.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(own, expected, atol=1e-5)


def test_the_mean_over_images_is_torchmetrics_own() -> None:
    ours, theirs = ImageMean(), MeanMetric()
    for mean, images in ((torch.tensor(2.3), 15), (torch.tensor(0.1), 15), (torch.tensor(7.7), 3)):
        ours.update(mean, images)
        theirs.update(mean, weight=images)
    assert ours.compute().item() == theirs.compute().item()


def test_the_loss_is_of_training_only() -> None:
    images, labels = images_and_labels()
    logits = network().train()(images[:15])
    module = classifier(loss=nn.CrossEntropyLoss(label_smoothing=0.2), lr=1e-30)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=1, logger=False, enable_progress_bar=False,
                        enable_checkpointing=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(module, loader(), loader())
    smoothed = cross_entropy(logits, labels[:15], label_smoothing=0.2).item()
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(smoothed, rel=1e-5)
    plain = cross_entropy(module.eval()(images), labels).item()
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(plain, rel=1e-5)


def test_an_image_of_mixed_labels_is_right_if_its_main_class_is_predicted() -> None:
    images, labels = images_and_labels()
    others = labels.roll(1)
    shares = torch.rand(len(labels), 1, generator=torch.Generator().manual_seed(0))
    mixed = shares * nn.functional.one_hot(labels, 3) + (1 - shares) * nn.functional.one_hot(others, 3)
    module = classifier(lr=1e-30)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
                        enable_checkpointing=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(images, mixed), len(images)))
    logits = network().train()(images)
    main = torch.where(shares[:, 0] > 0.5, labels, others)
    right = sum(int(row.argmax() == label) for row, label in zip(logits, main, strict=True))
    assert trainer.callback_metrics["train/accuracy"].item() == pytest.approx(right / len(images))
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(cross_entropy(logits, mixed).item(), rel=1e-5)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_that_of_weights_and_images(channels_last: bool) -> None:
    module = classifier(channels_last=channels_last)
    seen = []
    module.network[0].register_forward_hook(lambda _, args, out: seen.extend([args[0], out]))
    images, _ = images_and_labels()
    module(images)
    for tensor in (*seen, module.network[0].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert torch.allclose(module(images), network()(images), atol=1e-5)


def test_compiling_changes_no_name_and_is_put_off_until_it_is_used() -> None:
    assert classifier(compile=True).state_dict().keys() == classifier().state_dict().keys()


def test_a_checkpoint_is_plain_and_tells_the_classes_and_the_config(tmp_path: Path) -> None:
    trainer = fit(classifier(config={"model": {"_target_": "a.B"}, "lr": 0.1, "sizes": [1, 2]}))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"] == {
        "config": {"model": {"_target_": "a.B"}, "lr": 0.1, "sizes": [1, 2]},
        "classes": list(CLASSES),
        "image_size": 8,
    }
    other = classifier()
    other.load_state_dict(checkpoint["state_dict"])


def test_the_schedule_is_stepped_once_an_optimiser_step() -> None:
    rates = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(classifier(Cosine(), lr=1.0), epochs=2, callbacks=[Watch()])  # 2 x 3 steps
    assert rates == pytest.approx([Cosine().factor(step, steps=6, steps_per_epoch=3) for step in range(1, 7)])

    rates.clear()
    fit(classifier(Cosine(), lr=1.0), epochs=2, accumulate_grad_batches=2, callbacks=[Watch()])  # 2 x 2 steps
    factors = [Cosine().factor(step, steps=4, steps_per_epoch=2) for step in (0, 1, 2, 2, 3, 4)]
    assert rates == pytest.approx(factors)


def test_a_warm_up_counts_epochs() -> None:
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(classifier(Constant(warmup_epochs=2), lr=1.0), epochs=3, callbacks=[Watch()])
    assert rates == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1])


def test_what_the_network_draws_depends_on_seed_and_batch_alone() -> None:
    def draws(seed: int, **settings: Any) -> list[float]:
        seen: list[float] = []
        module = classifier(seed=seed)
        module.network.register_forward_hook(
            lambda net, *_: seen.append(torch.rand(()).item()) if net.training else None
        )
        torch.manual_seed(len(settings))  # of no account
        fit(module, epochs=2, **settings)
        return seen

    first = draws(0)
    assert len(set(first)) == 6
    assert draws(0) == draws(0, accumulate_grad_batches=2) == first
    assert not set(draws(1)) & set(first)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training(bad: float) -> None:
    module = classifier()
    images, labels = images_and_labels()
    images[20] = bad  # in the second batch
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
                        enable_checkpointing=False, enable_model_summary=False)  # fmt: skip
    with pytest.raises(FloatingPointError, match="The loss became nan in epoch 1, at step 1, with learning"):
        trainer.fit(module, DataLoader(TensorDataset(images, labels), 15))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"compile": "no"}, "compile is 'no'; expected true, false, reduce-overhead or max-autotune."),
        ({"channels_last": 0}, "channels_last is 0; expected true or false."),
    ],
)
def test_a_setting_out_of_range_gets_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        classifier(**settings)
    assert str(error.value) == sentence
