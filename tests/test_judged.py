"""The protocols that put a sequential VAE's clips before a judge: disagreement and generation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_runs import ENCODER, FRAMES, JUDGE, TEST_CLIPS, make_run
from torch import Tensor, nn
from torch.distributions import Normal

from kineme.models.distributions import Gaussian
from kineme.models.sequential_vae import SequentialVAE
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.frames import to_model
from kineme.pipeline.protocols.disagreement import compare, kl_of, measure_disagreement
from kineme.pipeline.protocols.elbo import measure_elbo
from kineme.pipeline.protocols.generation import inception_scores, measure_generation
from kineme.pipeline.protocols.judged import joined, load_judging, mean_and_spread
from kineme.pipeline.run import Run, load_run
from kineme.shards.loader import clip_loader

SHARDS = "shards"


def answers_of(count: int, values: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, values, generator=generator, dtype=torch.float64).log_softmax(dim=-1)


def test_kl_against_loops() -> None:
    p, q = answers_of(6, 4), answers_of(6, 4, seed=1)
    for row, value in enumerate(kl_of(p, q).tolist()):
        slow = sum(math.exp(a) * (a - b) for a, b in zip(p[row].tolist(), q[row].tolist(), strict=True))
        assert value == pytest.approx(slow)


def test_disagreement_counts_other_answers_in_percent() -> None:
    truth = answers_of(8, 3)
    decoded = truth.clone()
    decoded[:2] = truth[:2].roll(1, dims=-1)
    figures = compare({"hair": decoded}, {"hair": truth}, "/of_means")
    assert figures["disagreement/hair/of_means"] == 25
    assert figures["kl_recon/hair/of_means"] == pytest.approx(kl_of(decoded, truth).sum().item() / 8)
    assert compare({"hair": truth}, {"hair": truth}) == {"disagreement/hair": 0, "kl_recon/hair": 0}


def test_inception_scores_of_certain_and_of_clueless_judges() -> None:
    certain = torch.eye(9, dtype=torch.float64).mul(200).log_softmax(dim=-1)
    assert inception_scores(certain) == pytest.approx({"inception_score": 9, "h_y_given_x": 0, "h_y": math.log(9)})
    always_the_same = certain[:1].expand(9, -1)
    assert inception_scores(always_the_same) == pytest.approx({"inception_score": 1, "h_y_given_x": 0, "h_y": 0})
    clueless = torch.zeros(5, 9, dtype=torch.float64).log_softmax(dim=-1)
    assert inception_scores(clueless) == pytest.approx(
        {"inception_score": 1, "h_y_given_x": math.log(9), "h_y": math.log(9)}
    )


def test_inception_score_is_the_mean_divergence_from_the_marginal() -> None:
    answers = answers_of(7, 4)
    marginal = answers.exp().mean(dim=0).log()
    divergence = sum(kl_of(row[None], marginal[None]).item() for row in answers) / 7
    assert inception_scores(answers)["inception_score"] == pytest.approx(math.exp(divergence))


def test_spread_is_that_of_the_draws() -> None:
    assert mean_and_spread([{"a": 1.0}, {"a": 3.0}]) == pytest.approx({"a": 2, "a/spread": math.sqrt(2)})
    assert mean_and_spread([{"a": 1.0}]) == {"a": 1}


def deaf_to(run: Run, what: str) -> SequentialVAE:
    """The run's network, its decoder made to ignore f or z."""
    model = run.task.model
    assert isinstance(model, SequentialVAE)
    first = model.decoder.layers[0]
    assert isinstance(first, nn.Linear)
    z_dim = model.config.z_dim
    with torch.no_grad():
        first.weight[:, slice(z_dim) if what == "z" else slice(z_dim, None)] = 0
    return model


