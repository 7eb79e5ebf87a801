"""Splits, batches, augmentation and normalisation, as a training run sees them."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from src.augment import Mixup, Pipeline, RandomCrop, RandomHorizontalFlip, TrivialAugmentWide
from src.data.datamodule import ImageDataModule, epoch_order
from src.data.digits import Digits
from src.data.image_set import ImageSet, LabelledImages

CONF = Path(__file__).parents[2] / "conf" / "data"
NEUTRAL = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Numbered:
    """Images of noise whose label is their position, so that each can be told from the others anywhere."""

    def __init__(self, count: int) -> None:
        self.count = count

    def load(self) -> LabelledImages:
        def noise(seed: int) -> Tensor:
            shape = (self.count, 3, 8, 8)
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

        labels = torch.arange(self.count)
        names = tuple(str(label) for label in labels.tolist())
        return LabelledImages(ImageSet(noise(0), labels), ImageSet(noise(1), labels), names)


def numbered(count: int, seed: int = 0, aug: Pipeline | None = None, **settings: Any) -> ImageDataModule:
    return ImageDataModule(Numbered(count), aug or Pipeline(), seed, **(NEUTRAL | {"val_size": 0} | settings))


def digits(seed: int = 0, aug: Pipeline | None = None, **settings: Any) -> ImageDataModule:
    return ImageDataModule(Digits(8), aug or Pipeline(), seed, **(NEUTRAL | {"batch_size": 50} | settings))


class Processes(L.Trainer):
    """The trainer of one of two processes, as far as the data module knows."""

    world_size = 2


class Recorder(L.LightningModule):
    """Keeps every batch it gets: by stage, for training by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batches: dict[Any, list[tuple[Tensor, Tensor]]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.batches.setdefault(self.current_epoch, []).append(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.batches.setdefault("val", []).append(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.batches.setdefault("test", []).append(batch)

    def configure_optimizers(self) -> None:
        return None

    def labels(self, stage: Any) -> list[int]:
        return torch.cat([labels for _, labels in self.batches[stage]]).tolist()

    def by_label(self, stage: Any) -> Tensor:
        """The images of a stage in the order of their labels."""
        images = torch.cat([images for images, _ in self.batches[stage]])
        return images[torch.tensor(self.labels(stage)).argsort()]


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Recorder]:
    """Train for some epochs, test, and say which batches came."""

    def record(data: ImageDataModule, epochs: int = 2) -> Recorder:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = L.Trainer(accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, **quiet)
        recorder = Recorder()
        trainer.fit(recorder, datamodule=data)
        trainer.test(recorder, datamodule=data, verbose=False)
        return recorder

    return record


pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging intervals


# ------------------------------------------------------------------------------------------------------------
# Batches
# ------------------------------------------------------------------------------------------------------------


def test_batches_are_whole_and_normalised_to_float(record: Any) -> None:
    recorder = record(numbered(50, batch_size=16, eval_batch_size=20))
    for stage, sizes in ((0, [16, 16, 16, 2]), (1, [16, 16, 16, 2]), ("test", [20, 20, 10])):
        for (images, labels), size in zip(recorder.batches[stage], sizes, strict=True):
            assert images.shape == (size, 3, 8, 8) and images.dtype == torch.float32
            assert labels.shape == (size,) and labels.dtype == torch.int64


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(record: Any) -> None:
    recorder, other_seed = record(numbered(50, batch_size=16), epochs=3), record(numbered(50, seed=1, batch_size=16))
    for epoch in range(3):
        assert sorted(recorder.labels(epoch)) == list(range(50))
    orders = [recorder.labels(0), recorder.labels(1), recorder.labels(2), other_seed.labels(0), other_seed.labels(1)]
    assert len({tuple(order) for order in orders}) == 5
    assert sorted(recorder.labels(0)) != recorder.labels(0)


def test_the_order_is_the_seeds_and_no_global_generators(record: Any) -> None:
    first = record(numbered(30, batch_size=7))
    torch.manual_seed(123)
    assert record(numbered(30, batch_size=7)).labels(1) == first.labels(1)


def test_order_augmentation_and_split_may_have_seeds_of_their_own(record: Any) -> None:
    def data(**seeds: int | None) -> ImageDataModule:
        return numbered(40, aug=AUGMENTATIONS["basic"](), batch_size=8, **seeds)

    usual, order, augmentation = (record(data(**own)) for own in ({}, {"order_seed": 5}, {"augment_seed": 5}))
    assert usual.labels(0) != order.labels(0) and torch.equal(usual.by_label(0), order.by_label(0))
    assert usual.labels(0) == augmentation.labels(0) and not torch.equal(usual.by_label(0), augmentation.by_label(0))
    split, same = digits(seed=3, split_seed=None), digits(split_seed=3)
    assert torch.equal(split.val.positions, same.val.positions)


def test_evaluation_keeps_the_order(record: Any) -> None:
    assert record(numbered(30, batch_size=30, eval_batch_size=7)).labels("test") == list(range(30))


@pytest.mark.parametrize(("count", "expected"), [(33, [16, 16]), (34, [16, 16, 2]), (32, [16, 16])])
def test_a_leftover_batch_of_one_image_is_dropped(record: Any, count: int, expected: list[int]) -> None:
    recorder = record(numbered(count, batch_size=16, eval_batch_size=16))
    assert [len(labels) for _, labels in recorder.batches[0]] == expected
    assert sorted(recorder.labels("test")) == list(range(count))  # testing leaves none out


def test_batches_of_one_image_are_kept_where_they_are_asked_for(record: Any) -> None:
    assert len(record(numbered(3, batch_size=1)).batches[0]) == 3


# ------------------------------------------------------------------------------------------------------------
# Augmentation and normalisation
# ------------------------------------------------------------------------------------------------------------

AUGMENTATIONS = {
    "basic": lambda: Pipeline([RandomCrop(4), RandomHorizontalFlip()]),
    "trivialaugment": lambda: Pipeline([RandomCrop(4), RandomHorizontalFlip(), TrivialAugmentWide()]),
}


@pytest.mark.parametrize("aug", AUGMENTATIONS.values(), ids=AUGMENTATIONS.keys())
def test_an_image_is_augmented_alike_in_whatever_batch_it_sits(record: Any, aug: Callable[[], Pipeline]) -> None:
    small = record(numbered(40, aug=aug(), batch_size=4))
    large = record(numbered(40, aug=aug(), batch_size=37))
    for epoch in range(2):
        assert torch.equal(small.by_label(epoch), large.by_label(epoch))


@pytest.mark.parametrize("aug", AUGMENTATIONS.values(), ids=AUGMENTATIONS.keys())
def test_epochs_and_seeds_augment_differently(record: Any, aug: Callable[[], Pipeline]) -> None:
    recorder, other_seed = record(numbered(40, aug=aug(), batch_size=20)), record(numbered(40, 1, aug(), batch_size=20))
    for one, other in ((recorder, 1), (other_seed, 0)):
        same = (recorder.by_label(0) == one.by_label(other)).flatten(1).all(1)
        assert same.float().mean() < 0.5


def test_a_subset_augments_its_images_as_the_whole_set_does() -> None:
    aug = AUGMENTATIONS["trivialaugment"]()
    part, whole = digits(aug=aug, train_size=100), digits(aug=aug)
    images, _, positions = part.train.__getitems__(range(100))
    assert torch.equal(part.augment(images, positions, 3), whole.augment(images, positions, 3))


def test_mixing_pairs_neighbours_of_the_epochs_batches(record: Any) -> None:
    aug = Pipeline([RandomHorizontalFlip(), Mixup()])
    plain, mixed = record(numbered(50, batch_size=16)), record(numbered(50, aug=aug, batch_size=16))
    weights: set[float] = set()
    for epoch in range(2):
        for (_, labels), (images, probabilities) in zip(plain.batches[epoch], mixed.batches[epoch], strict=True):
            assert images.shape == (len(labels), 3, 8, 8) and probabilities.shape == (len(labels), 50)
            own = probabilities.gather(1, labels[:, None])
            partner = probabilities.gather(1, labels.roll(1)[:, None])
            assert torch.allclose(own + partner, torch.ones(len(labels), 1))
            weights |= set(own.flatten().tolist())
    assert len(weights) == 100
    assert mixed.batches["test"][0][1].ndim == 1


def test_the_partner_of_another_process_is_augmented_as_it_is_there() -> None:
    """What a process computes whose batches are every other image: the pairs of one process."""
    aug = Pipeline([RandomCrop(4), TrivialAugmentWide(), Mixup()])
    data = digits(aug=aug, train_size=100)
    order = epoch_order(100, seed=0, epoch=3)[50:100]
    images, labels, positions = data.train.__getitems__(order)
    together = data.mix(data.augment(images, positions, 3), labels, positions, 3)
    for rank in range(2):
        data.trainer = Processes(accelerator="cpu", logger=False, enable_checkpointing=False)
        images, labels, positions = data.train.__getitems__(order[rank::2])
        for apart, whole in zip(
            data.mix(data.augment(images, positions, 3), labels, positions, 3), together, strict=True
        ):
            assert torch.equal(apart, whole[rank::2])


def test_only_training_batches_are_augmented(record: Any) -> None:
    black = Pipeline([RandomCrop(4), RandomHorizontalFlip(), TrivialAugmentWide()])
    data = numbered(40, aug=black, batch_size=20, val_size="test")
    recorder = record(data)
    plain = data.test.images.float() / 255
    for stage in ("val", "test"):
        assert torch.allclose(recorder.batches[stage][0][0], plain, atol=1e-6)
    assert not torch.allclose(recorder.by_label(0), data.train.images.float() / 255, atol=0.1)


def test_the_store_is_never_changed(record: Any) -> None:
    data = numbered(40, aug=AUGMENTATIONS["trivialaugment"](), batch_size=20)
    before = data.train.images.clone()
    record(data)
    assert torch.equal(data.train.images, before)


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    data = numbered(4, batch_size=2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    expected = torch.tensor([[-1, -0.6, 1], [-1, -0.2, 3], [0, 0.1, 0.5]]).view(1, 3, 1, 3)
    assert torch.allclose(data.normalise(images), expected, atol=1e-6)


def test_noise_and_tail_are_of_the_training_images_alone() -> None:
    clean, data = digits(), digits(label_noise=0.25, imbalance=4, train_size=400)
    assert torch.equal(data.val.labels[data.val.positions], clean.val.labels[clean.val.positions])
    assert torch.equal(data.test.labels, clean.test.labels) and len(data.train) == 400
    wrong = data.train.labels[data.train.positions] != clean.train.labels[data.train.positions]
    assert data.wrong_labels == wrong.float().mean() == 0.25
    kept = clean.train.labels[data.train.positions].bincount()
    assert kept[0] / kept[9] == pytest.approx(4, rel=0.2)


def test_one_channel_is_grey() -> None:
    data = numbered(4, batch_size=2, channels=1, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.3))
    images = data.train.images
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
    assert torch.allclose(data.normalise(images), (grey / 255 - 0.4) / 0.35, atol=1e-5)
    with pytest.raises(ValueError, match=r"data.channels is 2; expected 1, 3 or null"):
        numbered(4, batch_size=2, channels=2)


def test_the_digits_own_constants_centre_them() -> None:
    conf = OmegaConf.merge(*(OmegaConf.load(CONF / f"{name}.yaml") for name in ("_base", "digits")))
    del conf["defaults"]
    data = instantiate(OmegaConf.create({"data": conf, "seeds": {"split": 0}}).data, aug=Pipeline(), seed=0)
    images = data.normalise(data.train.images)
    assert images.shape[1:] == (3, 32, 32)
    assert images.mean().item() == pytest.approx(0, abs=0.01) and images.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("val_size", [10, "test"])
def test_images_that_were_moved_to_another_device_give_the_same_batches(record: Any, val_size: Any) -> None:
    settings: dict[str, Any] = {"aug": AUGMENTATIONS["trivialaugment"](), "train_size": 100, "val_size": val_size}
    stay, moved = digits(**settings), digits(**settings)
    moved.keep_on(torch.device("cpu"))
    for stage, batches in record(stay).batches.items():
        for one, other in zip(batches, record(moved).batches[stage], strict=True):
            assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("val_size", [10, "test"])
def test_sets_of_one_store_still_share_it_on_another_device(val_size: Any) -> None:
    data = digits(train_size=100, val_size=val_size)
    data.keep_on(torch.device("meta"))
    assert {images.images.device.type for images in (data.train, data.val, data.test)} == {"meta"}
    assert data.val.images is (data.test if val_size == "test" else data.train).images
    assert len(data.train) == 100 and data.train.positions.device.type == "cpu"


# ------------------------------------------------------------------------------------------------------------
# Splits
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"train_size": 300}, {"train_fraction": 0.2}, {"val_size": 100}])
def test_every_seed_sees_the_same_split(settings: dict[str, Any]) -> None:
    one, other = digits(seed=0, **settings), digits(seed=1, **settings)
    moved = digits(seed=0, split_seed=1, **settings)
    for part in ("train", "val"):
        assert torch.equal(getattr(one, part).positions, getattr(other, part).positions)
        assert not torch.equal(getattr(one, part).positions, getattr(moved, part).positions)


