"""The contrastive objective 7.5 against a double loop, in one process and in two."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kineme.models.contrastive import Negatives, Reduction, Similarity, contrastive_loss, gather

SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
NEGATIVES: tuple[Negatives, ...] = get_args(Negatives)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def slow_loss(predicted: Tensor, targets: Tensor, similarity: str, temperature: float, negatives: str) -> float:
    """Minus the logarithm of the share that the right one has, summed over all predictions."""
    videos, steps, _ = predicted.shape

    def likeness(v: int, t: int, n: int, i: int) -> float:
        a, b = predicted[v, t].tolist(), targets[n, i].tolist()
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        if similarity == "cosine":
            dot /= math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        return dot / temperature

    total = 0.0
    for v in range(videos):
        for t in range(steps):
            among = {
                "all": [(n, i) for n in range(videos) for i in range(steps)],
                "video": [(v, i) for i in range(steps)],
                "time": [(n, t) for n in range(videos)],
            }[negatives]
            others = sum(math.exp(likeness(v, t, n, i)) for n, i in among)
            total -= math.log(math.exp(likeness(v, t, v, t)) / others)
    return total


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    videos=st.integers(1, 4),
    steps=st.integers(1, 4),
    dim=st.integers(1, 5),
    temperature=st.floats(0.2, 3),
)
def test_against_a_double_loop(
    similarity: Similarity, negatives: Negatives, seed: int, videos: int, steps: int, dim: int, temperature: float
) -> None:
    torch.manual_seed(seed)
    predicted, targets = torch.randn(videos, steps, dim), torch.randn(videos, steps, dim)
    expected = slow_loss(predicted, targets, similarity, temperature, negatives)
    for reduction, times in (("sum", 1), ("mean", videos * steps)):
        loss = contrastive_loss(
            predicted,
            targets,
            similarity=similarity,
            temperature=temperature,
            negatives=negatives,
            reduction=reduction,  # type: ignore[arg-type]
        )
        assert float(loss) * times == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_thesis_is_the_default() -> None:
    torch.manual_seed(0)
    predicted, targets = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    assert float(contrastive_loss(predicted, targets)) == pytest.approx(
        slow_loss(predicted, targets, "dot", 1.0, "all"), rel=1e-5
    )


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_no_gradient_goes_into_the_targets(similarity: Similarity, negatives: Negatives) -> None:
    torch.manual_seed(0)
    predicted, targets = (torch.randn(3, 4, 5, requires_grad=True) for _ in range(2))
    contrastive_loss(predicted, targets, similarity=similarity, negatives=negatives).backward()
    assert targets.grad is None
    assert predicted.grad is not None
    assert predicted.grad.abs().max() > 0


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_similarities_keep_their_precision_under_autocast(negatives: Negatives) -> None:
    torch.manual_seed(0)
    predicted, targets = torch.randn(3, 4, 50), torch.randn(3, 4, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrastive_loss(predicted, targets, negatives=negatives)
    assert float(loss) == float(contrastive_loss(predicted, targets, negatives=negatives))


def test_one_process_gathers_itself() -> None:
    own = torch.randn(3, 4)
    assert gather(own) is own


def on_a_rank(rank: int, folder: Path) -> None:
    """Losses, gradients and gathered targets of one of two processes, each with half of the clips."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    predicted, targets = torch.load(folder / "clips.pt")
    half = slice(3 * rank, 3 * rank + 3)
    found: dict[str, object] = {"gathered": gather(targets[half])}
    for similarity in SIMILARITIES:
        for negatives in NEGATIVES:
            own = predicted[half].clone().requires_grad_()
            for reduction in REDUCTIONS:
                own.grad = None
                loss = contrastive_loss(
                    own, targets[half], similarity=similarity, negatives=negatives, reduction=reduction
                )
                loss.backward()
                found[f"{similarity} {negatives} {reduction}"] = (loss.detach(), own.grad)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_two_processes_are_as_one_with_all_clips(reduction: Reduction, tmp_path: Path) -> None:
    """The mean over the ranks, of losses and (as DDP takes it) of gradients."""
    torch.manual_seed(0)
    predicted, targets = torch.randn(6, 4, 5), torch.randn(6, 4, 5)
    torch.save((predicted, targets), tmp_path / "clips.pt")
    torch.multiprocessing.spawn(on_a_rank, (tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for found in ranks:
        assert torch.equal(found["gathered"], targets)
    for similarity in SIMILARITIES:
        for negatives in NEGATIVES:
            whole = predicted.clone().requires_grad_()
            loss = contrastive_loss(whole, targets, similarity=similarity, negatives=negatives, reduction=reduction)
            loss.backward()
            losses, gradients = zip(*(found[f"{similarity} {negatives} {reduction}"] for found in ranks), strict=True)
            # "time" and "all" compare with the other process's clips, too.
            torch.testing.assert_close(sum(losses) / 2, loss.detach())
            torch.testing.assert_close(torch.cat(gradients) / 2, whole.grad)
