"""The kinds of recipes: the sections on their networks and objectives, as typed models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kineme.pipeline.recipe_prediction import (
    FramePredictorModel,
    KernelPredictorModel,
    KernelPredictorObjective,
    PredictionObjective,
)
from kineme.pipeline.recipe_sections import (
    Count,
    DataSection,
    OptimizerSection,
    Questions,
    Section,
    Share,
    TrainingSection,
    Weight,
)
from kineme.pipeline.recipe_statics_dynamics import StaticsDynamicsModel, StaticsDynamicsObjective


class SequentialVAEModel(Section):
    """Sizes of the sequential VAE; see `kineme.models.sequential_vae.SequentialVAEConfig`."""

    frame_size: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    width: Count = 32
    f_dim: Count = 256
    z_dim: Count = 32
    hidden_dim: Count = 512
    pooled_content: bool = False
    unordered_content: bool = False
    prior_components: Count = 1
    modulated_decoder: bool = False


class DecoderStage(Section):
    """The last part of the run, ``after`` so much of it: the encoders stay, all but the variance of q(f | x).

    The learning rate starts anew. ``block_error`` and ``read_back`` are the weights of the terms of
    `kineme.models.decoder_stage`. After ``keep_norms_after`` of the stage the decoder's norms keep their statistics.
    """

    after: Annotated[float, Field(gt=0, le=1)] = 1.0
    block_error: Weight = 0.0
    read_back: Weight = 0.0
    keep_norms_after: Share = 1.0

    @model_validator(mode="after")
    def _has_its_time(self) -> Self:
        if self.after == 1 and (self.block_error or self.read_back):
            raise ValueError(
                f"block_error is {self.block_error:g} and read_back {self.read_back:g}, but after 1 of the run no "
                "stage follows; set both to 0, or after below 1, such as 0.65"
            )
        return self


class SequentialVAEObjective(Section):
    """Weights of the objective: beta on both divergences, reached after ``kl_warmup`` of the training; sigma of x.

    ``beta_motion`` is the weight of the motion's divergence instead of ``beta``. ``restricted_views`` is an objective
    of ours, see `kineme.models.restricted_views`. ``frames_per_clip`` random frames, the same of all clips of a batch,
    are decoded and stand for the sum over t; all if left out. From ``content_frames`` random frames of a clip
    restricted views read the content in training; all if left out, and in encoding. After ``swapped_after`` of the
    training and before the decoder's stage, in a share of ``swapped_views`` of the steps, they read both from clips
    that the model draws: the motion from its own with the content of another clip, the content from its own with the
    motion of another one.
    """

    beta: Weight = 1.0
    sigma: Annotated[float, Field(gt=0)] = 1.0
    kl_warmup: Share = 0.0
    beta_motion: Weight | None = None
    restricted_views: bool = False
    frames_per_clip: Count | None = None
    content_frames: Count | None = None
    swapped_views: Share = 0.0
    swapped_after: Share = 0.25
    decoder_stage: DecoderStage = DecoderStage()


class VideoBaselineModel(Section):
    """Sizes of the video encoder; see `kineme.models.video_encoder.VideoEncoder`."""

    frame_size: Annotated[int, Field(ge=16, multiple_of=8)] = 64
    clip_frames: Annotated[int, Field(ge=2)] = 8
    width: Count = 64
    latent_channels: Count = 64
    dynamics_dim: Count = 512


class VideoBaselineObjective(Section):
    """What the video encoder learns from: a label, its own frames, or the displacements of keypoints.

    ``classes`` and ``keypoints`` (how many a frame has) are found in the shards where they are left out. Keypoints that
    are ``interchangeable`` are compared in their best assignment.
    """

    kind: Literal["classification", "reconstruction", "displacement"] = "classification"
    label: str = "digits"
    classes: list[str] = Field(default_factory=list)
    keypoints: Count | None = None
    interchangeable: bool = True


class JudgeModel(Section):
    """Sizes of the judge; see `kineme.models.judge.JudgeConfig`."""

    frame_size: Annotated[int, Field(ge=16, multiple_of=16)] = 64
    width: Count = 16
    hidden_dim: Count = 128


class JudgeObjective(Section):
    """Which labels it learns, and the most noise on its frames (standard deviation, of colours from 0 to 1).

    ``classes``, the values of each label, are found in the shards where they are left out.
    """

    labels: Annotated[list[str], Field(min_length=1)]
    classes: dict[str, list[str]] = Field(default_factory=dict)
    noise: Weight = 0.1


class _Recipe(Section):
    data: DataSection = DataSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()


class SequentialVAERecipe(_Recipe):
    """A run of the sequential VAE: an encoder of motion and appearance, and a generator for swaps."""

    kind: Literal["sequential-vae"]
    model: SequentialVAEModel = SequentialVAEModel()
    objective: SequentialVAEObjective = SequentialVAEObjective()
    encode_frames: Annotated[int, Field(ge=2)] = 16
    motion_vector: Literal["states", "changes", "drawn"] = "states"
    questions: Questions = Field(default_factory=list)


class FramePredictorRecipe(_Recipe):
    """A run of the next-frame CVAE."""

    kind: Literal["frame-predictor"]
    model: FramePredictorModel = FramePredictorModel()
    objective: PredictionObjective = PredictionObjective()


class KernelPredictorRecipe(_Recipe):
    """A run of the kernel predictor."""

    kind: Literal["kernel-predictor"]
    model: KernelPredictorModel = KernelPredictorModel()
    objective: KernelPredictorObjective = KernelPredictorObjective()


PredictorRecipe = FramePredictorRecipe | KernelPredictorRecipe


class VideoBaselineRecipe(_Recipe):
    """A run of the video encoder of thesis chapter 7 trained in another way: the baselines of its table 7.1."""

    kind: Literal["video-baseline"]
    model: VideoBaselineModel = VideoBaselineModel()
    objective: VideoBaselineObjective = VideoBaselineObjective()


class JudgeRecipe(_Recipe):
    """A run of the judge, by which clips that a sequential VAE generates are measured."""

    kind: Literal["judge"]
    model: JudgeModel = JudgeModel()
    objective: JudgeObjective


class StaticsDynamicsRecipe(_Recipe):
    """A run of the statics/dynamics encoder of thesis chapter 7; ``optimizer`` is that of its second stage."""

    kind: Literal["statics-dynamics"]
    model: StaticsDynamicsModel = StaticsDynamicsModel()
    objective: StaticsDynamicsObjective = StaticsDynamicsObjective()
    questions: Questions = Field(default_factory=list)


Recipe = Annotated[
    StaticsDynamicsRecipe | SequentialVAERecipe | PredictorRecipe | VideoBaselineRecipe | JudgeRecipe,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[_Recipe]] = {
    "statics-dynamics": StaticsDynamicsRecipe,
    "sequential-vae": SequentialVAERecipe,
    "frame-predictor": FramePredictorRecipe,
    "kernel-predictor": KernelPredictorRecipe,
    "video-baseline": VideoBaselineRecipe,
    "judge": JudgeRecipe,
}


def network_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide which tensors a network has: two runs that share them can share their weights."""
    settings = {"kind": recipe.kind, **recipe.model.model_dump()}
    if isinstance(recipe, VideoBaselineRecipe):
        head = recipe.objective.model_dump(include={"kind", "classes", "keypoints"})
        settings |= {f"objective.{name}": value for name, value in head.items()}
    if isinstance(recipe, JudgeRecipe):
        o = recipe.objective
        settings["objective.classes"] = {label: o.classes.get(label) for label in o.labels}
    return settings
