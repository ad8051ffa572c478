"""What is drawn keeps what was held, and is varied and clear: the protocol of the literature after Li and Mandt (2018).

As S3VAE (Zhu et al. 2020) and C-DSVAE (Bai et al. 2021) measure it, here with one judge of all labels:

- motion held at its posterior mean, content drawn from N(0, I). With p(y | x) the judge's distribution over the
  actions of a drawn clip x, and p(y) its mean over all of them:

      action_accuracy   how often the likeliest action is that of the clip whose motion is held
      h_y_given_x       mean entropy of p(y | x), nats: 0 where the judge is certain of every clip
      h_y               entropy of p(y), nats: at most log 9 = 2.197 for nine actions
      inception_score   exp(h_y - h_y_given_x): at most 9

- content held at its posterior mean, motion drawn from its learned prior: how often the judge sees each true attribute
  (skin_accuracy, pants_accuracy, top_accuracy, hair_accuracy).

What the judge says of the true clips stands beside: its accuracies, and h_y_given_x, h_y and inception_score. A judge
that is not certain of true clips measures no certainty of drawn ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.judged import Answers, accuracies, joined, load_judging, mean_and_spread
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run


@torch.inference_mode()
def measure_generation(
    run: Run,
    shards: Path,
    split: str,
    *,
    judge: Path | None = None,
    motion: str = "action",
    draws: Count = 5,
    seed: Seed = 0,
) -> Metrics:
    """The figures above under ``generation/``, those of the true clips under ``judge/``, and ``clips``.

    Args:
        run: of a sequential-vae recipe.
        shards: ingested data with the labels of the judge.
        split: what is measured.
        judge: folder of the judge's run; must be given.
        motion: the one of its labels that the motion decides.
        draws: passes over all clips, each with draws of its own; the figures are means over them, ``.../spread`` their
            standard deviation.
        seed: of the draws.

    Raises:
        RunError: another kind of run, or no judge that fits it.
        DataError: the shards hold no clips of the split.
    """
    judging = load_judging(run, judge, motion)
    model = judging.model
    torch.manual_seed(seed)
    truths, targets = [], []
    drawn: list[list[Answers]] = [[] for _ in range(draws)]
    for frames, values in judging.clips(shards, split):
        truths.append(judging.answers(frames))
        targets.append(values)
        f, z = (posterior.mean for posterior in model.encode(frames))
        for answers in drawn:
            of_motion = judging.answers(model.decode(torch.randn_like(f), z))
            of_content = judging.answers(model.decode(f, model.sample_motion(*z.shape[:2])))
            answers.append({**of_content, motion: of_motion[motion]})
    true_values = joined(targets)
    figures = []
    for answers in drawn:
        of_all = joined(answers)
        figures.append(_scored(of_all, true_values, motion, "generation"))
    clips = {"clips": float(len(true_values[motion]))}
    return {**clips, **mean_and_spread(figures), **_scored(joined(truths), true_values, motion, "judge")}


def _scored(answers: Answers, true_values: dict[str, Tensor], motion: str, prefix: str) -> Metrics:
    scores = {f"{prefix}/{name}": value for name, value in inception_scores(answers[motion]).items()}
    return {**accuracies(answers, true_values, prefix), **scores}


def inception_scores(answers: Tensor) -> Metrics:
    """inception_score, h_y_given_x and h_y of log-probabilities (N, values), N >= 1."""
    h_y_given_x = -(answers.exp() * answers).sum(dim=-1).mean()
    marginal = answers.exp().mean(dim=0)
    # p log p is 0 at 0.
    h_y = -torch.xlogy(marginal, marginal).sum()
    return {
        "inception_score": (h_y - h_y_given_x).exp().item(),
        "h_y_given_x": h_y_given_x.item(),
        "h_y": h_y.item(),
    }
