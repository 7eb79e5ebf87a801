"""mixup and CutMix against torchvision's, pair by pair, and their distributions."""

import pytest
import torch
from scipy.stats import beta, binomtest, kstest
from torch import Tensor
from torchvision.transforms import v2

from src.augment import Alternate, CutMix, Mixing, Mixup, Pipeline, RandomCrop, TrivialAugmentWide

CLASSES = 5


def mixed(mixing: Mixing, images: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(images)) % CLASSES
    return mixing(images, labels, images.roll(1, 0), labels.roll(1, 0), u, CLASSES)


def uniforms(mixing: Mixing, count: int) -> Tensor:
    return torch.rand(count, mixing.draws, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("ours", "theirs"), [(Mixup(), v2.MixUp), (CutMix(), v2.CutMix)], ids=["mixup", "cutmix"])
def test_every_pair_is_mixed_as_torchvision_mixes_a_batch(ours: Mixing, theirs: type, noise: Tensor) -> None:
    u = uniforms(ours, len(noise))
    images, probabilities = mixed(ours, noise, u)
    labels = torch.arange(len(noise)) % CLASSES
    for i, (weight, *place) in enumerate(u.tolist()):
        reference = theirs(num_classes=CLASSES)
        box = {}
        if place:  # the formula of torchvision's make_params, for these draws
            (height, width), half = noise.shape[-2:], (1 - weight) ** 0.5 / 2
            y, x, down, across = int(place[0] * height), int(place[1] * width), int(half * height), int(half * width)
            x1, y1, x2, y2 = max(x - across, 0), max(y - down, 0), min(x + across, width), min(y + down, height)
            share = 1 - (x2 - x1) * (y2 - y1) / (height * width)
            box = {"box": (x1, y1, x2, y2), "lam_adjusted": share}
        pair, names = torch.stack([noise[i], noise[i - 1]]).float(), torch.stack([labels[i], labels[i - 1]])
        params = {"labels": names, "batch_size": 2, "lam": weight, **box}
        torch.testing.assert_close(images[i], reference.transform(pair, params)[0], atol=1e-3, rtol=0)
        torch.testing.assert_close(probabilities[i], reference.transform(names, params)[0])


@pytest.mark.parametrize(
    "mixing", [Mixup(0.2), CutMix(0.7), Alternate([Mixup(), CutMix()])], ids=lambda m: type(m).__name__
)
def test_a_pair_does_not_depend_on_its_batch_and_its_shares_sum_to_one(mixing: Mixing, noise: Tensor) -> None:
    u, before = uniforms(mixing, len(noise)), noise.clone()
    images, probabilities = mixed(mixing, noise, u)
    assert images.dtype == probabilities.dtype == torch.float32 and images.shape == noise.shape
    assert torch.allclose(probabilities.sum(1), torch.ones(len(noise))) and probabilities.min() >= 0
    assert torch.equal(noise, before) and not mixing.state_dict()
    labels = torch.arange(len(noise)) % CLASSES
    for i in (0, 7, 63):
        alone = mixing(
            noise[i : i + 1], labels[i : i + 1], noise[i - 1][None], labels[i - 1][None], u[i : i + 1], CLASSES
        )
        assert torch.equal(alone[0][0], images[i]) and torch.equal(alone[1][0], probabilities[i])


@pytest.mark.parametrize("alpha", [1.0, 0.2, 3])
def test_mixups_weight_is_beta_distributed(alpha: float) -> None:
    mixup = Mixup(alpha)
    weights = mixup.weights(uniforms(mixup, 3000), torch.zeros(3000, 3, 2, 2)).flatten()
    assert kstest(weights.numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_covers_as_much_as_torchvisions(noise: Tensor) -> None:
    cutmix, theirs = CutMix(), v2.CutMix(num_classes=2)
    own = cutmix.weights(uniforms(cutmix, 2000), torch.zeros(2000, 3, 15, 22)).sum(dim=(1, 2, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        others = [round(15 * 22 * theirs.make_params([noise])["lam_adjusted"]) for _ in range(2000)]
    assert kstest(own.numpy(), others).pvalue > 0.01


def test_alternate_takes_each_for_half_of_the_images(noise: Tensor) -> None:
    mixing = Alternate([Mixup(), CutMix()])
    weights = mixing.weights(uniforms(mixing, 2000), torch.zeros(2000, 3, 15, 22)).flatten(1)
    is_cut = weights.eq(0).logical_or(weights.eq(1)).all(dim=1)
    assert binomtest(int(is_cut.sum()), 2000, 0.5).pvalue > 0.01


def test_mixing_comes_last_in_a_chain_and_once(noise: Tensor) -> None:
    mixing = Mixup()
    chain = Pipeline([RandomCrop(), Pipeline([TrivialAugmentWide(), mixing])])
    assert chain.mixing is mixing and chain.draws == RandomCrop.draws + TrivialAugmentWide.draws
    assert chain(noise, torch.zeros(len(noise), chain.draws)).dtype == torch.uint8
    for wrong in ([mixing, RandomCrop()], [mixing, CutMix()], [Pipeline([mixing]), RandomCrop()]):
        with pytest.raises(ValueError, match=r"aug.transforms has \w+ before \w+, but a transform that mixes"):
            Pipeline(wrong)


def test_a_wrong_setting_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="alpha is 0; expected a number above 0"):
        Mixup(0)
    with pytest.raises(ValueError, match="Alternate got Mixup, RandomCrop; expected transforms that mix"):
        Alternate([Mixup(), RandomCrop()])  # type: ignore[list-item]
