"""How often the judge sees another label once half of a clip's code is drawn anew: tables 1 and 2 of the paper.

For a content label (skin, pants, top, hair) f is read from the clip and z drawn from its learned prior; for a motion
label z is read from the clip and f drawn from N(0, I) (5.4). With p_data the judge's distribution for the true clip and
p_recon that for the decoded one, over N clips:

    disagreement = 1/N sum_i [argmax p_recon != argmax p_data]          in percent, as the paper prints it
    kl_recon     = 1/N sum_i KL(p_recon || p_data)                      in nats
    kl_random    = 1/N sum_i KL(uniform || p_data)                      in nats

Section 4 compares two decoded clips with each other; 5.4, which the tables follow, a decoded clip with the true one: so
here. The paper samples what it reads from a clip; the later literature takes the posterior's mean. Both are measured:
the plain names are of samples, ``.../of_means`` of means. kl_random tells how certain the judge is of true clips; it
and kl_recon depend on the judge and compare with the paper's no better than that.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kineme.models.distributions import Gaussian
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.judged import Answers, Judging, accuracies, joined, load_judging, mean_and_spread
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run

_SUFFIXES = {"samples": "", "means": "/of_means"}


@torch.inference_mode()
def measure_disagreement(
    run: Run,
    shards: Path,
    split: str,
    *,
    judge: Path | None = None,
    motion: str = "action",
    draws: Count = 1,
    seed: Seed = 0,
) -> Metrics:
    """disagreement/LABEL, kl_recon/LABEL and kl_random/LABEL, judge/LABEL_accuracy, and ``clips``.

    Args:
        run: of a sequential-vae recipe.
        shards: ingested data with the labels of the judge.
        split: what is measured.
        judge: folder of the judge's run; must be given.
        motion: the one of its labels that the motion decides.
        draws: passes over all clips, each with draws of its own, one as in the paper; of several the figures are means,
            ``.../spread`` their standard deviation.
        seed: of the draws.

    Raises:
        RunError: another kind of run, or no judge that fits it.
        DataError: the shards hold no clips of the split.
    """
    judging = load_judging(run, judge, motion)
    torch.manual_seed(seed)
    truths, targets = [], []
    decoded: dict[str, list[list[Answers]]] = {variant: [[] for _ in range(draws)] for variant in _SUFFIXES}
    for frames, values in judging.clips(shards, split):
        truths.append(judging.answers(frames))
        targets.append(values)
        f, z = judging.model.encode(frames)
        for variant, by_draw in decoded.items():
            for answers in by_draw:
                answers.append(_recombined(judging, _read(f, variant), _read(z, variant)))
    truth = joined(truths)
    metrics: Metrics = {"clips": len(next(iter(truth.values())))}
    for variant, suffix in _SUFFIXES.items():
        metrics |= mean_and_spread([compare(joined(answers), truth, suffix) for answers in decoded[variant]])
    for label, p_data in truth.items():
        metrics[f"kl_random/{label}"] = kl_of(torch.zeros_like(p_data).log_softmax(dim=-1), p_data).mean().item()
    return metrics | accuracies(truth, joined(targets), "judge")


def compare(decoded: Answers, truth: Answers, suffix: str = "") -> Metrics:
    """disagreement/LABEL in percent and kl_recon/LABEL in nats between answers on decoded and on true clips."""
    metrics = {}
    for label, p_data in truth.items():
        p_recon = decoded[label]
        differing = (p_recon.argmax(dim=-1) != p_data.argmax(dim=-1)).double().mean()
        metrics[f"disagreement/{label}{suffix}"] = 100 * differing.item()
        metrics[f"kl_recon/{label}{suffix}"] = kl_of(p_recon, p_data).mean().item()
    return metrics


def kl_of(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities (N, values), nats: (N,)."""
    return (p.exp() * (p - q)).sum(dim=-1)


def _read(posterior: Gaussian, variant: str) -> Tensor:
    return posterior.mean if variant == "means" else posterior.sample()


def _recombined(judging: Judging, f: Tensor, z: Tensor) -> Answers:
    """What the judge says of the content with a drawn motion, and of the motion with a drawn content."""
    model = judging.model
    of_content = judging.answers(model.decode(f, model.sample_motion(*z.shape[:2])))
    of_motion = judging.answers(model.decode(torch.randn_like(f), z))
    return {**of_content, judging.motion: of_motion[judging.motion]}