@pytest.mark.parametrize(("deaf", "label"), [("z", "wall_hit"), ("f", "speeds")])
def test_what_is_drawn_anew_is_the_other_half(
    digits: Path, encoder_run: Path, judge_run: Path, deaf: str, label: str
) -> None:
    """With a decoder deaf to what is drawn, the figures of means are those of a plain reconstruction."""
    run = load_run(encoder_run)
    model = deaf_to(run, deaf)
    judging = load_judging(run, judge_run, "speeds")
    decoded, truths, right = [], [], []
    with torch.inference_mode():
        for frames, targets in judging.clips(digits / SHARDS, "test"):
            f, z = model.encode(frames)
            decoded.append(judging.answers(model.decode(f.mean, z.mean)))
            truths.append(judging.answers(frames))
            right.append(decoded[-1][label].argmax(dim=-1) == targets[label])
    slow = compare(joined(decoded), joined(truths), "/of_means")
    figures = measure_disagreement(run, digits / SHARDS, "test", judge=judge_run, motion="speeds", draws=2)
    assert figures["clips"] == TEST_CLIPS
    for kind in ("disagreement", "kl_recon"):
        assert figures[f"{kind}/{label}/of_means"] == pytest.approx(slow[f"{kind}/{label}/of_means"])
        assert figures[f"{kind}/{label}/of_means/spread"] == pytest.approx(0, abs=1e-9)
    drawn = measure_generation(run, digits / SHARDS, "test", judge=judge_run, motion="speeds", draws=2)
    assert drawn[f"generation/{label}_accuracy"] == pytest.approx(torch.cat(right).double().mean().item())


def sharpened(run: Run) -> SequentialVAE:
    """The run's network with a decoder that tells codes apart: that of so short a training hardly does."""
    model = run.task.model
    assert isinstance(model, SequentialVAE)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(4)
    return model


def test_disagreement_by_hand(digits: Path, encoder_run: Path, judge_run: Path) -> None:
    """The same draws in the same order: content against a drawn motion, motion against a drawn content."""
    run = load_run(encoder_run)
    model = sharpened(run)
    judging = load_judging(run, judge_run, "speeds")
    (frames, _), *more = judging.clips(digits / SHARDS, "test")
    assert not more
    torch.manual_seed(3)
    slow: dict[str, float] = {}
    with torch.inference_mode():
        truth = judging.answers(frames)
        f, z = model.encode(frames)
        for suffix, own_f, own_z in (("", f.sample(), z.sample()), ("/of_means", f.mean, z.mean)):
            drawn_z = model.sample_motion(*z.mean.shape[:2])
            content = judging.answers(model.decode(own_f, drawn_z))["wall_hit"]
            drawn_f = torch.randn_like(f.mean)
            motion = judging.answers(model.decode(drawn_f, own_z))["speeds"]
            slow |= compare({"wall_hit": content, "speeds": motion}, truth, suffix)
        plain = compare(judging.answers(model.decode(f.mean, z.mean)), truth, "/of_means")
    figures = measure_disagreement(run, digits / SHARDS, "test", judge=judge_run, motion="speeds", seed=3)
    assert {name: figures[name] for name in slow} == pytest.approx(slow)
    for label in ("speeds", "wall_hit"):
        assert figures[f"kl_recon/{label}/of_means"] != pytest.approx(plain[f"kl_recon/{label}/of_means"])
        evenly = -math.log(truth[label].shape[1])
        loops = [sum(math.exp(evenly) * (evenly - q) for q in row) for row in truth[label].tolist()]
        assert figures[f"kl_random/{label}"] == pytest.approx(sum(loops) / len(loops))


def test_generation_by_hand(digits: Path, encoder_run: Path, judge_run: Path) -> None:
    run = load_run(encoder_run)
    model = sharpened(run)
    judging = load_judging(run, judge_run, "speeds")
    ((frames, targets),) = judging.clips(digits / SHARDS, "test")
    torch.manual_seed(3)
    with torch.inference_mode():
        f, z = (posterior.mean for posterior in model.encode(frames))
        motion = judging.answers(model.decode(torch.randn_like(f), z))["speeds"]
        content = judging.answers(model.decode(f, model.sample_motion(*z.shape[:2])))["wall_hit"]
        plain = inception_scores(judging.answers(model.decode(f, z))["speeds"])
        true = inception_scores(judging.answers(frames)["speeds"])
    figures = measure_generation(run, digits / SHARDS, "test", judge=judge_run, motion="speeds", draws=1, seed=3)
    for name, value in inception_scores(motion).items():
        assert figures[f"generation/{name}"] == pytest.approx(value)
        assert figures[f"generation/{name}"] != pytest.approx(plain[name])
        assert figures[f"judge/{name}"] == pytest.approx(true[name])
    for label, answer in (("speeds", motion), ("wall_hit", content)):
        right = (answer.argmax(dim=-1) == targets[label]).double().mean().item()
        assert figures[f"generation/{label}_accuracy"] == pytest.approx(right)


def test_samples_differ_from_means_and_the_seed_decides(digits: Path, encoder_run: Path, judge_run: Path) -> None:
    def measure(seed: int) -> dict[str, float]:
        run = load_run(encoder_run)
        return measure_disagreement(run, digits / SHARDS, "test", judge=judge_run, motion="speeds", draws=1, seed=seed)

    first = measure(0)
    assert measure(0) == first
    assert measure(1) != first
    assert first["kl_recon/speeds"] != first["kl_recon/speeds/of_means"]
    assert not any(name.endswith("/spread") for name in first)


