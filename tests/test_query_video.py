"""From video files to an index and back: ingest, encode, index, query by file. The network is real, and untrained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from made_up_clips import make_frames
from PIL import Image
from typer.testing import CliRunner

from kineme.pipeline.commands import indexing, search
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.run import load_run, save_weights
from kineme.pipeline.tasks import make_task
from kineme.retrieval.index import Index, open_index
from kineme.shards.codec import encode_clip
from kineme.shards.engine_local import LocalEngine
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings, ingest
from kineme.shards.sources.folder import FolderSource

RECIPE = """
kind: sequential-vae
model: {width: 4, f_dim: 8, z_dim: 4, hidden_dim: 16}
"""
FPS = 12.5
app = typer.Typer()
app.command()(indexing.index)
app.command()(search.query)


def write_video(path: Path, number: int, *, size: int = 64, count: int = 16, fps: float = FPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_clip(make_frames(7 * number, count=count, size=size), fps)[0])
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/ (six clips of squares), shards/, run/ and index/, made by the real commands."""
    root = tmp_path_factory.mktemp("query video")
    for number in range(6):
        write_video(root / "videos" / ("even" if number % 2 == 0 else "odd") / f"clip {number}.mp4", number)
    ingest(FolderSource(), root / "videos", root / "shards", IngestSettings(), LocalEngine(1))
    (root / "run" / "checkpoints").mkdir(parents=True)
    (root / "run" / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(root / "run" / "recipe.yaml")
    torch.manual_seed(0)
    save_weights(root / "run", recipe, make_task(recipe))
    arguments = ["index", str(root / "run"), "--data", str(root / "shards"), "--out", str(root / "index")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "6 clips indexed (motion 64, appearance 8 dimensions)" in result.stdout
    return root


@pytest.fixture(scope="module")
def index(root: Path) -> Index:
    return open_index(root / "index")


def ask(root: Path, clip: Path | str, *arguments: str):
    return CliRunner().invoke(app, ["query", str(root / "index"), str(clip), *arguments], catch_exceptions=False)


def test_the_index_says_what_it_was_made_of(index: Index, root: Path) -> None:
    assert (index.info.encoder, index.info.data, index.count) == ("sequential-vae", str(root / "shards"), 6)
    assert load_run(index.encoder_folder).recipe == load_run(root / "run").recipe
    assert {index.clip(row).labels["folder"] for row in range(6)} == {"even", "odd"}
    strips = index.previews(index.keys)
    assert all(strip.shape == (8, 64, 64, 3) for strip in strips.values())


@pytest.mark.parametrize("by", ["motion", "appearance"])
def test_a_video_of_the_index_asks_what_its_clip_asks(root: Path, index: Index, by: str) -> None:
    """The file decoded anew has the vector that was stored when its shard was encoded."""
    own = next(key for row, key in enumerate(index.keys) if index.clip(row).source == "odd/clip 3.mp4")
    by_file, by_key = (
        {hit["key"]: hit["score"] for hit in json.loads(ask(root, clip, "--by", by, "--json", "-k", "6").stdout)}
        for clip in (root / "videos" / "odd" / "clip 3.mp4", own)
    )
    assert by_file.pop(own) == pytest.approx(1, abs=1e-5)
    assert by_file == pytest.approx(by_key, abs=1e-5)


def test_a_filter_holds_for_video_queries_too(root: Path) -> None:
    result = ask(root, root / "videos" / "odd" / "clip 3.mp4", "--json", "--where", "folder = 'even'", "-k", "3")
    assert {hit["labels"]["folder"] for hit in json.loads(result.stdout)} == {"even"}


def test_a_video_of_another_size_and_rate_is_fitted_and_finds_its_like(root: Path, tmp_path: Path) -> None:
    """The same square, drawn twice as large and shown at twice the rate: the index's rate is what is compared at."""
    frames = make_frames(21, count=16, size=64).repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    (tmp_path / "large.mp4").write_bytes(encode_clip(frames, 2 * FPS)[0])
    result = ask(
        root, tmp_path / "large.mp4", "--by", "appearance", "--json", "-k", "1", "--sheet", str(tmp_path / "s.png")
    )
    assert json.loads(result.stdout)[0]["source"] == "odd/clip 3.mp4"
    assert json.loads(result.stdout)[0]["score"] > 0.999
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 2 * 96


def test_a_video_that_is_too_short_is_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"short\.mp4") as refusal:
        ask(root, write_video(tmp_path / "short.mp4", 1, count=5))
    assert "\n" not in str(refusal.value)


def test_the_index_alone_is_enough(root: Path, tmp_path: Path) -> None:
    """Moved, and without the run and the shards."""
    moved = (root / "index").rename(tmp_path / "moved")
    hidden = [(root / name).rename(tmp_path / name) for name in ("run", "shards")]
    try:
        arguments = ["query", str(moved), str(root / "videos" / "odd" / "clip 3.mp4"), "--by", "appearance", "--json"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert json.loads(result.stdout)[0]["source"] == "odd/clip 3.mp4"
    finally:
        moved.rename(root / "index")
        for folder in hidden:
            folder.rename(root / folder.name)
