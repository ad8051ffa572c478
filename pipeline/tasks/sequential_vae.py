"""The sequential VAE as a task: its objective with KL warm-up, and reconstructions and swaps to look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kineme.models.decoder_stage import block_error, read_back
from kineme.models.restricted_views import performed_by_another, rearranged, recoloured
from kineme.models.schedules import kl_weight
from kineme.models.sequential_vae import SequentialVAE, SequentialVAEConfig, SequentialVAEOutput, sequential_vae_loss
from kineme.pipeline.errors import RunError
from kineme.pipeline.optimisation import ParameterGroup, Stage, one_group, stage_at, stage_progress
from kineme.pipeline.recipe import SequentialVAERecipe
from kineme.pipeline.tasks import TrainingClips


class SequentialVAETask:
    """Trains `SequentialVAE` on `sequential_vae_loss`; beta rises linearly over the first ``kl_warmup`` of the run."""

    def __init__(self, recipe: SequentialVAERecipe) -> None:
        self.model = SequentialVAE(SequentialVAEConfig(**recipe.model.model_dump()))
        self.frame_size = recipe.model.frame_size
        self._objective = o = recipe.objective
        last = [Stage("decoder", 1.0, recipe.optimizer)] if o.decoder_stage.after < 1 else []
        self.stages = (Stage("training", o.decoder_stage.after, recipe.optimizer), *last)
        for name, count in (("frames_per_clip", o.frames_per_clip), ("content_frames", o.content_frames)):
            if count is not None and count > recipe.data.clip_frames:
                raise RunError(
                    f"objective.{name} is {count}: clips have the {recipe.data.clip_frames} frames of "
                    "data.clip_frames; use as many at most, or leave it out"
                )
        for name, value in (("content_frames", o.content_frames), ("swapped_views", o.swapped_views)):
            if value and not o.restricted_views:
                raise RunError(
                    f"objective.{name} is {value}: it is for objective.restricted_views alone; set that to true, or "
                    f"leave {name} out"
                )

        if o.swapped_views and o.swapped_after >= o.decoder_stage.after:
            raise RunError(
                f"objective.swapped_after is {o.swapped_after:g}: nothing is swapped in the decoder's stage, after "
                f"{o.decoder_stage.after:g} of the run; use less, or set swapped_views to 0"
            )

    def parameter_groups(self) -> list[ParameterGroup]:
        """One learning rate."""
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        """The whole network, called once a step."""
        return [self.model]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """The negative ELBO and its three parts, from the frames alone; in the decoder's stage with its terms, too."""
        o, frames = self._objective, clips.frames
        stage = stage_at(self.stages, progress)
        decoder_alone = self.stages[stage].name == "decoder"
        if decoder_alone:
            # At every step: a resumed run may begin in this stage.
            done = stage_progress(self.stages, stage, progress)
            self.model.train_decoder_alone(keep_norms=done >= o.decoder_stage.keep_norms_after)
        warm = kl_weight(progress, kind="monotonic", beta=1.0, ratio=o.kl_warmup) if o.kl_warmup else 1.0
        beta_motion = o.beta if o.beta_motion is None else o.beta_motion
        decoded = None
        if o.frames_per_clip is not None:
            decoded = torch.randperm(frames.shape[1], device=frames.device)[: o.frames_per_clip]
        if o.restricted_views:
            content_view, motion_view = rearranged(frames, o.content_frames), recoloured(frames)
            swaps = o.swapped_views and progress >= o.swapped_after and not decoder_alone
            if swaps and torch.rand(()) < o.swapped_views:
                swapped = performed_by_another(self.model, content_view, motion_view)
                # The motion of a clip is in its own place, its content one further on.
                content_view = rearranged(swapped.roll(1, dims=0), o.content_frames)
                motion_view = recoloured(swapped)
        else:
            content_view, motion_view = frames, None
        output = self.model(content_view, motion_view, decoded)
        truth = frames if decoded is None else frames[:, decoded]
        parts = sequential_vae_loss(output, truth, beta=warm * o.beta, beta_motion=warm * beta_motion, sigma=o.sigma)
        if decoder_alone:
            self._add_decoder_terms(parts, output, truth, decoded)
        return parts

    def _add_decoder_terms(
        self, parts: dict[str, Tensor], output: SequentialVAEOutput, truth: Tensor, decoded: Tensor | None
    ) -> None:
        o = self._objective
        steps = output.z_posterior.mean.shape[1]
        if o.decoder_stage.block_error:
            share = truth.shape[1] / steps
            parts["block_error"] = block_error(output.reconstruction, truth) / (2 * o.sigma**2) / share
            parts["loss"] = parts["loss"] + o.decoder_stage.block_error * parts["block_error"]
        if o.decoder_stage.read_back:
            parts["read_back"] = read_back(self.model, output.f_posterior, steps, decoded)
            parts["loss"] = parts["loss"] + o.decoder_stage.read_back * parts["read_back"]

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """The truth, its reconstruction from posterior means, and each clip's motion with the next clip's content."""
        f, z = self.model.encode(clips.frames)
        return {
            "truth": clips.frames,
            "reconstruction": self.model.decode(f.mean, z.mean),
            "content of the next": self.model.decode(f.mean.roll(-1, dims=0), z.mean),
        }
