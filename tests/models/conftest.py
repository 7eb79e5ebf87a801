from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

CONF = Path(__file__).parents[2] / "conf" / "model"


def conf_of(name: str) -> DictConfig:
    """A file of conf/model with those that it builds on."""
    conf = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(conf, DictConfig)
    bases = [conf_of(base) for base in conf.pop("defaults", [])]
    return OmegaConf.merge(*bases, conf)  # type: ignore[return-value]


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """Build a backbone as a run does: from its yaml, through Hydra, with the same seed every time."""

    def build(name: str, num_classes: int = 10, image_size: int = 32, **axes: object) -> nn.Module:
        torch.manual_seed(0)
        conf = OmegaConf.merge(conf_of(name), axes)
        return instantiate(conf, num_classes=num_classes, image_size=image_size)

    return build
