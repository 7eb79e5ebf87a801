"""What holds for every backbone: the images it takes, the axes it has, and that an axis changes one thing."""

import itertools
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn

from src.models.deepcnn import DeepCNN
from src.models.resnet import resnet20
from src.models.simplecnn import SimpleCNN

CONF = Path(__file__).parents[2] / "conf" / "model"
PARAMETERS = {
    "simplecnn": 175_178,
    "deepcnn": 1_406_346,
    "resnet10": 2_777_674,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet50_imagenet_stem": 23_528_522,
    "resnet50_cifar_stem": 23_520_842,
}
# With skip=false: what the projections had is gone, identity and zero-padding had nothing.
PLAIN_PARAMETERS = PARAMETERS | {
    "resnet10": 2_777_674 - (64 * 128 + 2 * 128) - (128 * 256 + 2 * 256),
    "resnet50_imagenet_stem": 20_751_946,
    "resnet50_cifar_stem": 20_744_266,
}
SMALL = ["simplecnn", "deepcnn", "resnet10", "resnet20"]
AXES = {"skip": (True, False), "norm": ("batch", "none"), "init": ("torch", "he")}


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def axes_of(name: str) -> dict[str, object]:
    return {key: value for key, value in OmegaConf.load(CONF / f"{name}.yaml").items() if key != "_target_"}


def assert_same(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == others.keys()
    for key, tensor in tensors.items():
        assert torch.equal(tensor, others[key]), key


def test_every_yaml_is_tested():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(build, name):
    with torch.device("meta"):
        assert count(build(name)) == PARAMETERS[name]
        assert count(build(name, skip=True)) == PARAMETERS[name]
        assert count(build(name, skip=False)) == PLAIN_PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_combination_of_the_yamls_axes_is_accepted(build, name):
    axes = axes_of(name)
    assert set(axes) == set(AXES)
    with torch.device("meta"):
        for values in itertools.product(*(AXES[axis] for axis in axes)):
            build(name, **dict(zip(axes, values, strict=True)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_yamls_axes_are_the_codes_defaults(build, name):
    backbone = get_object(OmegaConf.load(CONF / f"{name}.yaml")["_target_"])
    from_yaml = build(name)
    torch.manual_seed(0)
    assert_same(backbone(num_classes=10, image_size=32).state_dict(), from_yaml.state_dict())


@pytest.mark.parametrize("name", [*SMALL, "resnet50_imagenet_stem", "resnet50_cifar_stem"])
def test_shapes(build, name):
    with torch.device("meta"):  # shapes without arithmetic
        for size, num_classes in zip((8, 9, 28, 32, 33, 64), (2, 10, 100) * 2, strict=True):
            net = build(name, num_classes=num_classes, image_size=size)
            assert net(torch.empty(3, 3, size, size)).shape == (3, num_classes)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("size", [8, 33])
def test_logits_are_finite_and_differ_between_images(build, name, size):
    logits = build(name, image_size=size)(torch.randn(2, 3, size, size))
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", PARAMETERS)
def test_skip_changes_the_additions_and_nothing_else(build, name):
    residual = build(name, skip=True, image_size=16)
    drawn_next = torch.rand(3)
    plain = build(name, skip=False, image_size=16)
    assert torch.equal(torch.rand(3), drawn_next)

    full, rest = residual.state_dict(), plain.state_dict()
    assert all("downsample" in key for key in full.keys() - rest.keys())
    assert_same(rest, {key: full[key] for key in rest})

    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(residual(images), plain(images))


@pytest.mark.parametrize("name", PARAMETERS)
def test_norm_none_removes_normalisation_and_nothing_else(build, name):
    normed = build(name, norm="batch")
    drawn_next = torch.rand(3)
    bare = build(name, norm="none")
    assert torch.equal(torch.rand(3), drawn_next)

    norms = {key for key, module in normed.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == sum(isinstance(module, nn.Conv2d) for module in normed.modules())
    of_convs = {k: v for k, v in normed.state_dict().items() if k.rpartition(".")[0] not in norms}
    assert_same(bare.state_dict(), of_convs)


@pytest.mark.parametrize("name", PARAMETERS)
def test_init_changes_the_convolutions_and_nothing_else(build, name):
    default = build(name, init="torch")
    drawn_next = torch.rand(3)
    he = build(name, init="he")
    assert torch.equal(torch.rand(3), drawn_next)

    for (key, module), other in zip(default.named_modules(), he.modules(), strict=True):
        if not isinstance(module, nn.Conv2d):
            assert_same(dict(module.named_parameters(recurse=False)), dict(other.named_parameters(recurse=False)))
            continue
        fan_in = module.in_channels * module.kernel_size[0] ** 2
        fan_out = module.out_channels * module.kernel_size[0] ** 2
        noise = 4 / (2 * module.weight.numel()) ** 0.5  # four standard errors of a sample's std
        assert module.weight.std().item() == pytest.approx((1 / (3 * fan_in)) ** 0.5, rel=noise), key
        assert other.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=noise), key
        if other.bias is not None:
            assert not other.bias.any()


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_relu_is_passed_once(build, name):
    net, passed = build(name, image_size=8), Counter()
    relus = {key: module for key, module in net.named_modules() if isinstance(module, nn.ReLU)}
    for key, relu in relus.items():
        relu.register_forward_hook(lambda *_, key=key: passed.update([key]))
    net(torch.randn(2, 3, 8, 8))
    assert passed == Counter(relus.keys())


# Deprecated, and yet what TensorBoard draws its graph from.
@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.parametrize("name", SMALL)
def test_one_graph_for_every_batch(build, name):
    net = build(name, norm="none", skip=True)
    images = torch.randn(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(net, torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(traced(images), net(images))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), net(images))
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(images), net(images))


@pytest.mark.parametrize("backbone", [SimpleCNN, DeepCNN, resnet20])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"norm": "layer"}, "model.norm is 'layer'; expected batch or none."),
        ({"norm": None}, "model.norm is None; expected batch or none."),
        ({"init": "xavier"}, "model.init is 'xavier'; expected torch or he."),
        ({"num_classes": 1}, "num_classes is 1; expected 2 or more."),
        ({"image_size": 7}, "image_size is 7; expected 8 pixels or more."),
    ],
)
def test_a_wrong_value_gets_a_sentence(backbone, wrong, sentence):
    with pytest.raises(ValueError) as error:
        backbone(**({"num_classes": 10, "image_size": 32} | wrong))
    assert str(error.value) == sentence


@pytest.mark.parametrize("backbone", [DeepCNN, resnet20])
def test_a_skip_that_is_a_word_gets_a_sentence(backbone):
    with pytest.raises(ValueError, match=r"^model\.skip is 'no'; expected true or false\.$"):
        backbone(num_classes=10, image_size=32, skip="no")
