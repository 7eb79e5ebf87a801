"""The LightningDataModule: splits, batches, augmentation and normalisation, for any source of images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from src.augment import Transform
from src.data.image_set import Batch, ImageSet, LabelledImages
from src.data.normalise import Normalise
from src.data.splits import long_tail, stratified_split, stratified_subset, with_wrong_labels


class Source(Protocol):
    """A source of images."""

    def load(self) -> LabelledImages: ...


def random_stream(*key: int) -> torch.Generator:
    """A CPU generator whose numbers depend only on ``key`` (integers, 0 or more); different keys give
    independent streams (numpy's SeedSequence)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


_ORDER, _AUGMENTATION, _MIXING = 0, 1, 2  # the purposes of a stream


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The order of ``size`` images in an epoch, int64 ``[size]``."""
    return torch.randperm(size, generator=random_stream(seed, epoch, _ORDER))


class EpochSampler(Sampler[int]):
    """A new order of the images every epoch, which depends only on seed and epoch.

    In distributed training each process takes every n-th image. The number of processes divides the batch size, so the
    images of a batch do not depend on that number.

    Args:
        size: number of images.
        seed: 0 or more.
        seen: returns, at the start of an epoch, how many of its images an interrupted run has already seen;
            they are left out.
        rank, processes: rank of this process, and their number.
        dropped: images left out at the end of each epoch.
    """

    def __init__(self, size: int, seed: int, seen: Callable[[], int], rank: int, processes: int, dropped: int) -> None:
        self.size = size
        self.seed = seed
        self.seen = seen
        self.epoch = 0
        self.share = slice(rank, size - dropped, processes)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.size)[self.share])

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self.size, self.seed, self.epoch)
        share = slice(self.seen() + self.share.start, self.share.stop, self.share.step)
        return iter(order[share].tolist())


class ImageDataModule(L.LightningDataModule):
    """Batches of normalised float images ``[B, channels, S, S]`` and int64 labels ``[B]``.

    Images stay uint8. Training batches are augmented, then every batch is normalised, on the device that
    uses it. The augmentation of an image depends only on the seed, the epoch and the image, not on its batch or
    process, so an interrupted run continues exactly. Where ``aug`` mixes images, the labels of training batches are
    probabilities, float ``[B, classes]``; an image's partner is the one before it in the batch of the step, which the
    processes share, so that it depends on the batch size, but not on their number.

    Args:
        source: the source of the images.
        aug: augmentation of training batches.
        seed: for the three below where they are None.
        order_seed, augment_seed: of the order of images, and of augmentation.
        mean, std: normalisation constants, per channel, for values 0 to 1.
        batch_size: images per training step, shared by all processes.
        eval_batch_size: images per step of validation and test, likewise.
        val_size: stratified part of the training images for validation: a count, a fraction, or 0. With
            ``"test"`` the test images are used, as in studies that choose their best epoch by them.
        split_seed: of that split, and of the choices of images and wrong labels below.
        device: where the images are stored. ``"auto"``: on the training GPU if they fill at most a quarter of its free
            memory, so that a batch never waits for the host; ``"cpu"``: in main memory.
        imbalance: keep a long tail of the remaining images, see ``long_tail``.
        train_fraction, train_size: train on a stratified part of what then remains; at most one of the two.
        label_noise: share of these that get a wrong label, see ``with_wrong_labels``. Labels of validation and test
            images stay as they are.
        channels: of the batches, 3 or 1 (grey). None means 3.
        settings: config keys that only the source uses; ignored here.

    Attributes:
        wrong_labels: the share of training images with a wrong label.
        content: of the source's images, see ``LabelledImages``.

    Raises:
        ValueError: ``source`` is not a source, or a setting is out of range or requests more images than there are.
    """

    def __init__(
        self,
        source: Source,
        aug: Transform,
        seed: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: float | Literal["test"] = 0.1,
        order_seed: int | None = None,
        augment_seed: int | None = None,
        split_seed: int | None = 0,
        device: Literal["auto", "cpu"] = "auto",
        train_fraction: float | None = None,
        train_size: int | None = None,
        imbalance: float | None = None,
        label_noise: float | None = None,
        channels: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            numbers = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
            if not numbers or len(values) != 3 or (name == "std" and min(values) <= 0):
                above = ", all above 0" if name == "std" else ""
                raise ValueError(f"data.{name} is {values}; expected three numbers, one per channel{above}.")
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"data.{name} is {size!r}; expected a whole number, 1 or more.")
        split_seed = seed if split_seed is None else split_seed
        for name, value in (("seed", seed), ("data.split_seed", split_seed)):
            if type(value) is not int or not 0 <= value < 2**32:
                raise ValueError(f"{name} is {value!r}; expected a whole number from 0 to {2**32 - 1}.")
        if device not in ("auto", "cpu"):
            raise ValueError(f"data.device is {device!r}; expected auto or cpu.")
        if train_fraction is not None and train_size is not None:
            raise ValueError("data.train_fraction and data.train_size are both set; set one of them.")
        if train_fraction is not None and not (isinstance(train_fraction, int | float) and 0 < train_fraction <= 1):
            raise ValueError(f"data.train_fraction is {train_fraction!r}; expected a number above 0, up to 1.")
        self.aug = aug
        self.seed = seed
        self.order_seed = seed if order_seed is None else order_seed
        self.augment_seed = seed if augment_seed is None else augment_seed
        self.device = device
        self._normalise = Normalise(mean, std, channels)
        self.channels = self._normalise.channels
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size

        if not hasattr(source, "load"):
            cls = type(source).__name__
            raise ValueError(f"data.source is a {cls}, which has no method load(); write one as in src/data/digits.py.")
        images = source.load()
        if not isinstance(images, LabelledImages):
            raise ValueError(f"data.source returns {type(images).__name__} from load(); expected LabelledImages.")
        images.check()
        self.classes, self.bits = tuple(map(str, images.classes)), images.bits
        self.content = images.content
        self.image_size = images.train.images.shape[-1]
        self.test = images.test
        labels = images.train.labels
        held_out = 0 if val_size == "test" else val_size
        train, val = stratified_split(labels, images.train.positions, held_out, split_seed)
        if imbalance is not None:
            train = long_tail(labels, train, imbalance, split_seed)
        if train_size is not None and not (isinstance(train_size, int) and 0 < train_size <= len(train)):
            raise ValueError(
                f"data.train_size is {train_size!r}; expected a whole number of the {len(train)} images there are."
            )
        subset = train_size if train_fraction is None else float(train_fraction)
        if subset is not None:
            train = stratified_subset(labels, train, subset, split_seed)
        store = images.train
        if label_noise is not None:
            noisy = with_wrong_labels(labels, train, label_noise, len(images.classes), split_seed)
            store = ImageSet(store.images, noisy, ahead=store.ahead)
        self.train = store.select(train)
        self.wrong_labels = (self.train.labels != labels)[train].float().mean().item()
        self.val = images.test if val_size == "test" else store.select(val)
        if batch_size > len(self.train):
            raise ValueError(
                f"data.batch_size is {batch_size}, but there are only {len(self.train)} training images; "
                "choose a smaller batch."
            )
        self._random_of: int | None = None  # the epoch of the attributes that ``_randomise`` sets

    def setup(self, stage: str) -> None:
        """Store the images where ``device`` says."""
        assert self.trainer is not None
        place = self.trainer.strategy.root_device
        if self.device == "auto" and place.type == "cuda" and self.train.images.device != place:
            size = sum(images.nbytes for images in {self.train.images, self.test.images})
            if size <= torch.cuda.mem_get_info(place)[0] / 4:
                self.keep_on(place)

    def keep_on(self, device: torch.device) -> None:
        """Move the images to ``device``. Their random numbers stay the same."""
        sets = (self.train, self.val, self.test)
        stores: dict[Tensor, ImageSet] = {}  # training and validation share one
        for images in sets:
            if images.images not in stores:
                stores[images.images] = images.to(device)
        self.train, self.val, self.test = (stores[images.images].select(images.positions) for images in sets)

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        rank, processes, loop = self.trainer.global_rank, self.trainer.world_size, self.trainer.fit_loop
        leftover = len(self.train) % self.batch_size
        # BatchNorm needs two images, so a last batch with fewer in some process is dropped.
        dropped = leftover if leftover < 2 * processes else 0
        sampler = EpochSampler(
            len(self.train), self.order_seed, lambda: (loop.batch_idx + 1) * self.batch_size, rank, processes, dropped
        )
        return self._loader(self.train, self.batch_size // processes, sampler)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._eval_loader(self.val) if len(self.val) else []

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_loader(self.test)

    def _eval_loader(self, images: ImageSet) -> DataLoader[Batch]:
        """Every image exactly once over all processes, without padding to equal shares."""
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        share = range(rank, len(images), processes)
        return self._loader(images, max(1, self.eval_batch_size // processes), share)

    def _loader(self, images: ImageSet, batch_size: int, sampler: Sampler[int] | range) -> DataLoader[Batch]:
        there = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            images,
            batch_size,
            sampler=sampler,
            collate_fn=lambda batch: batch,  # ``ImageSet.__getitems__`` already returns whole batches
            pin_memory=there and images.images.device.type == "cpu",  # without need it would occupy the GPU
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        images, labels, positions = batch
        # The positions stay on the CPU: they select the random numbers, which the host groups by operation.
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True), positions

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels, positions = batch
        if self.trainer is not None and self.trainer.training:
            epoch = self.trainer.current_epoch
            images, labels = self.mix(self.augment(images, positions, epoch), labels, positions, epoch)
        return self.normalise(images), labels

    def augment(self, images: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Augment training images as an epoch does.

        Args:
            images: uint8 ``[B, 3, S, S]`` on any device.
            positions: of these images in the store, int64 ``[B]`` on the CPU.
            epoch: from 0.

        Returns:
            uint8 ``[B, 3, S, S]``.
        """
        self._randomise(epoch)
        return self.aug(images, self._draws[positions])

    def mix(self, images: Tensor, labels: Tensor, positions: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Mix a batch of augmented training images as an epoch does, if ``aug`` mixes images.

        Args:
            images: the result of ``augment``; in the order of the epoch.
            labels: int64 ``[B]`` on the same device.
            positions, epoch: see ``augment``.

        Returns:
            images float32 ``[B, 3, S, S]``, values 0 to 255, and probabilities float32 ``[B, classes]``. Where nothing
            mixes, the arguments.
        """
        if (mixing := self.aug.mixing) is None:
            return images, labels
        self._randomise(epoch)
        if self.trainer is None or self.trainer.world_size == 1:
            partners, partner_labels = images.roll(1, 0), labels.roll(1, 0)
        else:  # they are another process's
            others = self._partners[positions]
            there = others.to(self.train.images.device, non_blocking=True)
            raw, partner_labels = (store[there].to(images.device) for store in (self.train.images, self.train.labels))
            partners = self.augment(raw, others, epoch)
        return mixing(images, labels, partners, partner_labels, self._mixing_draws[positions], len(self.classes))

    def _randomise(self, epoch: int) -> None:
        """Draw an epoch's random numbers: uniform in [0, 1), one row per image of the store."""
        if self._random_of == epoch:
            return
        stored = len(self.train.images)
        stream = random_stream(self.augment_seed, epoch, _AUGMENTATION)
        self._draws = torch.rand(stored, self.aug.draws, generator=stream)
        if (mixing := self.aug.mixing) is not None:
            stream = random_stream(self.augment_seed, epoch, _MIXING)
            self._mixing_draws = torch.rand(stored, mixing.draws, generator=stream)
            order = self.train.positions[epoch_order(len(self.train), self.order_seed, epoch)]
            self._partners = torch.empty(stored, dtype=torch.int64)
            for batch in order.split(self.batch_size):
                self._partners[batch] = batch.roll(1)
        self._random_of = epoch

    def normalise(self, images: Tensor) -> Tensor:
        """``[B, 3, S, S]``, values 0 to 255, to float32 ``[B, channels, S, S]``, see ``Normalise``."""
        return self._normalise.to(images.device)(images)
