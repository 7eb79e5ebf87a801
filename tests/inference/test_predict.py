"""What a trained network sees in image files."""

import csv
import json
from collections.abc import Callable
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.find_images import find_images
from src.data.image_stream import stream
from src.inference.load import load
from src.training.build import build_data

Launch = Callable[..., Any]


@pytest.fixture(scope="session")
def digits(finished: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Test images uint8 [30, 3, 8, 8] and the probabilities [30, 10] the network gives to their classes."""
    trained = load(finished.folder)
    images = build_data(trained.config).test.images[:30]
    with torch.inference_mode():
        return images, trained.network(trained.preprocess(images)).softmax(dim=1)


@pytest.fixture
def photos(digits: Any, tmp_path: Path) -> Path:
    """The images as files photos/00.png to 29.png, the last ten in photos/more."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for i, image in enumerate(digits[0]):
        file = folder / ("more" if i >= 20 else "") / f"{i:02}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    return folder


def test_every_file_of_a_folder_is_predicted_as_the_network_does(
    predict: Launch, digits: Any, photos: Path, tmp_path: Path
) -> None:
    run = predict("images=photos", "out=results/a.csv", "batch_size=7", "top=2")
    assert run.code == 0 and run.err == ""
    with (tmp_path / "results" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "class_1", "probability_1", "class_2", "probability_2"]
    assert [Path(row["file"]).stem for row in rows] == [f"{i:02}" for i in range(30)]
    values, classes = digits[1].topk(2)
    assert [[row["class_1"], row["class_2"]] for row in rows] == [[str(i) for i in row] for row in classes.tolist()]
    told = [[float(row["probability_1"]), float(row["probability_2"])] for row in rows]
    assert torch.allclose(torch.tensor(told), values, atol=2e-6)
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["a.csv"], "nothing half-written is left"


def test_a_table_has_as_many_columns_as_there_are_classes(predict: Launch, photos: Path) -> None:
    assert predict("images=photos", "out=a.csv", "top=20").code == 0
    with (photos.parent / "a.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[-2:] == ["class_10", "probability_10"] and {len(row) for row in rows} == {len(header)}
    assert len(rows) == 30


def test_the_screen_shows_the_first_files_and_says_how_many_more(predict: Launch, digits: Any, photos: Path) -> None:
    run = predict("images=photos")
    lines = run.out.splitlines()
    assert lines[0].split() == ["file", "class", "probability", "then"]
    best = digits[1][0].topk(3)
    first, second, third = (f"{index} {value:.1%}" for value, index in zip(*best, strict=True))
    name, probability = first.split()
    assert lines[1].split(maxsplit=3) == [str(Path("photos/00.png")), name, probability, f"{second}, {third}"]
    assert len(lines) == 22 and lines[-1] == "and 10 more; out=predictions.csv writes all of them"


def test_json_and_test_time_augmentation(predict: Launch, finished: Any, digits: Any, photos: Path) -> None:
    run = predict("images=photos/more/*.png", "out=a.json", "tta=flip", "top=10")
    assert run.code == 0
    rows = json.loads((photos.parent / "a.json").read_text())
    assert [Path(row["file"]).stem for row in rows] == [f"{i}" for i in range(20, 30)]
    trained, images = load(finished.folder), digits[0][20:]
    with torch.inference_mode():
        mirrored = trained.network(trained.preprocess(images.flip(-1))).softmax(dim=1)
    expected = (digits[1][20:] + mirrored) / 2
    for row, own in zip(rows, expected, strict=True):
        told = {int(entry["class"]): entry["probability"] for entry in row["predictions"]}
        assert torch.allclose(torch.tensor([told[i] for i in range(10)]), own, atol=2e-6)


def test_any_mode_and_size(predict: Launch, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for mode in ("L", "P", "RGBA", "LA", "1", "CMYK"):
        picture.convert(mode).save(tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}")
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20).save(tmp_path / "16.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    run = predict("images=[.]", "out=a.csv")
    assert run.code == 0, run.err
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 9


def test_what_cannot_be_read_is_named_and_passed_over(predict: Launch, photos: Path, tmp_path: Path) -> None:
    (photos / "03.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image either")
    run = predict("images=[photos,notes.txt]", "out=a.json")
    assert run.code == 1 and "Traceback" not in run.err
    first, second, last = run.err.splitlines()
    assert first.startswith(f"{Path('photos/03.png')} cannot be read as an image (")
    assert second.startswith("notes.txt cannot be read as an image (")
    assert last == "2 of 31 files could not be read."
    assert len(json.loads((tmp_path / "a.json").read_text())) == 29


def test_nothing_that_can_be_read(predict: Launch, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    run = predict("images=a.png", "out=a.json")
    assert run.code == 1 and run.err.endswith("1 of 1 files could not be read.\n")
    assert json.loads((tmp_path / "a.json").read_text()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a checkpoint and images: python -m src.predict ckpt=RUN images=FOLDER"),
        (["images=nowhere"], "There are no images at nowhere; name a file, a folder or a pattern like a/*.png."),
        (["images=empty"], "There are no images at empty; name a file, a folder or a pattern like a/*.png."),
        (["images=photos", "out=a.txt"], "out is a.txt; expected the name of a .csv or a .json file."),
        (["images=photos", "top=true"], "top is True; expected a whole number, 1 or more."),
        (["images=photos", "top=0"], "top is 0; expected a whole number, 1 or more."),
        (["images=photos", "tta=[none,flip]"], "tta is none, flip; predictions are made with one of them."),
        (["images=photos", "tta.average=votes"], "tta.average is 'votes'; expected one of probabilities, logits."),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    predict: Launch, photos: Path, arguments: list[str], sentence: str
) -> None:
    (photos.parent / "empty").mkdir()
    run = predict(*arguments)
    assert run.code == 1 and run.err == f"{sentence}\n"
    assert not list(photos.parent.glob("a.*"))


def test_paths_are_taken_as_they_are(predict: Launch, photos: Path) -> None:
    photos.rename(photos.parent / "lr=0.1,seed=1")
    assert predict("images=lr=0.1,seed=1", "out=a=1,b=2.csv").code == 0
    assert (photos.parent / "a=1,b=2.csv").exists()


# ---- Finding and streaming files -----------------------------------------------------------------------


def test_files_folders_and_patterns_each_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    for name in (".hidden.png", "notes.txt", "more/.thumbnails/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    inside = [Path("more", f"{i}.png") for i in range(20, 30)]
    assert find_images(["05.png", "0[5-6].png", "./more"]) == [Path("05.png"), Path("06.png"), *inside]
    assert find_images("**/*9.png") == [Path("09.png"), Path("19.png"), Path("more/29.png")]
    assert len(find_images(".")) == 30 and find_images(".hidden.png") == [Path(".hidden.png")]


def test_images_stream_however_many_there_are(photos: Path) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        for file in repeat(photos / "00.png"):
            taken += 1
            yield file

    for files, images, errors in islice(stream(endless(), 8, batch_size=16), 5):
        assert len(files) == len(images) == 16 and not errors
    assert taken == 16 * 6, "one batch ahead, no more"


def test_the_last_batch_may_be_small_and_order_is_kept(photos: Path, digits: Any) -> None:
    batches = list(stream(find_images(str(photos)), 8, batch_size=8))
    assert [len(files) for files, _, _ in batches] == [8, 8, 8, 6]
    assert torch.equal(torch.stack([image for _, images, _ in batches for image in images]), digits[0])
