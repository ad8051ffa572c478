"""The sections of a recipe of the statics/dynamics encoder: its network, and the objectives of its two stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kineme.pipeline.recipe_sections import Count, OptimizerSection, Section, Share, Weight


class StaticsDynamicsModel(Section):
    """Sizes of the statics/dynamics encoder; see `kineme.models.statics_dynamics.StaticsDynamicsConfig`."""

    frame_size: Annotated[int, Field(ge=16, multiple_of=8)] = 64
    clip_frames: Annotated[int, Field(ge=2)] = 8
    width: Count = 64
    latent_channels: Annotated[int, Field(ge=4)] = 64
    blocks: Count = 2
    dynamics_dim: Count = 32
    frame_dim: Count = 16
    hidden_dim: Count = 1024
    motion_layers: Annotated[int, Field(ge=0)] = 0
    affine_layers: bool = False
    appearance_dim: Annotated[int, Field(ge=0)] = 0
    reduction: Literal[4, 8] = 8


class TransformerObjective(Section):
    """The first stage, the transformer between frames (7.2): its part of the run, its pairs of frames, its rates.

    The two frames of a pair are at least ``min_gap`` and at most ``max_gap`` apart, as far as the clips of the data
    section go; the limit rises from ``min_gap`` over the first ``gap_growth`` of the stage. ``localisation_lr`` is the
    factor on the learning rate of the localisation networks.
    """

    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.625
    reconstruction: Weight = 0.1
    transformation: Weight = 1.0
    min_gap: Count = 1
    max_gap: Count = 25
    gap_growth: Share = 0.6
    pairs_per_clip: Count = 1
    localisation_lr: Annotated[float, Field(gt=0)] = 0.2
    optimizer: OptimizerSection = OptimizerSection(lr=0.005, decay="halving", halvings=5)


class PredictionObjective(Section):
    """The contrastive objective 7.5; see `kineme.models.contrastive`. The defaults are the thesis as written.

    ``targets`` are p_t itself, or its ``changes`` since the first frame, p_t - p_1.
    """

    coefficient: Weight = 0.25
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    negatives: Literal["all", "video", "time"] = "all"
    reduction: Literal["sum", "mean"] = "sum"
    targets: Literal["states", "changes"] = "states"


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a window has a middle: use an odd number")
    return value


class MotionObjective(Section):
    """An objective of our own, the motions of ``model.motion_layers`` layers; see `kineme.models.motion_layers`.

    ``pairs`` of frames a clip, up to ``max_gap`` apart; the limit rises from 1 over the first ``gap_growth`` of the
    stage.
    """

    coefficient: Weight = 1.0
    pairs: Count = 7
    max_gap: Count = 3
    gap_growth: Share = 0.5
    still: bool = False
    blur: Annotated[int, Field(ge=0)] = 2
    window: Annotated[int, Field(ge=1), AfterValidator(_odd)] = 5
    temperature: Annotated[float, Field(gt=0)] = 0.003


class AppearanceObjective(Section):
    """An objective of our own for S, of ``model.appearance_dim``; see `kineme.models.appearance`."""

    coefficient: Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.1


class StaticsDynamicsObjective(Section):
    """The objectives of thesis chapter 7 and their coefficients; the defaults are those of Moving MNIST (7.B.1).

    ``frames_per_clip`` random frames of each clip, all if left out, stand for the sums over t in 7.3 and 7.4.
    ``closeness`` is Weizmann's extra term (7.B.2).
    """

    transformer: TransformerObjective = TransformerObjective()
    frames_per_clip: Count | None = None
    statics: Weight = 1.0
    closeness: Weight = 0.0
    frame: Weight = 1.0
    prediction: PredictionObjective = PredictionObjective()
    motion: MotionObjective = MotionObjective()
    appearance: AppearanceObjective = AppearanceObjective()
