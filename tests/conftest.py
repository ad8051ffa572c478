"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from service_parts import Client

    from kineme.pipeline.serving import RunStudio


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two workers run the tests on two cores: torch must not start a thread for each core in both."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: $KINEME_DATA, else ../shared/data beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("KINEME_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set KINEME_DATA")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/ and shards/ of 40 moving digits of 8 frames, half of them to train on. Tests must not change them."""
    from tiny_runs import make_digits

    return make_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def encoder_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequential VAE, trained for two epochs on the digits. Tests must not change it."""
    from tiny_runs import ENCODER, make_run

    return make_run(ENCODER, digits, tmp_path_factory.mktemp("encoder run"))


@pytest.fixture(scope="session")
def judge_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of two labels of the digits, likewise."""
    from tiny_runs import JUDGE, make_run

    return make_run(JUDGE, digits, tmp_path_factory.mktemp("judge run"))


@pytest.fixture(scope="session")
def statics_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A statics/dynamics encoder, likewise: an epoch for the transformer, one for the rest."""
    from tiny_runs import STATICS_DYNAMICS, make_run

    return make_run(STATICS_DYNAMICS, digits, tmp_path_factory.mktemp("statics run"))


@pytest.fixture(scope="session")
def predictor_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A next-frame predictor, likewise."""
    from tiny_runs import PREDICTOR, make_run

    return make_run(PREDICTOR, digits, tmp_path_factory.mktemp("predictor run"))


@pytest.fixture(scope="module")
def benchmarks_on_the_path() -> Iterator[None]:
    """What lies in benchmarks/ can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        yield


@pytest.fixture(scope="session")
def pushing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of simulated pushing: 8 clips to train on and 8 to test, of 12 frames with actions and keypoints."""
    from tiny_runs import make_pushing

    return make_pushing(tmp_path_factory.mktemp("pushing")) / "shards"


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good videos of 8 to 28 frames and one that is too short."""
    from video_files import write_video

    root = tmp_path_factory.mktemp("videos")
    for number, frames in enumerate((8, 20, 28, 3, 16, 9, 8)):
        write_video(root / f"v{number}.mp4", frames, seed=number)
    return root


@pytest.fixture(scope="session")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of four actors who do three actions."""
    from recognition_data import make_actions

    folder = tmp_path_factory.mktemp("labelled") / "actions"
    make_actions(folder)
    return folder


@pytest.fixture(scope="session")
def digits_index(encoder_run: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of all digits by the sequential VAE. Tests must not change it."""
    from kineme.pipeline.indexing import index_run

    folder = tmp_path_factory.mktemp("digits index") / "index"
    index_run(encoder_run, digits / "shards", folder)
    return folder


@pytest.fixture(scope="session")
def studio(statics_run: Path, predictor_run: Path) -> Iterator[RunStudio]:
    """A decoder, the predictor, and the statics/dynamics run to swap with."""
    from service_parts import BOUNDS, LIMITS

    from kineme.pipeline.serving import RunStudio

    with RunStudio(LIMITS, BOUNDS, predictor=predictor_run, run=statics_run, decoders=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(digits_index: Path, studio: RunStudio) -> Iterator[Client]:
    """Of a service without a token."""
    from service_parts import serving

    with serving(digits_index, studio) as opened:
        yield opened
