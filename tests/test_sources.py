"""Listing the videos of a folder tree and of the Sprites set."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import write_video

from kineme.shards.errors import DataError
from kineme.shards.media import UnreadableError
from kineme.shards.sources.folder import FolderSource
from kineme.shards.sources.openers import ImageFolder, Missing, Sidecars, VideoFile
from kineme.shards.sources.registry import find_source
from kineme.shards.sources.sprites import ACTIONS, SpriteSequence, SpritesSource

LAYERS = ("body", "bottomwear", "topwear", "hair")


def _names(root: Path) -> list[str]:
    return [item.source for item in FolderSource().items(root)]


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_odd_names_are_found_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    names = ["a b.mp4", "a.b.c.mov", "new\nline.mkv", "ünï/コード.WEBM", "x/y/z.gif", "q'\".avi"]
    for name in [*names, ".hidden.mp4", ".git/x.mp4", "notes.txt", "photo.png"]:
        _touch(tmp_path / name)
    assert _names(tmp_path) == sorted(names)


def test_names_that_are_no_utf8_become_text(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    (tmp_path / "a.mp4").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    (item,) = FolderSource().items(tmp_path)
    assert item.source == "\\xff.mp4"
    assert len(list(item.opener.readers()[-1]().frames)) == 3


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    _touch(root / "real" / "a.mp4")
    _touch(elsewhere / "b.mp4")
    (root / "real" / "up").symlink_to(root)
    (root / "parent").symlink_to(tmp_path)
    (root / "away").symlink_to(elsewhere)
    (root / "again").symlink_to(root / "real")
    (root / "file.mp4").symlink_to(elsewhere / "b.mp4")
    (root / "self.mp4").symlink_to(root / "self.mp4")
    (root / "broken.mp4").symlink_to(root / "nothing")
    items = {item.source: item for item in FolderSource().items(root)}
    assert sorted(items) == ["away/b.mp4", "broken.mp4", "file.mp4", "real/a.mp4", "self.mp4"]
    (tmp_path / "link to root").symlink_to(root)
    assert _names(tmp_path / "link to root") == sorted(items)
    for name in ("broken.mp4", "self.mp4"):
        with pytest.raises(OSError, match=r"such file|symbolic links"):
            items[name].opener.sha256()


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (item,) = FolderSource().items(tmp_path)
    with pytest.raises(UnreadableError, match="not a regular file"):
        item.opener.sha256()


def test_numbered_images_are_one_video_in_their_order(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    _touch(tmp_path / "cover.png")
    _touch(tmp_path / "one" / "1.png")
    inside = tmp_path / "walks" / "left"
    inside.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (8, 8)).save(inside / f"{number}.bmp")
    items = FolderSource().items(tmp_path)
    assert [item.source for item in items] == sorted([tmp_path.name, "walks/left"])
    whole = next(item for item in items if item.source == tmp_path.name)
    assert isinstance(whole.opener, ImageFolder)
    assert [frame.image[0, 0, 0] for frame in whole.opener.readers()[0]().frames] == [1, 2, 9, 10]


def test_bair_frames_in_numeric_order(data_dir: Path) -> None:
    items = FolderSource().items(data_dir / "bair")
    assert len(items) == 10
    for item in items:
        assert isinstance(item.opener, ImageFolder)
        assert [path.stem for path in item.opener.paths] == [str(number) for number in range(30)]


def test_subfolders_are_labels_unless_a_csv_says_more(tmp_path: Path) -> None:
    for name in ("walk/fast/a.mp4", "b.mp4", "c.mp4"):
        _touch(tmp_path / name)
    labels = {item.source: dict(item.labels) for item in FolderSource().items(tmp_path)}
    assert labels == {"walk/fast/a.mp4": {"folder": "walk/fast"}, "b.mp4": {}, "c.mp4": {}}
    (tmp_path / "labels.csv").write_text(
        "path,split,age,weight,code,tall,note\n"
        "walk/fast/a.mp4,test,7,1.5,007,true,3\nb.mp4,,8,2,12,FALSE,\ngone.mp4,train,9,3,1,true,x\n"
    )
    items = {item.source: item for item in FolderSource().items(tmp_path)}
    assert items["walk/fast/a.mp4"].labels == {
        "age": 7, "weight": 1.5, "code": "007", "tall": True, "note": "3",
    }  # fmt: skip
    assert items["b.mp4"].labels == {"age": 8, "weight": 2.0, "code": "12", "tall": False}
    assert isinstance(items["b.mp4"].labels["weight"], float)
    assert [items[name].split for name in ("walk/fast/a.mp4", "b.mp4", "c.mp4")] == ["test", "train", "train"]
    assert items["c.mp4"].labels == {}
    assert isinstance(items["gone.mp4"].opener, Missing)
    with pytest.raises(UnreadableError, match=r"labels\.csv"):
        items["gone.mp4"].opener.sha256()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,split\na.mp4,train\n", "called path"),
        ("", "called path"),
        ("path,kind\na.mp4\n", "row 2"),
        ("path,kind\na.mp4,x,y\n", "row 2"),
        ("path\na.mp4\na.mp4\n", "2 times"),
    ],
)
def test_a_wrong_labels_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    _touch(tmp_path / "a.mp4")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        FolderSource().items(tmp_path)


def test_sidecars_go_with_their_video(tmp_path: Path) -> None:
    for name in ("a.b.mp4", "a.b.keypoints.npy", "a.actions.npy", "c.mov", "c.actions.npy"):
        _touch(tmp_path / name)
    dotted, plain = FolderSource().items(tmp_path)
    assert isinstance(dotted.opener, VideoFile)
    assert isinstance(plain.opener, VideoFile)
    assert dotted.opener.sidecars == Sidecars(keypoints=tmp_path / "a.b.keypoints.npy")
    assert plain.opener.sidecars == Sidecars(actions=tmp_path / "c.actions.npy")


def test_a_missing_folder_and_an_unknown_name() -> None:
    with pytest.raises(DataError, match="does not exist"):
        FolderSource().items(Path("/nowhere/at/all"))
    with pytest.raises(DataError, match="is a file"):
        FolderSource().items(Path(__file__))
    assert find_source("sprites").defaults.clip_frames == 8
    with pytest.raises(DataError, match="did you mean moving-digits"):
        find_source("movingdigits")
    with pytest.raises(DataError, match="--option size: folder has no such option; it has none"):
        find_source("folder", {"size": "3"})


def test_sprites_are_composed_as_the_recipe_says(data_dir: Path) -> None:
    """Whole sheets laid over each other, then cut: another order of work than the source's."""
    root = data_dir / "sprites"
    rows = {"spellcard": (1, 2, 3), "walk": (9, 10, 11), "slash": (13, 14, 15)}
    columns = {
        "spellcard": (0, 1, 2, 3, 4, 5, 4, 6), "walk": (8, 1, 2, 3, 4, 5, 6, 7), "slash": (0, 1, 2, 3, 4, 5, 4, 0),
    }  # fmt: skip
    for sheets in ((0, 0, 0, 0), (3, 4, 4, 5), (5, 1, 3, 2)):
        whole = Image.new("RGBA", (832, 1344), "black")
        for path in [
            *(root / layer / f"{sheet}.png" for layer, sheet in zip(LAYERS, sheets, strict=True)),
            root / "shoes/1.png",
        ]:
            whole = Image.alpha_composite(whole, Image.open(path).convert("RGBA"))
        pixels = np.asarray(whole)[..., :3]
        for motion in rows:
            for row, view in zip(rows[motion], ("left", "front", "right"), strict=True):
                cells = [pixels[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] for column in columns[motion]]
                sequence = SpriteSequence(root, sheets, f"{motion} {view}")
                np.testing.assert_array_equal(sequence.compose(), cells)


def test_sprites_official_split_and_labels(data_dir: Path) -> None:
    items = SpritesSource().items(data_dir / "sprites")
    assert len(items) == len({item.source for item in items}) == 11_664
    test = {item.labels["character"] for item in items if item.split == "test"}
    assert test == set(np.random.RandomState(423).permutation(1296)[1000:].tolist())
    assert sum(item.split == "train" for item in items) == 9000
    item = items[9 * (216 * 2 + 36 * 5 + 6 * 0 + 3) + 4]
    assert item.labels == {
        "character": 615, "skin": 2, "pants": 5, "top": 0, "hair": 3, "action": list(ACTIONS)[4],
    }  # fmt: skip


def test_sprites_says_which_sheet_is_missing(data_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dir / "sprites", tmp_path / "sprites", copy_function=os.symlink)
    (tmp_path / "sprites" / "hair" / "4.png").unlink()
    with pytest.raises(DataError, match=r"hair/4\.png is missing"):
        SpritesSource().items(tmp_path / "sprites")
