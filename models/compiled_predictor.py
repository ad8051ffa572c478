"""A next-frame predictor whose step is compiled, for long rollouts and many of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from kineme.models.next_frames import NextFramePredictor


class CompiledPredictor:
    """Draws the frames of another predictor, its `advance` compiled by torch.compile; on a GPU as CUDA graphs.

    The first frame takes as long as compiling does, a minute or more, once for each batch size. What is drawn may
    differ in the last bits.

    Args:
        model: the predictor.
        backend: of torch.compile.
    """

    def __init__(self, model: NextFramePredictor, backend: str = "inductor") -> None:
        self._model = model
        self.frame_shape, self.condition_dim, self.noise_dim = model.frame_shape, model.condition_dim, model.noise_dim
        # A step is many small kernels: on a GPU starting them takes longer than running them.
        mode = "reduce-overhead" if backend == "inductor" else None
        self._advance = torch.compile(model.advance, backend=backend, mode=mode, dynamic=False, fullgraph=True)

    def begin(self, frames: Tensor, condition: Tensor, noise: Tensor) -> Any:
        """The state after a context."""
        return self._model.begin(frames, condition, noise)

    def advance(self, state: Any, condition: Tensor, noise: Tensor) -> tuple[Tensor, Any]:
        """The next frame, and the state to go on from."""
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # Without it torch leaves LSTMs out, and compiles the pieces between them.
        with torch._dynamo.config.patch(allow_rnn=True):
            drawn: tuple[Tensor, Any] = self._advance(state, condition, noise)
        # The next step writes over what a CUDA graph gave.
        kept: tuple[Tensor, Any] = pytree.tree_map_only(torch.Tensor, torch.clone, drawn)
        return kept
