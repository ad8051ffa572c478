"""``add``, ``remove`` and ``compact`` on a real index, by a real encoder that needs no training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from tiny_runs import FRAMES, TEST_CLIPS

from kineme.pipeline.indexing import flow_run, index_run
from kineme.retrieval.growing import add_clips
from kineme.retrieval.index import open_index
from kineme.retrieval.vectors import SPACES, ClipVectors
from kineme.shards.codec import decode_clip
from kineme.shards.reader import load_clip_frames


@pytest.fixture(scope="module")
def built(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the test clips by optical flow. Tests must not change it."""
    folder = tmp_path_factory.mktemp("commands") / "index"
    with flow_run([f"clip_frames={FRAMES}"]) as run:
        index_run(run, digits / "shards", folder, split="test")
    return folder


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "index"))


@pytest.fixture
def kineme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command and gives what it said, to stderr where it must fail."""

    def run(*arguments: object, code: int = 0) -> str:
        assert call(monkeypatch, *arguments) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def test_shards_are_added_but_for_what_is_there(kineme: Callable[..., str], index: Path, digits: Path) -> None:
    said = kineme("add", index, "--data", digits / "shards")
    assert f"{TEST_CLIPS} clips added, {TEST_CLIPS} were there already" in said
    assert f"it holds {2 * TEST_CLIPS}" in said
    opened = open_index(index)
    assert {clip.split for clip in opened.clips(opened.live_rows)} == {"train", "test"}
    assert opened.previews(opened.keys).keys() == set(opened.keys)
    again = kineme("add", index, "--data", digits / "shards", "--split", "test", "--replace")
    assert f"0 clips added, {TEST_CLIPS} replaced; it holds {2 * TEST_CLIPS}" in again
    assert open_index(index).keys[TEST_CLIPS:] == open_index(index).keys[-TEST_CLIPS:]


def test_a_video_is_added_as_its_shard_would_be(
    kineme: Callable[..., str], index: Path, built: Path, digits: Path
) -> None:
    """The clip is removed and added again from its file: the same key, vectors and film."""
    before = open_index(built)
    key, clip = before.keys[3], before.clip(3)
    kineme("remove", index, key)
    assert not open_index(index).has(key)
    said = kineme("add", index, digits / "videos" / clip.source)
    assert f"1 clips added; it holds {TEST_CLIPS}" in said
    after = open_index(index)
    for space in SPACES:
        assert after.vector(key, space) == pytest.approx(before.vector(key, space), abs=1e-6)
    assert after.film(key) == before.film(key)
    added = after.clip(after.row_of(key))
    assert (added.start_s, added.end_s, added.num_frames) == (clip.start_s, clip.end_s, clip.num_frames)
    assert Path(added.source) == digits / "videos" / clip.source
    assert "1 were there already" in kineme("add", index, digits / "videos" / clip.source)


def test_a_clip_that_is_replaced_by_its_video_keeps_its_metadata(
    kineme: Callable[..., str], index: Path, digits: Path
) -> None:
    before = open_index(index)
    key, clip = before.keys[3], before.clip(3)
    assert clip.labels
    said = kineme("add", index, digits / "videos" / clip.source, "--replace")
    assert f"0 clips added, 1 replaced; it holds {TEST_CLIPS}" in said
    after = open_index(index)
    assert after.keys == [*before.keys[:3], *before.keys[4:], key]
    assert after.clip(after.row_of(key)) == clip
    assert after.film(key) == before.film(key)
    np.testing.assert_array_equal(after.previews([key])[key], before.previews([key])[key])


def test_labels_stay_and_what_the_file_says_is_said_anew(
    kineme: Callable[..., str], tmp_path: Path, digits: Path
) -> None:
    """Where clips of an index differ in length, a video is cut as the encoder takes it."""
    index, frames = tmp_path / "index", FRAMES // 2
    with flow_run([f"clip_frames={frames}"]) as run:
        before = index_run(run, digits / "shards", index, split="test")
    key, clip = before.keys[3], before.clip(3)
    short = dataclasses.replace(clip, key="0" * 16 + "-000000", num_frames=clip.num_frames + 1)
    vectors = {space: before.vector(key, space)[None] for space in SPACES}
    add_clips(index, ClipVectors([short.key], **vectors), [short], [])
    kineme("add", index, digits / "videos" / clip.source, "--replace")
    after = open_index(index)
    replaced = after.clip(after.row_of(key))
    assert (replaced.labels, replaced.split, replaced.source) == (clip.labels, clip.split, clip.source)
    assert (clip.num_frames, replaced.num_frames, len(decode_clip(after.film(key)))) == (FRAMES, frames, frames)
    assert replaced.end_s == pytest.approx(frames / replaced.fps)


def test_a_film_is_the_clip_for_browsers(built: Path, digits: Path) -> None:
    index = open_index(built)
    film = decode_clip(index.film(index.keys[0])).astype(int)
    frames = load_clip_frames(digits / "shards", index.keys[0])
    assert film.shape == frames.shape
    assert abs(film - frames).mean() < 6


def test_clips_are_removed_by_a_filter_and_their_bytes_by_compact(kineme: Callable[..., str], index: Path) -> None:
    opened = open_index(index)
    gone = opened.filter.rows("wall_hit").tolist()
    assert 0 < len(gone) < TEST_CLIPS
    assert f"{len(gone)} clips removed; it holds {TEST_CLIPS - len(gone)}" in kineme(
        "remove", index, "--where", "wall_hit"
    )
    size = sum(path.stat().st_size for path in index.rglob("*"))
    assert f"{TEST_CLIPS - len(gone)} clips in one piece" in kineme("compact", index)
    assert sum(path.stat().st_size for path in index.rglob("*")) < size
    left = json.loads(kineme("query", index, open_index(index).keys[0], "--json", "-k", "99"))
    assert len(left) == TEST_CLIPS - len(gone) - 1
    assert not any(hit["labels"]["wall_hit"] for hit in left)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add",), "neither a video nor --data"),
        (("add", "a.mp4", "--data", "shards"), "both videos and --data"),
        (("add", "absent.mp4"), "absent.mp4: there is no such video"),
        (("add", "a.mp4", "--split", "test"), "--split test: only shards have splits"),
        (("remove",), "neither a key nor --where"),
        (("remove", "absent"), "'absent' is no key"),
        (("remove", "--where", "colour = 1"), "unknown column 'colour'"),
    ],
)
def test_what_a_user_can_mend(
    kineme: Callable[..., str], built: Path, arguments: tuple[str, ...], message: str
) -> None:
    said = kineme(arguments[0], built, *arguments[1:], code=2)
    assert message in said
    assert len(said.splitlines()) == 1
