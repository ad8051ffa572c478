"""Latent traversals: the dimensions that differ most are found, and moving one redraws the clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.generation import sequential_vae_of
from kineme.pipeline.indexing import index_run
from kineme.pipeline.run import load_run
from kineme.pipeline.traversal import DIMS_A_PART, LatentTraversal, traversal_of
from kineme.retrieval.errors import RetrievalError
from kineme.shards.codec import decode_clip
from kineme.shards.reader import load_clip_frames
from kineme.shards.records import read_records
from kineme.shards.sample import Frames


@pytest.fixture(scope="module")
def clips(digits: Path) -> list[Frames]:
    return [load_clip_frames(digits / "shards", record.key) for record in read_records(digits / "shards")[:12]]


@pytest.fixture(scope="module")
def vae(encoder_run: Path, clips: list[Frames]) -> LatentTraversal:
    return LatentTraversal(load_run(encoder_run), clips)


@pytest.fixture(scope="module")
def statics(statics_run: Path, clips: list[Frames]) -> LatentTraversal:
    return LatentTraversal(load_run(statics_run), clips)


def test_the_dimensions_of_a_vae_are_those_that_vary_most(
    encoder_run: Path, clips: list[Frames], vae: LatentTraversal
) -> None:
    run = load_run(encoder_run)
    model = sequential_vae_of(run)
    with torch.inference_mode():
        batch = to_model(torch.from_numpy(np.stack(clips)).movedim(-1, 2), run.recipe.model.frame_size)
        f, z = model.encode(batch)
    spreads = {"appearance": f.mean.std(0, correction=0), "motion": z.mean.flatten(0, 1).std(0, correction=0)}
    for part, letter, count in (("appearance", "f", 5), ("motion", "z", 3)):
        dims = [dim for dim in vae.dims if dim.part == part]
        order = spreads[part].argsort(descending=True)[:DIMS_A_PART]
        assert [dim.name for dim in dims] == [f"{letter} {place + 1}" for place in order.tolist()]
        assert len(dims) == count
        assert [dim.spread for dim in dims] == pytest.approx(spreads[part][order].tolist(), rel=1e-4)
    assert vae.clips == len(clips)


def test_nothing_moved_is_the_reconstruction(encoder_run: Path, clips: list[Frames], vae: LatentTraversal) -> None:
    model = sequential_vae_of(load_run(encoder_run))
    with torch.inference_mode():
        f, z = model.encode(to_model(torch.from_numpy(clips[0]).movedim(-1, 1)[None], 32))
        expected = to_uint8(model.decode(f.mean, z.mean))[0].numpy()
    assert np.array_equal(vae.draw(clips[0], {}), expected)


@pytest.mark.parametrize("kind", ["vae", "statics"])
def test_every_dimension_is_drawn(kind: str, clips: list[Frames], request: pytest.FixtureRequest) -> None:
    traversal: LatentTraversal = request.getfixturevalue(kind)
    still = traversal.draw(clips[0], {})
    assert {dim.part for dim in traversal.dims} == {"appearance", "motion"}
    for dim in traversal.dims:
        moved = traversal.draw(clips[0], {dim.name: 3.0})
        assert moved.shape == still.shape
        assert not np.array_equal(moved, still), dim.name
        assert np.array_equal(traversal.draw(clips[0], {dim.name: 0.0}), still)


def test_a_name_that_is_none_is_refused(clips: list[Frames], vae: LatentTraversal) -> None:
    with pytest.raises(RetrievalError, match="dimension 'f 99': one of f"):
        vae.draw(clips[0], {"f 99": 1.0})


def test_a_short_clip_is_refused(clips: list[Frames], vae: LatentTraversal) -> None:
    with pytest.raises(RetrievalError, match="a clip of 7 frames: the run needs 8; choose a longer clip"):
        vae.draw(clips[0][:7], {})


def test_a_run_without_a_decoder_is_refused(predictor_run: Path, clips: list[Frames]) -> None:
    with pytest.raises(RunError, match="a frame-predictor run draws no clips from a code; give a run of"):
        LatentTraversal(load_run(predictor_run), clips)


def test_the_clips_are_those_of_an_index(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    index = index_run(encoder_run, digits / "shards", tmp_path / "index")
    found = traversal_of(load_run(encoder_run), index, decode_clip)
    assert found.clips == index.count == 40
    film = decode_clip(index.film(index.keys[0]))
    assert found.draw(film, {}).shape == (8, 32, 32, 3)