def test_validation_images_come_out_of_training_and_testing_stays_apart() -> None:
    data = digits(val_size=0.1)
    assert (len(data.train), len(data.val), len(data.test)) == (1294, 144, 359)
    assert torch.equal(torch.cat([data.train.positions, data.val.positions]).sort().values, torch.arange(1438))


def test_a_subset_keeps_the_validation_images_and_grows_with_its_size() -> None:
    sizes = [digits(train_size=size) for size in (100, 300, 1294)]
    for smaller, larger in pairwise(sizes):
        assert set(smaller.train.positions.tolist()) < set(larger.train.positions.tolist())
        assert torch.equal(smaller.val.positions, larger.val.positions)


def test_a_fraction_is_of_what_is_left_for_training() -> None:
    assert len(digits(train_fraction=0.5).train) == 647
    assert len(digits(train_fraction=1).train) == len(digits(train_fraction=1.0).train) == 1294


def test_validating_on_the_test_images() -> None:
    data = digits(val_size="test")
    assert data.val is data.test and len(data.train) == 1438


def test_no_validation() -> None:
    data = digits(val_size=0)
    assert len(data.val) == 0 and len(data.train) == 1438 and data.val_dataloader() == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 2000}, "data.batch_size is 2000, but there are only 1294 training images"),
        ({"batch_size": 0}, "data.batch_size is 0; expected a whole number, 1 or more."),
        ({"eval_batch_size": "all"}, "data.eval_batch_size is 'all'; expected a whole number, 1 or more."),
        ({"seed": -1}, "seed is -1; expected a whole number from 0 to 4294967295."),
        ({"seed": 2**32}, "seed is 4294967296; expected a whole number from 0 to 4294967295."),
        ({"split_seed": 0.5}, "data.split_seed is 0.5; expected a whole number"),
        ({"device": "cuda"}, "data.device is 'cuda'; expected auto or cpu."),
        ({"mean": 0.5}, "data.mean is 0.5; expected three numbers, one per channel."),
        ({"mean": (0.5, "a", 0.5)}, "data.mean is (0.5, 'a', 0.5); expected three numbers, one per channel."),
        ({"std": (1, 1)}, "data.std is (1, 1); expected three numbers, one per channel, all above 0."),
        ({"std": (1, 0, 1)}, "data.std is (1, 0, 1); expected three numbers, one per channel, all above 0."),
        ({"train_size": 10, "train_fraction": 0.5}, "data.train_fraction and data.train_size are both set"),
        ({"train_size": 0}, "data.train_size is 0; expected a whole number of the 1294 images there are."),
        ({"train_size": 0.5}, "data.train_size is 0.5; expected a whole number of the 1294 images there are."),
        ({"train_size": 5}, "A subset of 5 out of 1294 images holds none of the"),
        ({"train_fraction": 1.5}, "data.train_fraction is 1.5; expected a number above 0, up to 1."),
        ({"train_fraction": "half"}, "data.train_fraction is 'half'; expected a number above 0, up to 1."),
        ({"val_size": 1438}, "data.val_size=1438 leaves nothing to train on"),
        ({"val_size": -5}, "data.val_size, where it is not 0, must be a whole number of images from 1 to 1438"),
        ({"val_size": "train"}, "data.val_size, where it is not 0, must be a whole number"),
    ],
)
def test_a_setting_that_does_not_fit_gets_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        digits(**settings)
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)