def test_how_certain_and_how_right_the_judge_is_stands_beside(digits: Path, encoder_run: Path, judge_run: Path) -> None:
    options = {"judge": str(judge_run), "motion": "speeds", "draws": "1"}
    drawn = evaluate_run(encoder_run, digits / SHARDS, "generation", options=options)["metrics"]
    own = evaluate_run(judge_run, digits / SHARDS)["metrics"]
    assert {name: drawn[name] for name in own} == own
    assert {name.split("/")[1] for name in drawn if name.startswith("generation")} == {
        "speeds_accuracy",
        "wall_hit_accuracy",
        "inception_score",
        "h_y_given_x",
        "h_y",
    }


def test_no_judge(digits: Path, encoder_run: Path) -> None:
    with pytest.raises(RunError, match="judge=RUN is missing"):
        evaluate_run(encoder_run, digits / SHARDS, "disagreement")


def test_a_run_that_judges_nothing(digits: Path, encoder_run: Path) -> None:
    with pytest.raises(RunError, match="a sequential-vae run judges nothing"):
        evaluate_run(encoder_run, digits / SHARDS, "disagreement", options={"judge": str(encoder_run)})


def test_a_label_that_the_judge_has_not(digits: Path, encoder_run: Path, judge_run: Path) -> None:
    with pytest.raises(RunError, match="--option motion=action: is no label of the judge's; it has speeds, wall_hit"):
        evaluate_run(encoder_run, digits / SHARDS, "generation", options={"judge": str(judge_run)})


def test_a_judge_of_another_frame_size(digits: Path, judge_run: Path, tmp_path: Path) -> None:
    larger = make_run(ENCODER, digits, tmp_path, "model.frame_size=64", "training.epochs=1")
    with pytest.raises(
        RunError, match=r"judges clips of frame_size 32, .* draws 64; train a judge with --set model.frame_size=64"
    ):
        evaluate_run(larger, digits / SHARDS, "disagreement", options={"judge": str(judge_run)})


def test_a_judge_of_shorter_clips(digits: Path, encoder_run: Path, tmp_path: Path) -> None:
    shorter = make_run(JUDGE, digits, tmp_path, "data.clip_frames=6", "training.epochs=1")
    with pytest.raises(RunError, match=r"judges clips of clip_frames 6, .* draws 8; train"):
        evaluate_run(encoder_run, digits / SHARDS, "disagreement", options={"judge": str(shorter)})


def test_parts_of_the_bound_against_batches_of_another_size(
    digits: Path, encoder_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With drawn f and z, but in batches of seven and six clips; the same draws written out one batch at a time."""
    run = load_run(encoder_run)
    model = run.task.model
    assert isinstance(model, SequentialVAE)
    monkeypatch.setattr("kineme.pipeline.protocols.elbo.BATCH", 7)
    figures = measure_elbo(run, digits / SHARDS, "test")
    slow = dict.fromkeys(("squared_error", "kl_f", "kl_z"), 0.0)
    torch.manual_seed(0)
    for batch in clip_loader(digits / SHARDS, batch_size=7, clip_frames=FRAMES, split="test"):
        clips = to_model(batch.frames, 32)
        with torch.inference_mode():
            output = model(clips)
        for row in range(len(clips)):
            slow["squared_error"] += ((output.reconstruction[row] - clips[row]) ** 2).sum().item() / TEST_CLIPS
            slow["kl_f"] += normal_kl(output.f_posterior, None, row) / TEST_CLIPS
            slow["kl_z"] += normal_kl(output.z_posterior, output.z_prior, row) / TEST_CLIPS
    assert figures["clips"] == TEST_CLIPS
    assert {name: figures[f"elbo/{name}"] for name in slow} == pytest.approx(slow, rel=1e-4)


def normal_kl(q: Gaussian, p: Gaussian | None, row: int) -> float:
    """KL of one clip by torch's own normals."""
    posterior = Normal(q.mean[row], (0.5 * q.logvar[row]).exp())
    if p is None:
        prior = Normal(torch.zeros_like(q.mean[row]), torch.ones_like(q.mean[row]))
    else:
        prior = Normal(p.mean[row], (0.5 * p.logvar[row]).exp())
    return torch.distributions.kl_divergence(posterior, prior).sum().item()
