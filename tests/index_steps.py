"""A process that changes an index without end, each change decided by the generation that it finds.

python index_steps.py INDEX            until it is killed; prints a line after each change
python index_steps.py INDEX START      adds five clips of its own, one by one
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from made_up_clips import make_frames, make_records

from kineme.retrieval.commits import read_info
from kineme.retrieval.growing import add_clips, build_index, compact, remove_clips
from kineme.retrieval.previews import Picture
from kineme.retrieval.vectors import ClipVectors

CLIPS = [record.key for record in make_records([{}] * 12)]
_CYCLE = ("add", "replace", "remove", "add", "compact", "rebuild")


def change(generation: int) -> tuple[str, list[int]]:
    """What makes this generation of the one before, and of which clips."""
    what = _CYCLE[generation % len(_CYCLE)]
    return what, sorted({generation % 12, generation * 5 % 12, generation * 7 % 12})


def clips_at(generation: int) -> dict[str, int]:
    """The clips of a generation, in order, and the generation that each is of."""
    clips = dict.fromkeys(CLIPS[:6], 1)
    for made in range(2, generation + 1):
        what, numbers = change(made)
        keys = [CLIPS[number] for number in numbers]
        if what == "rebuild":
            clips = dict.fromkeys(CLIPS[:6], made)
        elif what == "remove":
            clips = {key: version for key, version in clips.items() if key not in keys}
        elif what != "compact":
            keys = keys if what == "replace" else [key for key in keys if key not in clips]
            clips = {key: version for key, version in clips.items() if key not in keys} | dict.fromkeys(keys, made)
    return clips


def step(folder: Path, generation: int) -> None:
    """Make the generation after this one; 0 is that there is no index."""
    made = generation + 1
    what, numbers = change(made)
    if generation == 0 or what == "rebuild":
        vectors, records, pictures = _parts(range(6), made)
        build_index(
            folder,
            vectors,
            records,
            encoder="made-up",
            encoder_files={"steps.py": Path(__file__)},
            data="made-up",
            pictures=pictures,
            metrics={"motion": "l2"},
            overwrite=True,
        )
    elif what == "compact":
        compact(folder)
    else:
        there = clips_at(generation)
        if what != "replace":
            numbers = [number for number in numbers if (CLIPS[number] in there) == (what == "remove")]
        if not numbers:
            compact(folder)
        elif what == "remove":
            remove_clips(folder, [CLIPS[number] for number in numbers])
        else:
            add_clips(folder, *_parts(numbers, made), present="replace" if what == "replace" else "refuse")


def _parts(numbers, version: int):
    records = [make_records([{}] * 12)[number] for number in numbers]
    motion = np.array([[version, number] for number in numbers], np.float32).reshape(-1, 2)
    vectors = ClipVectors([record.key for record in records], motion, motion + 1)
    pictures = [
        Picture(record.key, make_frames(number), bytes([version % 256]))
        for number, record in zip(numbers, records, strict=True)
    ]
    return vectors, records, pictures


def main(folder: Path, start: int | None) -> None:
    if start is None:
        while True:
            step(folder, read_info(folder).generation)
            print("a step", flush=True)
    for number in range(start, start + 5):
        record = make_records([{}] * (number + 1))[number]
        ones = np.ones((1, 6), np.float32), np.ones((1, 5), np.float32)
        add_clips(folder, ClipVectors([record.key], *ones), [record], [Picture(record.key, make_frames(number))])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
