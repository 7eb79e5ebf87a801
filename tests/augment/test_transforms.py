"""What holds for every transform, and how a pipeline deals out its draws."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from src.augment import (
    Alternate,
    AutoAugment,
    CutMix,
    Cutout,
    Mixup,
    Pipeline,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    TrivialAugmentWide,
)
from src.augment.transform import integers

CONF = Path(__file__).parents[2] / "conf" / "aug"

TRANSFORMS = {
    "crop": RandomCrop(),
    "flip": RandomHorizontalFlip(),
    "trivialaugment": TrivialAugmentWide(),
    "randaugment": RandAugment(),
    "autoaugment": AutoAugment(),
    "cutout": Cutout(5, (0.1, 0.2, 0.3)),
    "random_erasing": RandomErasing(),
    "pipeline": Pipeline([RandomCrop(3), RandomHorizontalFlip(), TrivialAugmentWide()]),
    "empty": Pipeline([]),
}
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())


def uniforms(count: int, draws: int) -> Tensor:
    return torch.rand(count, draws, generator=torch.Generator().manual_seed(1))


@every_transform
def test_result_is_a_new_tensor_and_a_function_of_images_and_u(transform: nn.Module, noise: Tensor) -> None:
    u = uniforms(len(noise), transform.draws)
    images, numbers = noise.clone(), u.clone()
    result = transform(images, numbers)
    assert result.dtype == torch.uint8
    assert result.shape == images.shape
    assert result.is_contiguous()
    assert result.data_ptr() != images.data_ptr()
    assert torch.equal(images, noise), "the input was modified"
    assert torch.equal(numbers, u), "u was modified"
    assert torch.equal(transform(images, u), result)


@every_transform
def test_an_image_does_not_depend_on_its_batch(transform: nn.Module, noise: Tensor) -> None:
    u = uniforms(len(noise), transform.draws)
    together = transform(noise, u)
    alone = torch.cat([transform(noise[i : i + 1], u[i : i + 1]) for i in range(len(noise))])
    assert torch.equal(together, alone)
    shuffled = torch.randperm(len(noise), generator=torch.Generator().manual_seed(2))
    assert torch.equal(transform(noise[shuffled], u[shuffled]), together[shuffled])
    assert transform(noise[:0], u[:0]).shape == noise[:0].shape


@every_transform
def test_memory_layout_and_alternating_sizes_make_no_difference(transform: nn.Module, noise: Tensor) -> None:
    u = uniforms(len(noise), transform.draws)
    result = transform(noise, u)
    assert transform(noise.transpose(2, 3), u).shape == (64, 3, 22, 15)
    assert torch.equal(transform(noise.contiguous(memory_format=torch.channels_last), u), result)


@every_transform
def test_nothing_ends_up_in_a_checkpoint(transform: nn.Module, noise: Tensor) -> None:
    transform(noise, uniforms(len(noise), transform.draws))
    assert not transform.state_dict()


@every_transform
def test_bad_input_is_named(transform: nn.Module, noise: Tensor) -> None:
    u = uniforms(len(noise), transform.draws)
    with pytest.raises(ValueError, match=r"images must be uint8 \[B, 3, H, W\], got torch.float32"):
        transform(noise.float(), u)
    with pytest.raises(ValueError, match=r"images must be uint8 \[B, 3, H, W\], got torch.uint8 \[64, 1,"):
        transform(noise[:, :1], u)
    with pytest.raises(ValueError, match=r"images must be uint8 \[B, 3, H, W\], got torch.uint8 \[3,"):
        transform(noise[0], u)
    with pytest.raises(ValueError, match=rf"u must be float32 \[64, {transform.draws}\] .* got .* \[64, 99\]"):
        transform(noise, uniforms(64, 99))
    with pytest.raises(ValueError, match=r"u must be float32 \[64, .* got torch.float32 \[63,"):
        transform(noise, u[1:])
    with pytest.raises(ValueError, match=r"u must be float32 .* got torch.float64"):
        transform(noise, u.double())
    with pytest.raises(ValueError, match=r"u must be float32 .* on the CPU, .* on meta"):
        transform(noise, u.to("meta"))


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_u_outside_its_range_is_named(value: float, noise: Tensor) -> None:
    u = uniforms(len(noise), 2)
    u[5, 1] = value
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\), got values from"):
        RandomCrop()(noise, u)


def test_pipeline_applies_in_order_and_deals_out_columns_in_order(noise: Tensor) -> None:
    crop, flip, trivial = RandomCrop(3), RandomHorizontalFlip(), TrivialAugmentWide()
    pipeline = Pipeline([Pipeline([]), crop, Pipeline([flip, trivial])])
    assert pipeline.draws == 6
    u = uniforms(len(noise), 6)
    assert torch.equal(pipeline(noise, u), trivial(flip(crop(noise, u[:, :2]), u[:, 2:3]), u[:, 3:]))


def test_empty_pipeline_is_the_identity(noise: Tensor) -> None:
    pipeline = Pipeline([])
    assert pipeline.draws == 0
    assert torch.equal(pipeline(noise, torch.empty(len(noise), 0)), noise)


@pytest.mark.parametrize("count", [1, 3, 9, 14, 31, 257, 2**20 + 1])
def test_integers_reach_all_values_and_no_more(count: int) -> None:
    largest = torch.tensor(1 - 2**-24)  # the largest float32 below 1
    assert integers(largest, count) == count - 1
    assert integers(torch.zeros(()), count) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", []),
        ("basic", [RandomCrop, RandomHorizontalFlip]),
        ("trivialaugment", [RandomCrop, RandomHorizontalFlip, TrivialAugmentWide]),
        ("randaugment", [RandomCrop, RandomHorizontalFlip, RandAugment]),
        ("autoaugment", [RandomCrop, RandomHorizontalFlip, AutoAugment]),
        ("cutout", [RandomCrop, RandomHorizontalFlip, Cutout]),
        ("random_erasing", [RandomCrop, RandomHorizontalFlip, RandomErasing]),
        ("mixup", [RandomCrop, RandomHorizontalFlip, Mixup]),
        ("cutmix", [RandomCrop, RandomHorizontalFlip, CutMix]),
        ("mixup_cutmix", [RandomCrop, RandomHorizontalFlip, Alternate]),
    ],
)
def test_config(name: str, expected: list[type], noise: Tensor) -> None:
    conf = OmegaConf.create({"aug": OmegaConf.load(CONF / f"{name}.yaml"), "data": {"mean": [0.5, 0.4, 0.3]}})
    pipeline = instantiate(conf.aug)
    assert isinstance(pipeline, Pipeline)
    assert [type(transform) for transform in pipeline.transforms] == expected
    assert pipeline(noise, uniforms(len(noise), pipeline.draws)).shape == noise.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_transform
def test_gpu_agrees_with_cpu_and_is_never_waited_for(transform: nn.Module, noise: Tensor) -> None:
    pipeline = transform
    u = uniforms(len(noise), pipeline.draws)
    on_cpu, images = pipeline(noise, u), noise.cuda()
    pipeline(images, u)  # the tables travel once
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu = pipeline(images, u)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Where floats are blended, a device may round to the other side of a grey level.
    assert (on_gpu.cpu().int() - on_cpu.int()).abs().max() <= 1
