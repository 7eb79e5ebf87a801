"""Optimisers: torch's own and timm's, built from their configs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn.functional import cross_entropy

from src.models.simplecnn import SimpleCNN
from src.training.optimizers import build_optimizer, build_timm_optimizer

CONF = Path(__file__).parents[2] / "conf" / "optim"
CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("name", CLASSES)
def test_every_config_builds_torchs_class_with_its_settings(network: nn.Module, name: str) -> None:
    conf = OmegaConf.load(CONF / f"{name}.yaml")
    optimizer = instantiate(conf)(network)
    assert type(optimizer) is CLASSES[name]
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]
    for key, value in conf.items():
        if not key.startswith("_") and key not in ("algorithm", "decay_norm_and_bias"):
            assert group[key] == value


def test_the_defaults_are_the_issues_and_torchs() -> None:
    sgd = OmegaConf.load(CONF / "sgd.yaml")
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.1, 0.9, True, 5e-4)
    for name in ("adam", "adamw"):
        own = instantiate(OmegaConf.load(CONF / f"{name}.yaml"))(nn.Linear(1, 1)).defaults
        assert own == CLASSES[name](nn.Linear(1, 1).parameters(), fused=True).defaults


@pytest.mark.parametrize("settings", [{"algorithm": "SGD", "momentum": 0.9, "nesterov": True}, {"algorithm": "AdamW"}])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_fused_optimiser_takes_the_steps_of_the_plain_one(settings: dict[str, Any], memory_format: Any) -> None:
    losses: dict[bool, list[float]] = {}
    for fused in (False, True):
        torch.manual_seed(0)
        network = SimpleCNN(num_classes=10, image_size=8).to(memory_format=memory_format)
        optimizer = build_optimizer(network, lr=1e-3, weight_decay=0.01, fused=fused, **settings)
        images, labels = torch.randn(50, 16, 3, 8, 8), torch.randint(10, (50, 16))
        losses[fused] = []
        for batch, label in zip(images, labels, strict=True):
            loss = cross_entropy(network(batch.contiguous(memory_format=memory_format)), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[fused].append(loss.item())
    assert losses[True] == pytest.approx(losses[False], abs=1e-4)


def test_an_optimiser_is_fused_where_it_can_be(network: nn.Module) -> None:
    settings = {"algorithm": "SGD", "lr": 0.1}
    assert build_optimizer(network, **settings).defaults["fused"] is True
    assert build_optimizer(network, **settings, fused=False).defaults["fused"] is False
    assert build_optimizer(network.to("meta"), **settings).defaults["fused"] is None
    assert "fused" not in build_optimizer(network, algorithm="RMSprop", lr=0.1).defaults


def test_norm_and_bias_can_be_left_out_of_weight_decay(network: nn.Module) -> None:
    optimizer = build_optimizer(network, algorithm="SGD", lr=0.1, weight_decay=0.01, decay_norm_and_bias=False)
    decayed, spared = optimizer.param_groups
    convolution, norm, _, linear = network
    assert {id(p) for p in decayed["params"]} == {id(convolution.weight), id(linear.weight)}
    assert {id(p) for p in spared["params"]} == {id(p) for p in (convolution.bias, *norm.parameters(), linear.bias)}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0)

    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer.step()
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.allclose(new, old * (1 - 0.1 * 0.01) if old.ndim > 1 else old)


def test_parameters_that_are_frozen_stay_out(network: nn.Module) -> None:
    network[0].requires_grad_(False)
    (group,) = build_optimizer(network, algorithm="Adam", lr=0.1).param_groups
    assert len(group["params"]) == 4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": 0}, "optim.lr is 0; expected a learning rate above 0, such as 0.1."),
        ({"lr": float("nan")}, "optim.lr is nan; expected a learning rate above 0"),
        ({"lr": float("inf")}, "optim.lr is inf; expected a learning rate above 0"),
        ({"lr": None}, "optim.lr is None; expected a learning rate above 0"),
        ({"weight_decay": -1}, "optim.weight_decay is -1; expected 0 or more."),
        ({"weight_decay": "none"}, "optim.weight_decay is 'none'; expected 0 or more."),
        ({"decay_norm_and_bias": "no"}, "optim.decay_norm_and_bias is 'no'; expected true or false."),
        ({"algorithm": "lr_scheduler"}, "optim.algorithm is 'lr_scheduler'; expected the name of a class"),
    ],
)
def test_a_setting_out_of_range_gets_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        build_optimizer(nn.Linear(1, 1), **({"algorithm": "SGD", "lr": 0.1} | settings))
    assert str(error.value).startswith(sentence)


def test_muon_steps_matrices_and_kernels_and_leaves_the_rest_to_adamw() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    optimizer = instantiate(OmegaConf.load(CONF / "muon.yaml"))(network)
    nn.functional.cross_entropy(network(torch.randn(64, 3, 8, 8)), torch.arange(64) % 10).backward()
    before = network[0].weight.detach().clone()
    optimizer.step()
    by_muon = {id(p) for p in network.parameters() if "momentum_buffer" in optimizer.state[p]}
    assert by_muon == {id(network[0].weight), id(network[4].weight)}
    assert all("exp_avg" in optimizer.state[p] for p in network.parameters() if id(p) not in by_muon)
    # Orthogonal: the singular values of a step, which the gradient's are not, are about equal.
    step, gradient = (network[0].weight.detach() - before).flatten(1), network[0].weight.grad.flatten(1)
    spread = [torch.linalg.svdvals(matrix) for matrix in (step, gradient)]
    assert spread[0][0] / spread[0][-1] < 3 < spread[1][0] / spread[1][-1]


@pytest.mark.parametrize("name", ["lion", "muon"])
def test_timms_own_have_a_config_with_its_settings(network: nn.Module, name: str) -> None:
    pytest.importorskip("timm")
    conf = OmegaConf.load(CONF / f"{name}.yaml")
    optimizer = instantiate(conf)(network)
    assert type(optimizer).__name__.lower() == name and len(optimizer.param_groups) == 1
    assert {key: optimizer.param_groups[0][key] for key in ("lr", "weight_decay")} == {
        "lr": conf.lr,
        "weight_decay": conf.weight_decay,
    }


def test_any_optimiser_of_timm(network: nn.Module) -> None:
    pytest.importorskip("timm")
    lamb = build_timm_optimizer(network, name="lamb", lr=0.1, weight_decay=0.02, decay_norm_and_bias=False)
    assert type(lamb).__name__ == "Lamb"
    decayed = {id(p): group["weight_decay"] for group in lamb.param_groups for p in group["params"]}
    assert decayed == {id(p): 0.02 if p.ndim > 1 else 0 for p in network.parameters()}
    for settings, words in (
        ({"name": "lamp", "lr": 0.1}, "timm has no optimiser 'lamp'; expected one of its"),
        ({"name": "lamb", "lr": 0}, "optim.lr is 0; expected a learning rate above 0"),
        ({"name": "lamb", "lr": 0.1, "speed": 2}, "timm's optimiser lamb cannot be built with these settings"),
    ):
        with pytest.raises(ValueError, match=words):
            build_timm_optimizer(network, **settings)  # type: ignore[arg-type]
