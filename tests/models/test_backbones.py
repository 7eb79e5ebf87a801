"""What holds for every backbone: the images it takes, the axes it has, and that an axis changes one thing."""

import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object
from torch import nn

from src.models.deepcnn import DeepCNN
from src.models.resnet import resnet20, wrn_16_8
from src.models.simplecnn import SimpleCNN
from tests.models.conftest import conf_of

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
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "preact_resnet18": 11_171_146,
    "wrn_40_2": 2_243_546,
    "wrn_28_10": 36_479_194,
    "wrn_16_8": 10_961_370,
}
# With skip=false: what the projections had is gone, identity and zero-padding had nothing.
PLAIN_PARAMETERS = PARAMETERS | {
    "resnet10": 2_777_674 - (64 * 128 + 2 * 128) - (128 * 256 + 2 * 256),
    "resnet50_imagenet_stem": 20_751_946,
    "resnet50_cifar_stem": 20_744_266,
    "resnet18": 11_173_962 - sum(2 * size * size + 4 * size for size in (64, 128, 256)),
    "resnet34": 21_282_122 - sum(2 * size * size + 4 * size for size in (64, 128, 256)),
    "preact_resnet18": 11_171_146 - sum(2 * size * size for size in (64, 128, 256)),
    "wrn_40_2": 2_243_546 - (16 * 32 + 32 * 64 + 64 * 128),
    "wrn_28_10": 36_479_194 - (16 * 160 + 160 * 320 + 320 * 640),
    "wrn_16_8": 10_961_370 - (16 * 128 + 128 * 256 + 256 * 512),
}
# What is computed with, not only counted: one of each kind.
TRIED = [name for name in PARAMETERS if name not in ("resnet34", "resnet32", "resnet44", "wrn_40_2", "wrn_28_10")]
SMALL = ["simplecnn", "deepcnn", "resnet10", "resnet20"]
AXES = {"skip": (True, False), "norm": ("batch", "group", "layer", "none"), "init": ("torch", "he")}
RESIDUAL_AXES = AXES | {
    "activation": ("relu", "gelu", "silu"),
    "zero_init_residual": (False, True),
    "stem": (None, "cifar", "imagenet"),
    "shortcut": (None, "projection", "pad"),
    "width": (1, 0.5, 1.7),
    "depth": (1, 0.5, 2),
}


def slow(*names: str):
    return (pytest.param(name, marks=pytest.mark.slow) for name in names)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def axes_of(name: str) -> dict[str, object]:
    return {key: value for key, value in conf_of(name).items() if key != "_target_"}


