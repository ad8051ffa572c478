"""Atari episodes: layouts to labels, and the preprocessing against a slow reference."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from ingest_runs import run, samples
from numpy.typing import NDArray
from PIL import Image
from video_files import write_video

from kineme.shards.codec import decode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.rejects import read_rejects
from kineme.shards.sample import Frames
from kineme.shards.sampling import Sampling
from kineme.shards.sources.atari import AtariSource, luminance
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.registry import find_source

SETTINGS = IngestSettings(84, Sampling(6))


def _screens(count: int = 6, seed: int = 0, height: int = 210, width: int = 160) -> list[Frames]:
    """A dark field with a ball that is drawn in every other frame only, as the console does, and noise."""
    rng = np.random.default_rng(seed)
    screens = []
    for number in range(count):
        screen = rng.integers(0, 60, (height, width, 3), np.uint8)
        if number % 2:
            screen[50 + number : 54 + number, 80:84] = (236, 200, 90)
        screens.append(screen)
    return screens


def _save(folder: Path, screens: list[Frames], suffix: str = ".png", first: int = 8) -> None:
    """Numbers without leading zeros, so that their order as text is another."""
    folder.mkdir(parents=True)
    for number, screen in enumerate(screens, first):
        Image.fromarray(screen).save(folder / f"frame{number}{suffix}")


def _reference(screens: list[Frames]) -> NDArray[np.float64]:
    """Maximum of two frames and luminance, pixel by pixel, before rounding."""
    out = np.zeros((len(screens), *screens[0].shape[:2]))
    for t, screen in enumerate(screens):
        for y in range(screen.shape[0]):
            for x in range(screen.shape[1]):
                r, g, b = (max(int(screens[s][y, x, c]) for s in (max(t - 1, 0), t)) for c in range(3))
                out[t, y, x] = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return out


def _frames(item: SourceItem) -> Frames:
    return np.stack([frame.image for frame in item.opener.readers()[-1]().frames])


def _labels(root: Path) -> dict[str, dict[str, object]]:
    return {item.source: dict(item.labels) for item in AtariSource().items(root)}


def test_the_preprocessing_is_that_of_a_slow_reference(tmp_path: Path) -> None:
    screens = _screens(4, height=24, width=20)
    _save(tmp_path / "Pong" / "1", screens)
    (item,) = find_source("atari", {"crop": "2,3,16,16", "frame_px": "16"}).items(tmp_path)
    frames = _frames(item)
    assert frames.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(frames, frames[..., :1].repeat(3, axis=-1))
    wanted = _reference(screens)[:, 2:18, 3:19]
    assert np.abs(frames[..., 0] - wanted).max() <= 0.5 + 1e-9


def test_luminance_of_greys_and_primaries() -> None:
    greys = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    np.testing.assert_array_equal(luminance(greys), greys[..., 0])
    primaries = np.array([[(255, 0, 0), (0, 255, 0), (0, 0, 255)]], np.uint8)
    assert luminance(primaries).tolist() == [[54, 182, 18]]


def test_what_flickers_stays(tmp_path: Path) -> None:
    screens = _screens()
    _save(tmp_path / "Pong" / "1", screens)
    (item,) = find_source("atari", {"crop": "40,70,24,24", "frame_px": "24"}).items(tmp_path)
    bright = (_frames(item)[..., 0] > 150).sum(axis=(1, 2))
    assert bright.tolist() == [0, 16, 16, 16, 16, 16]
    assert [int((screen[..., 0] > 150).sum()) for screen in screens] == [0, 16, 0, 16, 0, 16]


def test_end_to_end_the_whole_screen_as_84_by_84(tmp_path: Path) -> None:
    root, out = tmp_path / "frames", tmp_path / "out"
    _save(root / "Pong" / "a" / "7", _screens(12))
    _save(root / "Breakout" / "8", _screens(6, seed=1))
    run(root, out, SETTINGS, AtariSource())
    clips = samples(out)
    assert [clip.record.source for clip in clips] == ["Breakout/8", "Pong/a/7", "Pong/a/7"]
    assert dict(clips[1].record.labels) == {"game": "Pong", "episode": "a/7", "lossy": False}
    grey = luminance(np.maximum(*_screens(12)[6:8]))
    wanted = np.asarray(Image.fromarray(grey).resize((84, 84), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(decode_clip(clips[2].mp4)[1], wanted[..., None].repeat(3, axis=-1))
    assert AtariSource().present(root)


def test_gifs_are_episodes_or_frames(tmp_path: Path) -> None:
    (tmp_path / "Pong").mkdir()
    pictures = [Image.fromarray(screen).quantize(256) for screen in _screens()]
    pictures[0].save(tmp_path / "Pong" / "x1.gif", save_all=True, append_images=pictures[1:], duration=40)
    _save(tmp_path / "Pong" / "stills", _screens(), ".gif")
    assert _labels(tmp_path) == {
        "Pong/stills": {"game": "Pong", "episode": "stills", "lossy": False},
        "Pong/x1.gif": {"game": "Pong", "episode": "x1", "lossy": False},
    }
    stills, moving = AtariSource().items(tmp_path)
    assert _frames(stills).shape == _frames(moving).shape == (6, 84, 84, 3)
    colours = np.array([np.asarray(picture.convert("RGB")) for picture in pictures])
    together = luminance(np.maximum(colours[2], colours[1]))
    wanted = np.asarray(Image.fromarray(together).resize((84, 84), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(_frames(moving)[2, ..., 0], wanted)


def _write_ffv1(path: Path, screens: list[Frames]) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *screens[0].shape[:2], "bgr0"
        for number, screen in enumerate(screens):
            frame = av.VideoFrame.from_ndarray(screen, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_lossy_episodes_are_labelled_and_warned_of_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "Pong").mkdir()
    _write_ffv1(tmp_path / "Pong" / "good.mkv", _screens())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (item,) = AtariSource().items(tmp_path)
    assert item.labels["lossy"] is False
    grey = luminance(np.maximum(*_screens()[3:5]))
    wanted = np.asarray(Image.fromarray(grey).resize((84, 84), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(_frames(item)[4, ..., 0], wanted)
    _save(tmp_path / "Pong" / "jpegs", _screens(), ".jpg")
    write_video(tmp_path / "Pong" / "small.mp4", codec="mpeg4", size=(210, 160))
    with pytest.warns(
        UserWarning, match=r"^Pong/jpegs and 1 more are not known to be lossless: .*PNG or GIF$"
    ) as caught:
        labels = _labels(tmp_path)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert {name: label["lossy"] for name, label in labels.items()} == {
        "Pong/good.mkv": False, "Pong/jpegs": True, "Pong/small.mp4": True,
    }  # fmt: skip


def test_jpeg_harms_what_png_keeps(tmp_path: Path) -> None:
    """Why it is warned of: around a ball that flickers, JPEG leaves ripples, and PNG nothing."""
    for suffix in (".png", ".jpg"):
        _save(
            tmp_path / suffix[1:] / "1",
            [np.zeros((210, 160, 3), np.uint8) + (i % 2) * _ball() for i in range(4)],
            suffix,
        )
    with pytest.warns(UserWarning, match="lossless"):
        items = {item.labels["game"]: item for item in AtariSource(crop="40,70,32,32", frame_px="32").items(tmp_path)}
    clean, rippled = (_frames(items[game])[1:, ..., 0] for game in ("png", "jpg"))
    assert set(np.unique(clean)) == {0, 210}  # 0.2126 * 236 + 0.7152 * 214 + 0.0722 * 90
    around = clean[0] == 0
    assert (rippled[0][around] > 0).sum() > 20


def _ball() -> Frames:
    ball = np.zeros((210, 160, 3), np.uint8)
    ball[50:54, 80:84] = (236, 214, 90)
    return ball


def test_what_lies_in_no_game_or_is_too_small_is_rejected(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    _save(root / "Pong" / "1", _screens())
    _save(root / "Pong" / "small", _screens(height=100, width=80))
    write_video(root / "loose.gif", codec="gif")
    run(root, out, SETTINGS, AtariSource(crop="34,0,160,160"))
    assert {clip.record.source for clip in samples(out)} == {"Pong/1"}
    rejects = {reject.path: reject.reason for reject in read_rejects(out)}
    assert rejects == {
        "Pong/small": "its screen is 80x100 px, too small for crop=34,0,160,160",
        "loose.gif": "it lies in no folder named after its game",
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("crop", "1,2,3"),
        ("crop", "0,0,0,5"),
        ("crop", "a,b,c,d"),
        ("crop", "1,2,3,4,"),
        ("frame_px", "0"),
        ("frame_px", "x"),
    ],
)
def test_a_wrong_option_is_one_line(option: str, value: str) -> None:
    with pytest.raises(DataError, match=f"--option {option}={value}: "):
        find_source("atari", {option: value})


def test_other_folders(tmp_path: Path) -> None:
    assert not AtariSource().present(tmp_path)
    with pytest.raises(DataError, match="no episode"):
        AtariSource().items(tmp_path)
    _save(tmp_path / "other" / "1", _screens(height=64, width=64))
    assert not AtariSource().present(tmp_path)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    assert not AtariSource().present(tmp_path)
