"""POST /predict and POST /swap."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from service_parts import BOUNDS, LIMITS, Client, problem_of, send, serving, video_bytes

from kineme.pipeline.errors import RunError
from kineme.pipeline.serving import RunStudio
from kineme.shards.codec import decode_clip


def film(address: str) -> np.ndarray:
    head, _, content = address.partition(",")
    assert head == "data:video/mp4;base64"
    return decode_clip(base64.b64decode(content))


def strip(address: str) -> tuple[int, int]:
    head, _, content = address.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return image.size


def test_futures_of_a_clip(client: Client) -> None:
    asked = {"key": client.keys[0], "samples": 2, "seed": 5, "horizon": 3}
    answer = client.post("/predict", json=asked).json()
    assert (answer["context"], answer["horizon"], answer["fps"]) == (2, 3, 25)
    assert [sample["seed"] for sample in answer["samples"]] == [5, 6]
    films = [film(sample["video"]) for sample in answer["samples"]]
    assert films[0].shape == (5, 32, 32, 3)
    # They begin with the same true frames.
    assert np.abs(films[0][:2].astype(int) - films[1][:2]).mean() < 4
    assert strip(answer["samples"][0]["strip"]) == (5 * 32, 32)
    again = client.post("/predict", json=asked | {"samples": 1, "seed": 6}).json()
    assert again["samples"][0]["video"] == answer["samples"][1]["video"]


def test_futures_of_a_file_are_those_of_its_clip(client: Client, digits: Path) -> None:
    clip = client.get(f"/clips/{client.keys[0]}").json()
    answer = send(client, (digits / "videos" / clip["source"]).read_bytes(), "/predict", seed=1).json()
    assert answer["horizon"] == 4
    by_key = client.post("/predict", json={"key": clip["key"], "seed": 1}).json()
    # The film that an index keeps is not exact.
    difference = film(answer["samples"][0]["video"]).astype(int) - film(by_key["samples"][0]["video"])
    assert np.abs(difference).mean() < 4


def test_one_clip_with_the_motion_of_another(client: Client, studio: RunStudio, tmp_path: Path) -> None:
    looks, motion = client.keys[:2]
    answer = client.post("/swap", json={"looks": looks, "motion": motion}).json()
    assert film(answer["video"]).shape == (5, 32, 32, 3)
    assert strip(answer["strip"]) == (5 * 32, 32)
    films = []
    for key in (looks, motion):
        (tmp_path / key).write_bytes(client.get(f"/clips/{key}/video").content)
        films.append(studio.swappable(tmp_path / key))
    by_hand, the_other_way = studio.swap(*films), studio.swap(*reversed(films))
    np.testing.assert_array_equal(film(answer["video"]), decode_clip(studio.mp4(by_hand.frames, 25)))
    assert not np.array_equal(by_hand.frames, the_other_way.frames)


@pytest.mark.parametrize(
    ("route", "asked", "status", "reason"),
    [
        ("/predict", {}, 422, "one of key or a file"),
        ("/predict", {"key": "nope"}, 404, "is no clip"),
        ("/predict", {"key": "KEY", "samples": 17}, 422, "at most 16"),
        ("/predict", {"key": "KEY", "samples": 0}, 422, "samples: "),
        ("/predict", {"key": "KEY", "horizon": 201}, 422, "at most 200"),
        ("/predict", {"key": "KEY", "seed": -1}, 422, "seed: "),
        ("/predict", {"key": "KEY", "seed": 2**32}, 422, "seed: "),
        ("/predict", {"key": "KEY", "context": 3}, 422, "context: "),
        ("/swap", {"looks": "KEY"}, 422, "motion: "),
        ("/swap", {"looks": "KEY", "motion": "nope"}, 404, "is no clip"),
    ],
)
def test_what_cannot_be_drawn_is_told(client: Client, route: str, asked: dict, status: int, reason: str) -> None:
    named = {name: client.keys[0] if value == "KEY" else value for name, value in asked.items()}
    assert reason in problem_of(client.post(route, json=named), status)


def test_a_file_that_is_too_short_or_no_video(client: Client, tmp_path: Path) -> None:
    assert "too short: 1 frames" in problem_of(send(client, video_bytes(tmp_path, 1), "/predict"), 422)
    assert "cannot be read" in problem_of(send(client, b"no video", "/predict"), 422)
    assert list(client.scratch.iterdir()) == []


def test_without_runs_nothing_is_drawn(digits_index: Path) -> None:
    with RunStudio(LIMITS, BOUNDS, decoders=1) as studio, serving(digits_index, studio) as client:
        assert set(client.get("/stats").json()["can"].values()) == {False}
        assert "--predictor RUN" in problem_of(client.post("/predict", json={"key": client.keys[0]}), 409)
        asked = {"looks": client.keys[0], "motion": client.keys[1]}
        assert "--run RUN" in problem_of(client.post("/swap", json=asked), 409)


def test_runs_of_other_kinds_are_refused(encoder_run: Path, predictor_run: Path, judge_run: Path) -> None:
    with pytest.raises(RunError, match="predicts no frames"):
        RunStudio(LIMITS, BOUNDS, predictor=encoder_run)
    for run in (predictor_run, judge_run):
        with pytest.raises(RunError, match="has no statics to swap"):
            RunStudio(LIMITS, BOUNDS, run=run)
