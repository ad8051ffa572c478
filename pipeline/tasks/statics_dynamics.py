"""The statics/dynamics encoder of thesis chapter 7 as a task: first the transformer, then all the rest (7.4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kineme.models.appearance import appearance_loss
from kineme.models.block_stn import transformer_loss
from kineme.models.collapse import effective_rank, total_variance
from kineme.models.contrastive import contrastive_loss
from kineme.models.frame_choice import random_frames
from kineme.models.motion_layers import draw_pairs, motion_loss
from kineme.models.statics_dynamics import (
    StaticsDynamics,
    StaticsDynamicsConfig,
    closeness_loss,
    frame_loss,
    statics_loss,
)
from kineme.pipeline.errors import RunError
from kineme.pipeline.optimisation import ParameterGroup, Stage, stage_at, stage_progress
from kineme.pipeline.recipe import StaticsDynamicsRecipe
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.tasks.windows import random_window, window_frames


class StaticsDynamicsTask:
    """Trains `StaticsDynamics` in two stages: the transformer on pairs of frames, then, with it frozen, the rest.

    Clips may be longer than ``model.clip_frames`` (``data.clip_frames``): pairs come from anywhere in them, the video
    encoder gets a window that starts at random, the same for the whole batch.
    """

    def __init__(self, recipe: StaticsDynamicsRecipe) -> None:
        self.frame_size, self.clip_frames = recipe.model.frame_size, window_frames(recipe)
        try:
            self.model = StaticsDynamics(StaticsDynamicsConfig(**recipe.model.model_dump()))
        except ValueError as error:
            raise RunError(f"model.{error}") from None
        self._objective = o = recipe.objective
        t = o.transformer
        if not t.fraction and not recipe.training.init:
            raise RunError(
                "objective.transformer.fraction is 0: the transformer would stay untrained, and S with it; "
                "give a part of the run, or --init a run that has trained one"
            )
        first = [Stage("transformer", t.fraction, t.optimizer)] if t.fraction else []
        self.stages = (*first, Stage("video", 1.0, recipe.optimizer))

    def parameter_groups(self) -> list[ParameterGroup]:
        """The localisation networks apart: at the full rate they run off before the features are any good."""
        localisers = list(self.model.transformer.stn.parameters())
        theirs = {id(parameter) for parameter in localisers}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in theirs]
        return [
            {"params": rest, "lr_scale": 1.0},
            {"params": localisers, "lr_scale": self._objective.transformer.localisation_lr},
        ]

    def compiled_parts(self) -> list[nn.Module]:
        """The video encoder, most of the work."""
        return [self.model.video_encoder]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """Objective 7.2 in the first stage; 7.3 to 7.5, Weizmann's term and ours in the second."""
        stage = stage_at(self.stages, progress)
        done = stage_progress(self.stages, stage, progress)
        if self.stages[stage].name == "transformer":
            return self._transformer_losses(clips.frames, done)
        return self._video_losses(clips.frames, done)

    def _transformer_losses(self, frames: Tensor, done: float) -> dict[str, Tensor]:
        o = self._objective.transformer
        starts, ends = draw_pairs(
            len(frames),
            frames.shape[1],
            o.pairs_per_clip,
            min_gap=o.min_gap,
            max_gap=_growing(o.min_gap, min(o.max_gap, frames.shape[1] - 1), done, o.gap_growth),
            device=frames.device,
        )
        # Either may be the one that is warped.
        swapped = torch.rand(starts.shape, device=frames.device) < 0.5
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        source = frames[rows, torch.where(swapped, ends, starts)].flatten(0, 1)
        target = frames[rows, torch.where(swapped, starts, ends)].flatten(0, 1)
        return transformer_loss(
            self.model.transformer,
            source,
            target,
            reconstruction=o.reconstruction,
            transformation=o.transformation,
        )

    def _video_losses(self, clips: Tensor, done: float) -> dict[str, Tensor]:
        model, o = self.model, self._objective
        frames = clips[:, random_window(clips.shape[1], self.clip_frames)]
        statics, dynamics = model.video_encoder(frames)
        few = _some_frames(frames, o.frames_per_clip)
        parts = {"statics_error": statics_loss(model, few, statics)}
        loss = o.statics * parts["statics_error"]
        if o.closeness:
            parts["closeness"] = closeness_loss(model, few, statics)
            loss = loss + o.closeness * parts["closeness"]
        if o.frame:
            parts["frame_error"] = frame_loss(model, few, statics)
            loss = loss + o.frame * parts["frame_error"]
        if o.prediction.coefficient:
            with torch.no_grad():
                p = model.frame_dynamics(frames, statics).float()
            parts["prediction"] = self._prediction_loss(p, dynamics)
            loss = loss + o.prediction.coefficient * parts["prediction"]
            parts |= _spread("p", p.flatten(0, 1))
        if model.config.motion_layers and o.motion.coefficient:
            parts["motion"] = self._motion_loss(frames, dynamics, done)
            loss = loss + o.motion.coefficient * parts["motion"]
        if model.config.appearance_dim and o.appearance.coefficient:
            parts |= self._appearance_losses(clips, statics)
            loss = loss + o.appearance.coefficient * parts["appearance"]
        return {"loss": loss, **parts, **_spread("S", statics.mean((2, 3))), **_spread("P", dynamics)}

    def _prediction_loss(self, p: Tensor, dynamics: Tensor) -> Tensor:
        o = self._objective.prediction
        predicted = self.model.predictor(p[:, 0], dynamics.float(), p.shape[1] - 1)
        targets = p[:, 1:] - p[:, :1] if o.targets == "changes" else p[:, 1:]
        return contrastive_loss(
            predicted,
            targets,
            similarity=o.similarity,
            temperature=o.temperature,
            negatives=o.negatives,
            reduction=o.reduction,
        )

    def _motion_loss(self, frames: Tensor, dynamics: Tensor, done: float) -> Tensor:
        o = self._objective.motion
        limit = _growing(1, o.max_gap, done, o.gap_growth)
        starts, ends = draw_pairs(len(frames), frames.shape[1], o.pairs, max_gap=limit, device=frames.device)
        return motion_loss(
            self.model.motion_layers(dynamics),
            frames,
            starts,
            ends,
            still=o.still,
            blur=o.blur,
            window=o.window,
            temperature=o.temperature,
        )

    def _appearance_losses(self, clips: Tensor, statics: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            features = self.model.transformer.encode(_some_frames(clips, 1)[:, 0])
        # Divided by a small temperature, cosines of bf16 would be coarse.
        with torch.autocast(clips.device.type, enabled=False):
            clip, frame = (self.model.appearance(each.float()) for each in (statics, features))
        loss = appearance_loss(clip, frame, self._objective.appearance.temperature)
        return {"appearance": loss, **_spread("appearance", clip)}

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """The truth, its first frame warped, S, S warped, the reconstructions, and S with the p_t of the next clip."""
        frames = clips.frames[:, : self.clip_frames]
        first = self.model.transformer.encode(frames[:, 0])
        statics, _, p = self.model.encode(frames)
        drawn = {
            "first warped": self.model.warp_statics(frames, first),
            "S": self.model.draw_statics(statics)[:, None].expand_as(frames),
            "S warped": self.model.warp_statics(frames, statics),
            "reconstruction": self.model.draw(p, statics),
            "motion of the next": self.model.draw(p.roll(-1, dims=0), statics),
        }
        return {"truth": frames, **{name: strip.float().clamp(0, 1) for name, strip in drawn.items()}}


def _growing(first: int, last: int, done: float, growth: float) -> int:
    """A whole number that rises from ``first`` to ``last`` while ``done`` goes from 0 to ``growth``."""
    share = min(1.0, done / growth) if growth else 1.0
    return first + int(share * (max(first, last) - first))


def _some_frames(frames: Tensor, count: int | None) -> Tensor:
    """``count`` random frames of each clip; all, in their order, for None."""
    return frames if count is None or count >= frames.shape[1] else random_frames(frames, count)


def _spread(name: str, vectors: Tensor) -> dict[str, Tensor]:
    """Rank and variance of (N, D); nan where so few vectors say nothing of either."""
    vectors = vectors.detach()
    unknown = vectors.new_tensor(torch.nan)
    return {
        f"rank/{name}": effective_rank(vectors) if min(len(vectors) - 1, vectors.shape[1]) > 1 else unknown,
        f"variance/{name}": total_variance(vectors) if len(vectors) > 1 else unknown,
    }
