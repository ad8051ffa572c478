"""Ingest against what else makes clips of a folder of videos: video2dataset 1.3, and the ffmpeg program under xargs.

All get the same files and as many processes as there are cores, and make clips of 16 frames of 64x64 pixels of the
middle square. What differs:

- video2dataset cannot store clips without loss: H.264 at x264's default quality, a twentieth of the bytes. It starts
  ffmpeg once a video to cut it (re-encoding at full size, the only way it has to cut between key frames) and once a
  clip to resize it. "resized only" is the same without any clips: one ffmpeg a video, the most that it can be asked to
  leave out.
- ffmpeg gets one process a file, one thread each, and the settings of our codec; it encodes all clips of a file in one
  go, and writes no tar, no checksums, no table.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from bench import CLIP_FRAMES, HERE, SIZE, STARTUP_RUNS, Bench, Section, net_times, run_ingest
from corpus import FPS, make_corpus, make_tiny_files
from measure import MeasurementError, Run, alternate, as_json, ratios, run_program, spread, times

_CLIPS = 16  # of a video
_CLIP_SECONDS = CLIP_FRAMES / FPS


def measure(bench: Bench) -> Section:
    """How many times the clips per core-second of each peer an ingest makes."""
    videos = max(bench.workers, bench.videos // 3)
    folder = make_corpus(bench.work, videos, bench.workers)
    tiny = make_tiny_files(bench.work, 1)
    peers = _peers(bench)
    runs = alternate(
        {
            "kineme": lambda: run_ingest(bench, folder, videos * _CLIPS),
            **{name: _of(run, folder, videos) for name, run in peers.items()},
        },
        bench.rounds,
    )
    startup = {
        "kineme": [run_ingest(bench, tiny, 1) for _ in range(STARTUP_RUNS)],
        **{name: [run(tiny, 1, 1) for _ in range(STARTUP_RUNS)] for name, run in peers.items()},
    }
    net = {name: net_times(runs[name], startup[name]) for name in runs}
    ours = runs["kineme"]
    metrics: dict[str, float] = {}
    for name in peers:
        metrics |= spread(f"peers/{name}", ratios(times(runs[name]), times(ours)))
        metrics |= spread(f"peers/{name}/without_start", ratios(net[name], net["kineme"]))
        metrics[f"peers/{name}/bytes"] = runs[name][0].result["bytes"] / ours[0].result["bytes"]
    settings = {"videos": videos, "clips": videos * _CLIPS, "workers": bench.workers, "rounds": bench.rounds}
    per_core = {name: [videos * _CLIPS / s / bench.workers for s in times(side)] for name, side in runs.items()}
    kept = {"runs": as_json(runs), "one tiny file": as_json(startup), "clips per core-second": per_core}
    return Section(metrics, settings, kept)


Peer = Callable[[Path, int, int], Run]
"""Runs on a folder of so many videos of so many clips each."""


def _peers(bench: Bench) -> dict[str, Peer]:
    """Those that are installed here."""
    peers: dict[str, Peer] = {}
    if shutil.which("ffmpeg") is None:
        print("peers: not measured: the ffmpeg program is not installed; see benchmarks/README.md")
        return peers
    peers["ffmpeg"] = lambda *given: _ffmpeg(bench, *given)
    if bench.video2dataset.exists():
        peers["video2dataset"] = lambda *given: _video2dataset(bench, *given, cut=True)
        peers["video2dataset_resized_only"] = lambda *given: _video2dataset(bench, *given, cut=False)
    else:
        print(f"video2dataset: not measured: no {bench.video2dataset}; see benchmarks/README.md")
    return peers


def _of(peer: Peer, folder: Path, videos: int) -> Callable[[], Run]:
    return lambda: peer(folder, videos, _CLIPS)


def _video2dataset(bench: Bench, folder: Path, videos: int, clips: int, *, cut: bool) -> Run:
    out = bench.fresh("video2dataset")
    words = [bench.video2dataset, HERE / "video2dataset_job.py", folder, out, "--workers", bench.workers]
    words += ["--size", SIZE, "--clip-seconds", _CLIP_SECONDS, "--clips", clips if cut else 0]
    run = run_program([str(word) for word in words])
    wanted = videos * clips if cut else videos
    if run.result["clips"] != wanted:
        raise MeasurementError(f"video2dataset {folder}: {run.result['clips']} clips instead of {wanted}")
    shutil.rmtree(out)
    return run


def _ffmpeg(bench: Bench, folder: Path, videos: int, clips: int) -> Run:
    out = bench.fresh("ffmpeg")
    out.mkdir()
    square = rf"crop=min(iw\,ih):min(iw\,ih),scale={SIZE}:{SIZE}:flags=bicubic"
    words = ["ffmpeg", "-nostdin", "-loglevel", "error", "-threads", "1", "-i", "{}", "-an", "-vf", square]
    words += ["-c:v", "libx264rgb", "-pix_fmt", "rgb24", "-preset", "medium", "-tune", "fastdecode", "-qp", "0"]
    words += ["-threads", "1", "-force_key_frames", rf"expr:eq(mod(n,{CLIP_FRAMES}),0)"]
    words += ["-f", "segment", "-segment_time", str(_CLIP_SECONDS), "-reset_timestamps", "1"]
    # xargs puts the file's path for {}; the clips of all files lie in one folder, so each needs a name of its own.
    one = f'{shlex.join(words)} "{out}/$(basename {{}} .mp4)-%06d.mp4"'.replace("'{}'", "{}")
    files = f"find {shlex.quote(str(folder))} -name '*.mp4' | sort"
    run = run_program(["sh", "-c", f"{files} | xargs -P {bench.workers} -I{{}} sh -c {shlex.quote(one)}"])
    sizes = [path.stat().st_size for path in out.iterdir()]
    if len(sizes) != videos * clips:
        raise MeasurementError(f"ffmpeg {folder}: {len(sizes)} clips instead of {videos * clips}")
    run.result.update(clips=len(sizes), bytes=sum(sizes))
    shutil.rmtree(out)
    return run
