"""The contrastive objective of thesis 7.5: a predicted p_t must find the true one among those of a batch.

    L_pred = - sum_{v,t} log( exp(p^_vt . p_vt) / sum_{n,i} exp(p^_vt . p_ni) )        (7.5)

As written: dot products, and against each prediction all frames t = 2..T of all N videos, gathered over the processes
of a distributed run, which must have as many each, and summed over the predictions. Negatives from other videos reward
a P that tells where the clip is; hence the options.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional as F

Similarity = Literal["dot", "cosine"]
Negatives = Literal["all", "video", "time"]
Reduction = Literal["sum", "mean"]


def contrastive_loss(
    predicted: Tensor,
    targets: Tensor,
    *,
    similarity: Similarity = "dot",
    temperature: float = 1.0,
    negatives: Negatives = "all",
    reduction: Reduction = "sum",
) -> Tensor:
    """Objective 7.5 of the N x (T-1) predictions of this process.

    Args:
        predicted: p^ of frames 2..T, (N, T-1, D).
        targets: the true ones, likewise; no gradient goes into them.
        similarity: dot product (7.5), or cosine.
        temperature: similarities are divided by it; 1 in 7.5.
        negatives: ``all`` other frames of the batch (7.5), only the other frames of the same ``video``, or only the
            other videos at the same ``time``.
        reduction: ``sum`` over the predictions of all processes (7.5; here those of this one times the processes, as
            DDP averages gradients), or their ``mean``, of which a coefficient means the same at any batch size.
    """
    own, queries = gather(targets.detach().float()), predicted.float()
    if similarity == "cosine":
        own, queries = F.normalize(own, dim=-1), F.normalize(queries, dim=-1)
    count, steps = queries.shape[:2]
    numbers = torch.arange(count * steps, device=queries.device).view(count, steps)
    rank, processes = _place()
    first = rank * count
    # Autocast's bf16 would tell two hundred similarities apart at the best.
    with torch.autocast(queries.device.type, enabled=False):
        if negatives == "video":
            scores = torch.einsum("ntd,nid->nti", queries, own[first : first + count])
            right = numbers[:1].expand(count, -1)
        elif negatives == "time":
            scores = torch.einsum("ntd,mtd->ntm", queries, own)
            right = first + numbers // steps
        else:
            scores = queries @ own.flatten(0, 1).T
            right = first * steps + numbers
    loss = F.cross_entropy(scores.flatten(0, 1) / temperature, right.flatten(), reduction=reduction)
    return loss * processes if reduction == "sum" else loss


def gather(own: Tensor) -> Tensor:
    """This process's (N, ...) among those of all, N on each, in the order of ranks: (ranks x N, ...). No gradient."""
    _, processes = _place()
    if processes == 1:
        return own
    gathered = [torch.empty_like(own) for _ in range(processes)]
    torch.distributed.all_gather(gathered, own.contiguous())
    return torch.cat(gathered)


def _place() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
