"""Runs video2dataset 1.3 on a folder of local videos, with the Python of its own environment.

    /tmp/v2d/bin/python video2dataset_job.py FOLDER OUT --workers N --size 64 --clip-seconds 0.64

It needs a pyarrow older than ours and the ffmpeg program; see benchmarks/README.md. Nothing of kineme is imported.

Two things that 1.3.0 needs: its DownloadWorker asks for ``encode_formats`` of a subsampler that has
``encode_format`` (iejMac/video2dataset #263, #311: with the attribute missing every shard fails), so it is set here;
and every process takes whole shards, so the videos are spread over as many shards as there are processes.
"""

import argparse
import itertools
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from video2dataset import video2dataset
from video2dataset.subsamplers import ResolutionSubsampler

# At the top: the processes that video2dataset spawns import this file again, and need it as well.
ResolutionSubsampler.encode_formats = {"video": "mp4"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--clip-seconds", type=float, default=0.64)
    parser.add_argument("--clips", type=int, required=True, help="of a video; 0 does not cut them")
    given = parser.parse_args()
    paths = sorted(str(path.absolute()) for path in given.folder.rglob("*.mp4"))
    times = [round(given.clip_seconds * number, 6) for number in range(given.clips + 1)]
    spans = [list(pair) for pair in itertools.pairwise(times)]
    given.out.mkdir(parents=True)
    table = given.out.parent / f"{given.out.name}.input.parquet"
    pq.write_table(pa.table({"url": paths, "clips": [spans] * len(paths)} if spans else {"url": paths}), table)
    video2dataset(
        url_list=str(table),
        output_folder=str(given.out),
        output_format="webdataset",
        input_format="parquet",
        url_col="url",
        clip_col="clips" if spans else None,
        encode_formats={"video": "mp4"},
        config={
            "subsampling": {
                "ClippingSubsampler": {"args": {"precision": "exact"}},
                "ResolutionSubsampler": {"args": {"resize_mode": ["scale", "crop"], "video_size": given.size}},
            },
            "reading": {"yt_args": {}, "timeout": 60, "sampler": None},
            "storage": {
                "number_sample_per_shard": -(-len(paths) // given.workers),
                "oom_shard_count": 5,
                "captions_are_subtitles": False,
            },
            "distribution": {
                "processes_count": given.workers,
                "thread_count": 4,
                "subjob_size": 1000,
                "distributor": "multiprocessing",
            },
        },
    )
    clips = total = 0
    for tar in sorted(given.out.glob("*.tar")):
        with tarfile.open(tar) as shard:
            sizes = [member.size for member in shard if member.name.endswith(".mp4")]
        clips, total = clips + len(sizes), total + sum(sizes)
    print("\n" + json.dumps({"clips": clips, "bytes": total}))


if __name__ == "__main__":
    main()
