"""Grad-CAM overlays: where a network looks."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import src.explain
from src.data.normalise import Normalise
from src.inference.grad_cam import explain, last_feature_map
from src.inference.load import Trained, load
from src.models.deepcnn import DeepCNN
from src.models.resnet import resnet10, resnet20, resnet50_cifar_stem, resnet50_imagenet_stem
from src.models.simplecnn import SimpleCNN
from tests.conftest import launch

Launch = Callable[..., Any]


@pytest.fixture
def explained(finished: Any, tmp_path: Path) -> Launch:
    """``python -m src.explain`` with a trained network."""

    def run(*arguments: str) -> Any:
        return launch(src.explain.main, tmp_path, f"ckpt={finished.folder}", "out=given", *arguments)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for name in ("a.png", "A.jpg", "more/a.png", "more/sheet.png", "more/..strange (1)[x].bmp"):
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_every_image_gets_an_overlay_named_after_it(explained: Launch, photos: Path, tmp_path: Path) -> None:
    run = explained(f"images={photos}")
    assert run.code == 0 and run.err == ""
    names = {file.name for file in (tmp_path / "given").iterdir()}
    assert names == {"A.png", "a-2.png", "a-3.png", "sheet-2.png", "..strange (1)[x].png", "sheet.png"} - {
        "..strange (1)[x].png"  # hidden, so passed over in a folder
    }
    assert run.out.splitlines() == ["4 images explained, 4 of them on one sheet:", "given/sheet.png"]
    for name in names:
        with Image.open(tmp_path / "given" / name) as image:
            assert min(image.size) > 200  # 8 x 8 pixels, enlarged
            assert np.asarray(image).std() > 10


def test_a_file_is_taken_whatever_its_name(explained: Launch, photos: Path, tmp_path: Path) -> None:
    file = photos / "more" / "..strange (1)[x].bmp"
    run = explained(f"images='{file}'")
    assert run.code == 0 and (tmp_path / "given" / "..strange (1)[x].png").is_file()


def test_several_places_and_patterns(explained: Launch, photos: Path, tmp_path: Path) -> None:
    run = explained(f"images=['{photos}/more/s*.png','{photos}/a.png']")
    assert run.code == 0 and run.out.startswith("2 images explained")


def test_an_unreadable_image_is_named_and_the_others_are_explained(
    explained: Launch, photos: Path, tmp_path: Path
) -> None:
    (photos / "b.png").write_bytes(b"no image")
    run = explained(f"images={photos}")
    assert run.code == 1
    assert run.err.count("\n") == 1 and f"{photos / 'b.png'} cannot be read as an image" in run.err
    assert run.out.startswith("4 images explained")


def test_class_names_are_shown_as_they_are(copy_of_finished: Any, photos: Path, tmp_path: Path) -> None:
    best = copy_of_finished.folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    content["hyper_parameters"]["classes"] = [rf"../$\frac{{{i}$ [red]\n" for i in range(10)]
    torch.save(content, best)
    run = launch(src.explain.main, tmp_path, f"ckpt={best}", f"images={photos / 'a.png'}", "out=given")
    assert run.code == 0, run.err
    assert {file.name for file in (tmp_path / "given").iterdir()} == {"a.png", "sheet.png"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name a network and images: python -m src.explain"),
        (["images=nowhere"], "There are no images at nowhere; name a file, a folder or a pattern"),
        (["images=*.gif"], "There are no images at *.gif"),
    ],
)
def test_nothing_to_explain(explained: Launch, tmp_path: Path, arguments: list[str], told: str) -> None:
    run = explained(*arguments)
    assert run.code == 1 and told in run.err and run.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_the_extra_one_sentence_says_how_to_install_it(
    explained: Launch, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    run = explained(f"images={photos}")
    assert run.code == 1 and run.err == (
        "Explaining takes grad-cam, not installed here: uv sync --extra explain, or pip install grad-cam.\n"
    )


# ------------------------------------------------------------------------------------------------------------
# Any network
# ------------------------------------------------------------------------------------------------------------

BACKBONES: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "simplecnn": (SimpleCNN, "relu3"),
    "deepcnn": (DeepCNN, "relu10"),
    "resnet10": (resnet10, "layer3"),
    "resnet20": (resnet20, "layer3"),
    "resnet50_imagenet_stem": (resnet50_imagenet_stem, "layer3"),  # a 32 x 32 image leaves layer4 as one place
    "resnet50_cifar_stem": (resnet50_cifar_stem, "layer4"),
}


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_map_is_found_in_every_backbone(name: str, norm: str) -> None:
    build, expected = BACKBONES[name]
    network = build(num_classes=10, image_size=32, norm=norm).eval()
    module = last_feature_map(network, torch.zeros(1, 3, 32, 32))
    assert module is network.get_submodule(expected)


def test_a_module_used_twice_is_not_taken_for_the_last() -> None:
    relu = nn.ReLU()
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
    network = nn.Sequential(inner, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert last_feature_map(network, torch.zeros(1, 3, 8, 8)) is inner


def test_a_network_without_maps_is_named() -> None:
    with pytest.raises(ValueError, match="Sequential makes no map of features that Grad-CAM could explain"):
        last_feature_map(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), torch.zeros(1, 3, 8, 8))


class Corner(nn.Module):
    """Class 1 when the lower right is bright, else class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)
        self.corner = torch.zeros(1, 1, 8, 8)
        self.corner[..., 6:, 6:] = 1

    def forward(self, x: Tensor) -> Tensor:
        bright = (self.conv(x) * self.corner).sum(dim=(1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def test_the_heat_lies_where_the_evidence_is(finished: Any) -> None:
    trained = load(finished.folder)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[:, :, 6:, 6:] = 255
    known = Trained(Corner().eval(), Normalise([0] * 3, [1] * 3), ("dark", "bright"), 8, 16, trained.config, Path())
    for explanation in explain(known, [Path("a.png"), Path("b.png")], images):
        assert explanation.predicted == "bright" and explanation.probability > 0.99
        assert explanation.heat[6:, 6:].min() == pytest.approx(1) and explanation.heat[:5, :5].max() == 0


def test_probabilities_are_the_networks(finished: Any) -> None:
    trained = load(finished.folder)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = trained.network(trained.preprocess(images)).softmax(dim=1).max(dim=1)
    told = list(explain(trained, [Path(str(i)) for i in range(5)], images))
    assert [e.probability for e in told] == pytest.approx(expected.values.tolist())
    assert [trained.classes.index(e.predicted) for e in told] == expected.indices.tolist()
    assert all(e.heat.min() >= 0 and e.heat.max() <= 1 for e in told)
