"""Stratified selections of a labelled set: determined by their arguments, the same on every machine.

A selection takes from each class the front of a random order that depends only on the seed, so a larger
selection with the same seed continues a smaller one: learning curves add images instead of exchanging them.
"""

import numpy as np
import torch
from torch import Tensor


def stratified_split(labels: Tensor, positions: Tensor, val_size: float | int, seed: int) -> tuple[Tensor, Tensor]:
    """Split a validation set from the images at ``positions``.

    Args:
        labels: int64 ``[N]``, the labels of the whole store.
        positions: int64 ``[M]``, the images of the store to split.
        val_size: number of images for validation (a whole number), or a fraction
            (strictly between 0 and 1); 0 for none.
        seed: 0 to 2**32 - 1.

    Returns:
        train and validation positions, int64, ascending, together all of ``positions``. Every class has the
        same share of both within one image.

    Raises:
        ValueError: ``val_size`` is invalid, not smaller than ``M``, or leaves one of the two sets
            without images of some class.
    """
    if val_size == 0:
        return positions.sort().values, positions[:0]
    count = _count("data.val_size, where it is not 0,", val_size, len(positions))
    if count >= len(positions):
        raise ValueError(
            f"data.val_size={val_size} leaves nothing to train on: it must be smaller than "
            f"the {len(positions)} images there are."
        )
    chosen = _choose(labels, positions, count, seed)
    for label, total, picked in _per_class(labels, positions, chosen):
        if picked in (0, total):
            raise ValueError(
                f"Class {label} has too few images to split ({total}): data.val_size={val_size} puts "
                f"{picked} of them into validation, but training and validation each need at least one image "
                "of every class, so change data.val_size or add images of this class."
            )
    return positions[~chosen].sort().values, positions[chosen].sort().values


def stratified_subset(labels: Tensor, positions: Tensor, size: int | float, seed: int) -> Tensor:
    """Keep only some of the images at ``positions``, every class in its proportion within one image.

    A larger subset contains a smaller one of the same seed if every class grows by at least one
    image, and always if all classes are equally frequent.

    Args:
        labels, positions, seed: see ``stratified_split``.
        size: number of images to keep (a whole number), or a fraction (above 0, up to 1.0).

    Returns:
        the chosen positions, int64, ascending.

    Raises:
        ValueError: ``size`` is invalid, larger than ``M``, or too small for an image of each class.
    """
    count = _count("The subset size", size, len(positions))
    chosen = _choose(labels, positions, count, seed)
    for label, total, picked in _per_class(labels, positions, chosen):
        if picked == 0:
            raise ValueError(
                f"A subset of {count} out of {len(positions)} images holds none of the {total} of class "
                f"{label}: every class needs at least one image, so ask for a larger subset."
            )
    return positions[chosen].sort().values


def long_tail(labels: Tensor, positions: Tensor, ratio: float, seed: int) -> Tensor:
    """Keep fewer images of each class than of the one before it, exponentially (Cui et al. 2019, arXiv:1901.05555).

    Of ``C`` classes, the ``i``-th from 0 keeps the share ``ratio ** (-i / (C - 1))`` of its images, at least one. A
    larger ratio keeps some of the images of a smaller one.

    Args:
        labels, positions, seed: see ``stratified_split``.
        ratio: 1 or more, between the shares of the first class and the last one.

    Returns:
        the chosen positions, int64, ascending.

    Raises:
        ValueError: ``ratio`` is below 1.
    """
    if not isinstance(ratio, int | float) or not ratio >= 1:
        raise ValueError(f"data.imbalance is {ratio!r}; expected a number, 1 or more.")
    order = positions[_permutation(len(positions), seed)]
    classes = int(labels.max()) + 1
    kept = []
    for label in range(classes):
        own = order[labels[order] == label]
        kept.append(own[: max(1, int(len(own) * ratio ** (-label / max(1, classes - 1))))])
    return torch.cat(kept).sort().values


def with_wrong_labels(labels: Tensor, positions: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Give some images another label, uniform over the other classes (symmetric noise).

    With a larger share, an image that was wrong before keeps its wrong label.

    Args:
        labels, positions, seed: see ``stratified_split``; none is modified.
        share: of these, 0 to 1; rounded to whole images.
        classes: number of classes, at least 2.

    Returns:
        int64 ``[N]``.

    Raises:
        ValueError: ``share`` is out of range.
    """
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"data.label_noise is {share!r}; expected a share of the training images, 0 to 1.")
    wrong = positions[_permutation(len(positions), seed)]
    shift = torch.from_numpy(np.random.RandomState((seed + 1) % 2**32).randint(1, classes, len(positions)))
    wrong, shift = (part[: round(share * len(positions))] for part in (wrong, shift))
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + shift) % classes
    return noisy


def _permutation(count: int, seed: int) -> Tensor:
    # RandomState because NumPy guarantees its stream, and a split must not depend on library versions.
    return torch.from_numpy(np.random.RandomState(seed).permutation(count))


def _count(name: str, size: float | int, available: int) -> int:
    """A size as a number of images; a fraction is rounded."""
    if isinstance(size, int) and 0 < size <= available:
        return size
    if isinstance(size, float) and 0 < size <= 1:
        return round(size * available)
    raise ValueError(
        f"{name} must be a whole number of images from 1 to {available} (as many as there are) "
        f"or a fraction between 0.0 and 1.0, but it is {size!r}."
    )


def _choose(labels: Tensor, positions: Tensor, count: int, seed: int) -> Tensor:
    """A mask of ``positions`` (bool ``[M]``): a stratified selection of exactly ``count``."""
    own = labels[positions].numpy()
    _, label, totals = np.unique(own, return_inverse=True, return_counts=True)

    # Largest remainders, in whole numbers: exact, so that ties are resolved the same way for every count.
    quota, remainder = np.divmod(totals * count, len(own))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1

    order = _permutation(len(own), seed).numpy()
    order = order[np.argsort(label[order], kind="stable")]  # class by class, shuffled within each
    rank = np.arange(len(own)) - np.repeat(np.cumsum(totals) - totals, totals)
    chosen = torch.zeros(len(own), dtype=torch.bool)
    chosen[order[rank < quota[label[order]]]] = True
    return chosen


def _per_class(labels: Tensor, positions: Tensor, chosen: Tensor) -> list[tuple[int, int, int]]:
    """Class index, number of images, number of chosen images, of every class among ``positions``."""
    own = labels[positions]
    totals, picked = own.bincount(), own[chosen].bincount(minlength=int(own.max()) + 1)
    return [(label, int(totals[label]), int(picked[label])) for label in totals.nonzero().flatten().tolist()]