def assert_same(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == others.keys()
    for key, tensor in tensors.items():
        assert torch.equal(tensor, others[key]), key


def test_every_yaml_is_tested():
    others = {"_residual", "custom", "timm", "torchvision"}
    assert {path.stem for path in CONF.glob("*.yaml")} == set(PARAMETERS) | others


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(build, name):
    with torch.device("meta"):
        assert count(build(name)) == PARAMETERS[name]
        assert count(build(name, skip=True)) == PARAMETERS[name]
        assert count(build(name, skip=False)) == PLAIN_PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_yaml_has_all_axes_of_its_kind(name):
    assert set(axes_of(name)) - {"dropout"} == set(AXES if "cnn" in name else RESIDUAL_AXES)


@pytest.mark.parametrize("name", ["simplecnn", "deepcnn", "resnet20", *slow("preact_resnet18", "wrn_16_8")])
def test_every_value_of_the_yamls_axes_is_accepted(build, name):
    known = AXES if "cnn" in name else RESIDUAL_AXES
    with torch.device("meta"):
        for axis, values in known.items():
            for value in values:
                net = build(name, num_classes=7, **{axis: value})
                assert net(torch.empty(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("axis", [axis for axis in RESIDUAL_AXES if axis not in ("skip", "init")])
@pytest.mark.parametrize("name", ["resnet20", *slow("resnet18", "preact_resnet18")])
def test_an_axis_leaves_the_weights_whose_shape_it_leaves(build, name, axis):
    published = build(name).state_dict()
    drawn_next = torch.rand(3)
    seen = [published]
    for value in RESIDUAL_AXES[axis][1:]:
        changed = build(name, **{axis: value}).state_dict()
        assert torch.equal(torch.rand(3), drawn_next)
        common = {key for key, weight in changed.items() if key in published and published[key].shape == weight.shape}
        assert len(common) > 10
        zeroed = {key for key in common if not torch.equal(published[key], changed[key])}
        assert bool(zeroed) == (axis == "zero_init_residual") and not any(changed[key].any() for key in zeroed)
        seen.append(changed)
    layouts = {tuple((key, weight.shape) for key, weight in weights.items()) for weights in seen}
    expected = {"activation": 1, "zero_init_residual": 1, "norm": 3, "stem": 2, "shortcut": 2, "width": 3, "depth": 3}
    assert len(layouts) == expected[axis]


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet18", "resnet50_cifar_stem"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_with_zero_init_a_block_starts_as_its_shortcut(build, name, norm):
    block = build(name, zero_init_residual=True, norm=norm).get_submodule("layer2.1").eval()
    x = torch.randn(2, block.conv1.in_channels, 4, 4).relu()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", TRIED)
def test_the_yamls_axes_are_the_codes_defaults(build, name):
    backbone = get_object(conf_of(name)["_target_"])
    from_yaml = build(name)
    torch.manual_seed(0)
    assert_same(backbone(num_classes=10, image_size=32).state_dict(), from_yaml.state_dict())


@pytest.mark.parametrize("name", [*SMALL, "resnet50_cifar_stem", *slow("resnet50_imagenet_stem")])
def test_shapes(build, name):
    with torch.device("meta"):  # shapes without arithmetic
        for size, num_classes in zip((8, 9, 28, 32, 33, 64), (2, 10, 100) * 2, strict=True):
            net = build(name, num_classes=num_classes, image_size=size)
            assert net(torch.empty(3, 3, size, size)).shape == (3, num_classes)


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("size", [8, 33])
def test_logits_are_finite_and_differ_between_images(build, name, size):
    logits = build(name, image_size=size)(torch.randn(2, 3, size, size))
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", TRIED)
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


@pytest.mark.parametrize("name", TRIED)
def test_norm_none_removes_normalisation_and_nothing_else(build, name):
    normed = build(name, norm="batch")
    drawn_next = torch.rand(3)
    bare = build(name, norm="none")
    assert torch.equal(torch.rand(3), drawn_next)

    norms = {key for key, module in normed.named_modules() if isinstance(module, nn.BatchNorm2d)}
    if not name.startswith(("preact", "wrn")):
        assert len(norms) == sum(isinstance(module, nn.Conv2d) for module in normed.modules())
    of_convs = {k: v for k, v in normed.state_dict().items() if k.rpartition(".")[0] not in norms}
    assert_same(bare.state_dict(), of_convs)


@pytest.mark.parametrize("name", TRIED)
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


@pytest.mark.parametrize("name", TRIED)
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
        ({"norm": "instance"}, "model.norm is 'instance'; expected batch or group or layer or none."),
        ({"norm": None}, "model.norm is None; expected batch or group or layer or none."),
        ({"channels": 4}, "data.channels is 4; expected 1 or 3."),
        ({"init": "xavier"}, "model.init is 'xavier'; expected torch or he."),
        ({"num_classes": 1}, "num_classes is 1; expected 2 or more."),
        ({"image_size": 7}, "image_size is 7; expected 8 pixels or more."),
    ],
)
def test_a_wrong_value_gets_a_sentence(backbone, wrong, sentence):
    with pytest.raises(ValueError) as error:
        backbone(**({"num_classes": 10, "image_size": 32} | wrong))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"activation": "tanh"}, "model.activation is 'tanh'; expected relu or gelu or silu."),
        ({"zero_init_residual": "no"}, "model.zero_init_residual is 'no'; expected true or false."),
        ({"stem": "patch"}, "model.stem is 'patch'; expected imagenet or cifar."),
        ({"shortcut": "A"}, "model.shortcut is 'A'; expected projection or pad."),
        ({"width": 0}, "model.width is 0; expected a factor above 0, up to 64, such as 0.5."),
        ({"depth": "deep"}, "model.depth is 'deep'; expected a factor above 0, up to 64, such as 0.5."),
        (
            {"zero_init_residual": True, "skip": False},
            "model.zero_init_residual needs model.skip: without it, no signal would pass a block.",
        ),
        ({"dropout": 1}, "model.dropout is 1; expected 0 or more, less than 1."),
    ],
)  # fmt: skip
def test_a_wrong_axis_of_a_residual_network_gets_a_sentence(wrong, sentence):
    with pytest.raises(ValueError) as error, torch.device("meta"):
        wrn_16_8(num_classes=10, image_size=32, **wrong)
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", TRIED)
def test_grey_images(build, name):
    with torch.device("meta"):
        assert build(name, channels=1)(torch.empty(2, 1, 32, 32)).shape == (2, 10)


def test_dropout_is_between_the_convolutions_of_every_block(build):
    with torch.device("meta"):
        net = build("wrn_16_8", dropout=0.3)
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.3] * 6


@pytest.mark.parametrize("backbone", [DeepCNN, resnet20])
def test_a_skip_that_is_a_word_gets_a_sentence(backbone):
    with pytest.raises(ValueError, match=r"^model\.skip is 'no'; expected true or false\.$"):
        backbone(num_classes=10, image_size=32, skip="no")
