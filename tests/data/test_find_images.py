"""Which image files a user means."""

from pathlib import Path

import pytest

from src.data.find_images import find_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.jpg", "sub/c.tiff", ".hidden/d.png", "sub/.e.png", "notes.txt", "[x].gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(photos: Path, *places: str) -> list[str]:
    found = find_images([str(photos / place) for place in places])
    return [file.relative_to(photos).as_posix() for file in found]


def test_folders_files_and_patterns(photos: Path) -> None:
    assert names(photos, ".") == ["[x].gif", "a.jpg", "b.PNG", "sub/c.tiff"]
    assert names(photos, "sub") == ["sub/c.tiff"]
    assert names(photos, "notes.txt") == ["notes.txt"]
    assert names(photos, "[x].gif") == ["[x].gif"]
    assert names(photos, "**/*.t*") == ["notes.txt", "sub/c.tiff"]
    assert names(photos, "b.PNG", ".") == ["b.PNG", "[x].gif", "a.jpg", "sub/c.tiff"]
    assert find_images(str(photos / "a.jpg")) == [photos / "a.jpg"]


@pytest.mark.parametrize("place", ["nowhere", "*.bmp", "empty"])
def test_a_place_without_images_is_named(photos: Path, place: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^There are no images at .*name a file, a folder or a pattern"):
        find_images([str(photos / "a.jpg"), str(photos / place)])
