"""Reading video files, sampling frames, cutting clips, and the geometry of the square."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from video_files import write_sound, write_video

from kineme.shards.errors import DataError
from kineme.shards.geometry import square_frame, square_points
from kineme.shards.media import UnreadableError, read_images, read_with_decord, read_with_pyav
from kineme.shards.sampling import Sampling, TimedFrame, cut_clips, cut_first

# name: frames, height, width (upright), rate; as ../shared/data/README.md says
CODECS = {
    "av1_video.mkv": (125, 360, 640, 25.0),
    "h264_10bits.mp4": (30, 200, 200, 30.0),
    "h265_video.mp4": (10, 128, 128, 10.0),
    "nasa_13013.mp4": (390, 270, 480, 29.97),
    "unordered.mov": (4, 50, 50, 32.0),
    "video_90.mov": (3, 568, 320, 30.0),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("read", [read_with_decord, read_with_pyav])
def test_reads_every_codec_upright(data_dir: Path, name: str, read) -> None:
    frames, height, width, fps = CODECS[name]
    if name == "av1_video.mkv" and read is read_with_decord:
        with pytest.raises(UnreadableError):
            list(read(data_dir / "codecs" / name).frames)
        return
    footage = read(data_dir / "codecs" / name)
    count, starts = 0, []
    for frame in footage.frames:
        assert frame.image.shape == (height, width, 3)
        assert frame.image.dtype == np.uint8
        count += 1
        starts.append(frame.start_s)
    assert count == frames
    assert footage.fps == pytest.approx(fps, abs=1e-3)
    np.testing.assert_allclose(starts, np.arange(frames) / footage.fps, atol=2e-3)


def test_both_readers_turn_the_same_way(data_dir: Path) -> None:
    path = data_dir / "codecs" / "video_90.mov"
    ours = [frame.image for frame in read_with_pyav(path).frames]
    theirs = [frame.image for frame in read_with_decord(path).frames]
    np.testing.assert_array_equal(ours, theirs)


def test_corrupted_is_refused_with_its_reason(data_dir: Path) -> None:
    path = data_dir / "codecs" / "corrupted.mp4"
    with pytest.raises(UnreadableError):
        list(read_with_decord(path).frames)
    with pytest.raises(UnreadableError, match="frame 28 of 50"):
        list(read_with_pyav(path).frames)


@pytest.mark.parametrize("read", [read_with_decord, read_with_pyav])
def test_lossless_frames_come_back_exactly(tmp_path: Path, read) -> None:
    pictures = write_video(tmp_path / "a.mp4", 12)
    np.testing.assert_array_equal([frame.image for frame in read(tmp_path / "a.mp4").frames], pictures)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("gif", "gif"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mkv", "libx264")]
)
def test_other_containers(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_video(path, 10, codec=codec, fps=20)
    footage = read_with_pyav(path)
    assert footage.fps == pytest.approx(20)
    starts = [frame.start_s for frame in footage.frames]
    np.testing.assert_allclose(starts, np.arange(10) / 20, atol=1e-3)


def test_damage_that_decord_hides_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_video(path, 24, codec="mpeg4")
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packet = [packet for packet in container.demux() if packet.size][12]
    # Within a packet: the container stays whole.
    middle = packet.pos + 8 + packet.size // 2
    data[middle : middle + 20] = np.random.default_rng(0).integers(0, 256, 20, np.uint8).tobytes()
    path.write_bytes(data)
    assert len(decord.VideoReader(str(path)).get_batch(range(24)).asnumpy()) == 24
    for read in (read_with_decord, read_with_pyav):
        with pytest.raises(UnreadableError, match="damage"):
            list(read(path).frames)


@pytest.mark.parametrize(
    ("suffix", "codec", "reason"),
    [("mp4", "libx264", "claims 30 frames"), ("avi", "mpeg4", "claims 30 frames"), ("mkv", "libx264", "claims 3.00 s")],
)
def test_a_file_cut_short_says_so(tmp_path: Path, suffix: str, codec: str, reason: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_video(path, 30, codec=codec, fps=10, options={"movflags": "faststart"} if suffix == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableError, match=f"cut short.*{reason}"):
        read_with_pyav(path)


def test_what_is_no_video_says_why(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "text.mp4").write_text("this is text\n" * 200)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableError, match="no video stream"):
        read_with_pyav(tmp_path / "sound.mp4")
    for name in ("text.mp4", "list.mp4"):
        with pytest.raises(UnreadableError, match="not a video"):
            read_with_pyav(tmp_path / name)


@pytest.mark.parametrize("read", [read_with_decord, read_with_pyav])
def test_variable_rate_keeps_its_times(tmp_path: Path, read) -> None:
    starts_ms = [0, 40, 120, 130, 300, 320, 400, 520, 530, 600]
    write_video(tmp_path / "a.mp4", 10, starts_ms=starts_ms)
    footage = read(tmp_path / "a.mp4")
    np.testing.assert_allclose([frame.start_s for frame in footage.frames], np.array(starts_ms) / 1000, atol=1e-6)
    assert 10 < footage.fps < 20


def test_images_of_one_folder_have_one_size(tmp_path: Path) -> None:
    for number, side in enumerate((8, 8, 9)):
        Image.new("RGB", (side, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    assert [frame.image[0, 0, 0] for frame in read_images(paths[:2]).frames] == [0, 1]
    with pytest.raises(UnreadableError, match=r"2\.png is 9x8 px, the first one 8x8"):
        list(read_images(paths).frames)
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    with pytest.raises(UnreadableError, match=r"image 1\.png cannot be read"):
        list(read_images(paths).frames)


def test_sixteen_bit_images_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "0.png")
    assert next(read_images([tmp_path / "0.png"]).frames).image[0, 0].tolist() == [128, 128, 128]


def _frames(starts: list[float]) -> Iterator[TimedFrame]:
    for number, start_s in enumerate(starts):
        yield TimedFrame(start_s, np.full((1, 1, 3), number, np.uint8))


_STARTS = st.lists(st.integers(1, 200), min_size=1, max_size=60).map(
    lambda gaps: [float(t) / 1000 for t in np.cumsum(gaps) - gaps[0]]
)


@given(_STARTS, st.integers(1, 7))
def test_every_nth_frame_until_the_next(starts: list[float], step: int) -> None:
    taken = list(Sampling(frame_step=step).sample(_frames(starts), 20))
    assert [frame.number for frame in taken] == list(range(0, len(starts), step))
    assert [frame.start_s for frame in taken] == starts[::step]
    assert [frame.end_s for frame in taken] == [*starts[step::step], starts[-1] + 1 / 20]


@given(_STARTS, st.sampled_from([3.0, 8.0, 25.0, 60.0]))
def test_resampling_takes_the_nearest_frame(starts: list[float], rate: float) -> None:
    taken = list(Sampling(fps=rate).sample(_frames(starts), 20))
    end = starts[-1] + 1 / 20
    assert len(taken) == int(np.ceil((end - 1e-6) * rate))
    for number, frame in enumerate(taken):
        distance = np.abs(np.array(starts) - number / rate)
        assert distance[frame.number] <= distance.min() + 1e-9
        assert frame.image[0, 0, 0] == frame.number
        assert (frame.start_s, frame.end_s) == (number / rate, (number + 1) / rate)


@given(st.integers(1, 70), st.integers(1, 20))
def test_clips_cover_every_frame(frames: int, clip_frames: int) -> None:
    sampled = Sampling().sample(_frames([number / 10 for number in range(frames)]), 10)
    if frames < clip_frames:
        with pytest.raises(DataError, match=f"{frames} sampled frames.*{clip_frames} of a clip.*--clip-frames"):
            list(cut_clips(sampled, clip_frames, lambda image: image))
        return
    clips = [[frame.number for frame in clip] for clip in cut_clips(sampled, clip_frames, lambda image: image)]
    starts = [*range(0, frames - clip_frames + 1, clip_frames)]
    if frames % clip_frames:
        starts.append(frames - clip_frames)
    assert clips == [list(range(start, start + clip_frames)) for start in starts]


@pytest.mark.parametrize(("frames", "most", "expected"), [(9, 4, 4), (4, 4, 4), (3, 4, 3)])
def test_the_first_clip_alone_may_be_shorter(frames: int, most: int, expected: int) -> None:
    coming = _frames([number / 10 for number in range(frames)])
    (clip,) = cut_first(Sampling().sample(coming, 10), most, lambda image: image)
    assert [frame.number for frame in clip] == list(range(expected))
    # Read to its end, where damage may be.
    assert next(coming, None) is None
    with pytest.raises(DataError, match="no frames"):
        list(cut_first(iter(()), most, lambda image: image))


@pytest.mark.parametrize(
    "wrong", [{"clip_frames": 0}, {"frame_step": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"fps": 5.0, "frame_step": 2}]
)
def test_impossible_sampling_is_refused(wrong: dict) -> None:
    with pytest.raises(DataError, match="--"):
        Sampling(**wrong)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 91), (100, 64)])
def test_a_frame_that_fits_is_only_cropped(height: int, width: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    top, left = (height - 64) // 2, (width - 64) // 2
    np.testing.assert_array_equal(square_frame(frame, 64), frame[top : top + 64, left : left + 64])


@pytest.mark.parametrize(("height", "width", "size"), [(90, 160, 30), (120, 60, 30), (32, 48, 64)])
def test_points_go_where_the_picture_goes(height: int, width: int, size: int) -> None:
    x, y = width // 2 + 8, height // 2 - 6
    frame = np.zeros((height, width, 3), np.uint8)
    frame[y - 2 : y + 3, x - 2 : x + 3] = 255
    weight = square_frame(frame, size)[..., 0].astype(float)
    rows, columns = np.mgrid[:size, :size]
    centre = [(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()]
    point = square_points(np.array([[x, y]], np.float32), height, width, size)[0]
    np.testing.assert_allclose(point, centre, atol=0.2)
