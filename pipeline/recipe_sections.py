"""What recipes of all kinds share: types of values, and the sections on data, the optimiser and the training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Settings under one key; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    """What of the shards is trained on.

    ``split`` is a stored split, or a label: ``actor=daria``, ``actor!=daria``. ``cache`` decodes every clip once and
    keeps it, uncompressed, in SHARDS/.cache, which never holds more than ``cache_gb`` (1e9 bytes; left out: half of the
    disk space free without it); clips beyond that are decoded every epoch. ``endless`` draws so many new clips each
    epoch instead, where the shards can. ``resident`` keeps all clips in the memory of the device. ``fps`` is the rate
    of the stored clips, found in the shards if they share one: videos that the run is shown later are sampled so, too.
    ``held_out`` of the videos of ``split`` are never trained on: on at most 64 of their clips a task that can do so
    (`kineme.pipeline.tasks.Validates`) is validated after each epoch. Where clips are drawn without end, it chooses
    those alone.
    """

    split: str | None = "train"
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_frames: Annotated[int, Field(ge=2)] = 16
    frame_step: Count = 1
    batch_size: Count = 32
    workers: Annotated[int, Field(ge=0)] = 2
    cache: bool = True
    cache_gb: Weight | None = None
    endless: Count | None = None
    resident: bool = False
    fps: Annotated[float, Field(gt=0)] | None = None
    augment: dict[str, dict[str, Any]] = {}


class OptimizerSection(Section):
    """Adam; the rate rises over ``warmup_steps``, then decays; see `kineme.pipeline.optimisation.learning_rate`.

    ``cosine`` goes along a half cosine to ``final_lr_fraction`` of ``lr``. ``halving`` halves the rate so that it has
    ``halvings`` values, each for as long: 5 where it is halved every 50 of 250 epochs.
    """

    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    decay: Literal["cosine", "halving"] = "cosine"
    final_lr_fraction: Share = 0.01
    halvings: Count = 5
    gradient_clip: Annotated[float, Field(gt=0)] | None = None


class TrainingSection(Section):
    """How long, with which random seed and precision. The run ends at ``epochs`` or ``minutes``, whichever is first;
    validation and pictures take none of them.

    ``init`` is a run folder whose weights are the first ones of this run, where name and shape match. ``compile`` gives
    the network to torch.compile, ``channels_last`` lays out its convolutions for tensor cores; both change the speed
    alone.
    """

    epochs: Count = 100
    minutes: Annotated[float, Field(gt=0)] | None = None
    seed: Seed = 0
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    picture_every_epochs: Count = 5
    init: str | None = None
    compile: bool = False
    channels_last: bool = False


class Question(Section):
    """One retrieval question: does search ``by`` a space bring clips of the same ``label``?

    Clips that share the query's ``leave_out`` label are left out. ``leak`` marks what the space should not know.
    """

    by: Literal["motion", "appearance"]
    label: str
    leave_out: str | None = None
    leak: bool = False


def _asked_once(questions: list[Question]) -> list[Question]:
    """The figures are named by space and label."""
    names = [f"{question.by}/{question.label}" for question in questions]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is asked twice: its figures go by that name, so keep one of the two questions")
    return questions


Questions = Annotated[list[Question], AfterValidator(_asked_once)]
