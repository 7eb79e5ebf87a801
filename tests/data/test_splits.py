from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from src.data.splits import long_tail, stratified_split, stratified_subset, with_wrong_labels


def labels_of(*counts: int) -> Tensor:
    """Labels with ``counts[c]`` images of class c, in no order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(7))]


BALANCED = labels_of(*[50] * 10)
UNEVEN = labels_of(313, 17, 100, 41, 29)


def everything(labels: Tensor) -> Tensor:
    return torch.arange(len(labels))


def assert_proportional(labels: Tensor, chosen: Tensor) -> None:
    exact = labels.bincount() * len(chosen) / len(labels)
    assert (labels[chosen].bincount(minlength=len(exact)) - exact).abs().max() < 1


@pytest.mark.parametrize("labels", [BALANCED, UNEVEN])
@pytest.mark.parametrize(("val_size", "count"), [(0.1, 50), (0.25, 125), (0.9, 450), (60, 60), (101, 101)])
def test_split_shares_out_all_images_in_proportion(labels: Tensor, val_size: float, count: int) -> None:
    train, val = stratified_split(labels, everything(labels), val_size, seed=0)
    assert len(val) == count
    assert torch.equal(torch.cat([train, val]).sort().values, everything(labels))
    for part in (train, val):
        assert part.dtype == torch.int64 and torch.equal(part, part.sort().values)
        assert_proportional(labels, part)


def test_split_only_uses_the_positions_given_and_reads_their_labels_from_the_store() -> None:
    positions = torch.arange(len(BALANCED)).flip(0)[::3]
    train, val = stratified_split(BALANCED, positions, 0.2, seed=0)
    assert torch.equal(torch.cat([train, val]).sort().values, positions.sort().values)
    exact = BALANCED[positions].bincount() * len(val) / len(positions)
    assert (BALANCED[val].bincount() - exact).abs().max() < 1


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    def val(seed: int) -> list[int]:
        torch.seed(), np.random.seed()  # global generators must not matter
        return stratified_split(UNEVEN, everything(UNEVEN), 0.1, seed)[1].tolist()

    assert val(3) == val(3) != val(4)


def test_the_selection_of_a_seed_never_changes() -> None:
    # Published results name their split by its seed: these numbers may not change with any version.
    labels = torch.tensor([0] * 8 + [1] * 4)
    assert stratified_subset(labels, torch.arange(12), 6, seed=0).tolist() == [1, 2, 4, 6, 10, 11]


@pytest.mark.parametrize("nothing", [0, 0.0])
def test_split_without_validation(nothing: float) -> None:
    train, val = stratified_split(BALANCED, torch.tensor([5, 3, 9]), nothing, seed=0)
    assert train.tolist() == [3, 5, 9] and val.tolist() == [] and val.dtype == torch.int64


def test_a_class_missing_from_the_positions_is_no_error() -> None:
    positions = (UNEVEN != 1).nonzero().flatten()
    train, val = stratified_split(UNEVEN, positions, 0.2, seed=0)
    assert set(UNEVEN[val].tolist()) == set(UNEVEN[train].tolist()) == {0, 2, 3, 4}


@pytest.mark.parametrize("size", [-1, -0.1, 501, 1.5, float("nan"), float("inf"), "10%", None])
def test_impossible_sizes_are_refused(size: float) -> None:
    sentence = r"whole number of images from 1 to 500 .* or a fraction between 0\.0 and 1\.0, but it is "
    with pytest.raises(ValueError, match=r"^data\.val_size, where it is not 0, must be a " + sentence):
        stratified_split(BALANCED, everything(BALANCED), size, seed=0)
    with pytest.raises(ValueError, match="^The subset size must be a " + sentence):
        stratified_subset(BALANCED, everything(BALANCED), size, seed=0)


@pytest.mark.parametrize("size", [500, 1.0])
def test_split_keeps_something_to_train_on(size: float) -> None:
    with pytest.raises(ValueError, match="leaves nothing to train on: it must be smaller than the 500 images"):
        stratified_split(BALANCED, everything(BALANCED), size, seed=0)


@pytest.mark.parametrize(
    ("counts", "val_size", "sentence"),
    [
        ((98, 1), 0.1, r"Class 1 has too few images to split \(1\): data.val_size=0.1 puts 0 of them"),
        ((98, 1), 0.9, r"Class 1 has too few images to split \(1\): data.val_size=0.9 puts 1 of them"),
        ((50, 50, 50), 2, r"Class 2 has too few images to split \(50\): data.val_size=2 puts 0 of them"),
        ((50, 50, 50), 0.001, r"Class 0 has too few images to split \(50\): data.val_size=0.001 puts 0"),
    ],
)
def test_both_halves_get_every_class(counts: tuple[int, ...], val_size: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        stratified_split(labels_of(*counts), torch.arange(sum(counts)), val_size, seed=0)


@pytest.mark.parametrize("labels", [BALANCED, UNEVEN])
@pytest.mark.parametrize(("size", "count"), [(100, 100), (0.5, 250), (0.333, 166), (500, 500), (1.0, 500)])
def test_subset_is_in_proportion_and_of_exactly_the_size_asked_for(labels: Tensor, size: float, count: int) -> None:
    subset = stratified_subset(labels, everything(labels), size, seed=0)
    assert len(subset) == count == len(subset.unique())
    assert torch.equal(subset, subset.sort().values)
    assert_proportional(labels, subset)
    assert torch.equal(subset, stratified_subset(labels, everything(labels), size, seed=0))


def test_larger_subsets_contain_smaller_ones() -> None:
    def grow(labels: Tensor, sizes: range) -> None:
        subsets = [set(stratified_subset(labels, everything(labels), size, 0).tolist()) for size in sizes]
        assert all(small < large for small, large in pairwise(subsets))

    grow(BALANCED, range(10, 501))  # equal classes: every size
    grow(UNEVEN, range(40, 501, 30))  # 30 more images are at least one more of the rarest class


def test_subset_holds_every_class() -> None:
    sentence = "A subset of 9 out of 500 images holds none of the 50 of class 9: every class"
    with pytest.raises(ValueError, match=sentence):
        stratified_subset(BALANCED, everything(BALANCED), 9, seed=0)


def test_a_long_tail_falls_exponentially_and_is_nested() -> None:
    labels = torch.arange(5).repeat(100)
    positions = torch.arange(500)
    kept = long_tail(labels, positions, 16, seed=0)
    assert labels[kept].bincount().tolist() == [100, 50, 25, 12, 6]
    assert torch.equal(kept, long_tail(labels, positions, 16, seed=0)) and not torch.equal(
        kept, long_tail(labels, positions, 16, seed=1)
    )
    assert set(long_tail(labels, positions, 10_000, seed=0).tolist()) <= set(kept.tolist())
    assert torch.equal(long_tail(labels, positions, 1, seed=0), positions)
    with pytest.raises(ValueError, match=r"data.imbalance is 0.5; expected a number, 1 or more"):
        long_tail(labels, positions, 0.5, seed=0)


def test_wrong_labels_are_as_many_as_asked_for_uniform_over_the_others_and_nested() -> None:
    labels = torch.arange(5).repeat(2000)
    positions = torch.arange(1000, 9000)
    noisy = with_wrong_labels(labels, positions, 0.4, 5, seed=0)
    wrong = noisy != labels
    assert wrong.sum() == 3200 and not wrong[:1000].any() and not wrong[9000:].any()
    shifts = (noisy - labels)[wrong] % 5
    assert chisquare(shifts.bincount(minlength=5)[1:].numpy()).pvalue > 0.01
    more = with_wrong_labels(labels, positions, 0.6, 5, seed=0)
    assert torch.equal(more[wrong], noisy[wrong]) and (more != labels).sum() == 4800
    assert not torch.equal(noisy, with_wrong_labels(labels, positions, 0.4, 5, seed=1))
    with pytest.raises(ValueError, match=r"data.label_noise is 40; expected a share of the training images, 0 to 1"):
        with_wrong_labels(labels, positions, 40, 5, seed=0)
