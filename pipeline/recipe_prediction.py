"""The sections of a recipe of a next-frame predictor: the two networks, and what they are trained on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kineme.pipeline.recipe_sections import Count, Section, Share, Weight


class FramePredictorModel(Section):
    """Sizes of the next-frame CVAE; see `kineme.models.frame_predictor.FramePredictorConfig`."""

    frame_size: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    width: Count = 64
    feature_dim: Count = 128
    hidden_dim: Count = 256
    latent_dim: Count = 64
    condition_dim: Annotated[int, Field(ge=0)] = 0
    condition_embedding: Count = 32
    predictor_layers: Count = 2
    posterior_layers: Count = 1
    learned_prior: bool = False
    kernels: Annotated[int, Field(ge=0)] = 0
    reach: Count = 6


class KernelPredictorModel(Section):
    """Sizes of the kernel predictor; see `kineme.models.kernel_predictor.KernelPredictorConfig`."""

    frame_size: Annotated[int, Field(ge=16, multiple_of=8)] = 64
    width: Count = 32
    kernels: Count = 10
    reach: Count = 6
    condition_dim: Annotated[int, Field(ge=0)] = 0
    points: Count = 6
    latent_dim: Annotated[int, Field(ge=0)] = 0


class KLAnnealing(Section):
    """How the weight of the KL term rises; see `kineme.models.schedules.kl_weight`."""

    kind: Literal["none", "monotonic", "cyclical"] = "none"
    beta: Weight = 1e-4
    cycles: Count = 4
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5


class TeacherForcing(Section):
    """How often the truth is fed back over the training; see `kineme.models.schedules.teacher_forcing_ratio`.

    ``decay_begin`` is a fraction of the training, which may end by minutes: epoch e of E is e / E.
    """

    start: Share = 1.0
    decay_begin: Share = 0.0
    decay_step: Weight = 0.0
    floor: Share = 0.0

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.floor > self.start:
            raise ValueError(
                f"start is {self.start:g} and floor {self.floor:g}, but the ratio falls from the one to the other; "
                "lower floor, too"
            )
        return self


class ShortClips(Section):
    """Until so much of the training is done, clips are cut to their first ``frames``, predicted from ``context``.

    One step after another is learned from few of them as from many, in less time.
    """

    frames: Annotated[int, Field(ge=2)]
    context: Count
    until: Share


class PredictionObjective(Section):
    """The split of a clip into context and predicted frames, what is fed back in training, and the KL term's weight.

    ``kl`` counts where the network has a z.

    ``action_columns``: of the numbers stored with a frame so many, the first ones, are the action taken there; the rest
    are the state. Left out, all are actions. ``condition_mean`` and ``condition_std``, of each number, by which a
    network with a condition gets them in equal measure, are found in the shards where they are left out.
    """

    context: Count = 2
    action_columns: Annotated[int, Field(ge=0)] | None = None
    condition_mean: list[float] = Field(default_factory=list)
    condition_std: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    short_clips: ShortClips | None = None
    teacher_forcing: TeacherForcing = TeacherForcing()
    kl: KLAnnealing = KLAnnealing()

    @model_validator(mode="after")
    def _scales_whole(self) -> Self:
        if bool(self.condition_mean) != bool(self.condition_std):
            raise ValueError(
                f"condition_mean has {len(self.condition_mean)} numbers and condition_std {len(self.condition_std)}: "
                "give both, or neither, and they are found in the shards"
            )
        return self


class KernelPredictorObjective(PredictionObjective):
    """That of the kernel predictor, whose z says nothing where the KL term weighs as much as the report's."""

    kl: KLAnnealing = KLAnnealing(kind="monotonic", beta=1e-5)
