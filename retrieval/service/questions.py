"""What clients may ask, as they write it: JSON or the fields of a form."""

from __future__ import annotations

from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator

from kineme.retrieval.blending import EVEN, By

Key = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Vector = list[FiniteFloat]
MOST_KEYS = 100
MOST_WINDOWS = 128
"""Windows of one query, at most: each asks for its k hits."""
_FARTHEST = 10.0


def _from_json(value: Any) -> Any:
    """In a form a list or an object is written as JSON."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from None
    return value


def _as_list(value: Any) -> Any:
    """In a form a list of one is a text, and a longer one a name that comes again."""
    if isinstance(value, str):
        return _from_json(value) if value.startswith("[") else [value]
    return value


class _Asked(BaseModel):
    """A request whose empty fields count as left out, as those of a form do."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, fields: Any) -> Any:
        return {name: value for name, value in fields.items() if value not in ("", None)}


class QueryVectors(BaseModel):
    """Vectors of a query that was encoded before, as an answer has them: one a space, or a list of one a window."""

    model_config = ConfigDict(extra="forbid")

    motion: Vector | list[Vector] | None = Field(None, description="Needed to ask by motion or by both.")
    appearance: Vector | list[Vector] | None = Field(None, description="Needed to ask by appearance or by both.")


class Question(_Asked):
    """What to look for. One of key, keys, vectors or a file is needed."""

    key: Annotated[list[Key] | None, BeforeValidator(_as_list)] = Field(
        None, description="A clip of the index.", max_length=MOST_KEYS
    )
    keys: Annotated[list[Key] | None, BeforeValidator(_as_list)] = Field(
        None, description="Several of them, which ask by the mean of their vectors.", max_length=MOST_KEYS
    )
    vectors: Annotated[QueryVectors | None, BeforeValidator(_from_json)] = Field(
        None, description="What an answer says of its query, to ask again without the file."
    )
    by: By = Field("motion", description="How it moves, what it shows, or both, weighted.")
    weight: float = Field(EVEN, ge=0, le=1, description="Of motion, where both are asked for.")
    looks: Key | None = Field(
        None, description="A clip whose appearance is asked for instead: this motion, that appearance. By is then both."
    )
    k: int = Field(10, ge=1, description="Hits wanted.")
    where: str | None = Field(
        None, description="Only clips for which this SQL is true, such as action = 'walk' and height >= 64."
    )
    start_s: Seconds | None = Field(
        None, description="With end_s the part of a file that is asked for, clip by clip, half a clip apart."
    )
    end_s: Seconds | None = Field(None, description="See start_s; either alone reaches to the end or begins at 0.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise ValueError(f"start_s {self.start_s or 0:g} and end_s {self.end_s:g}: the end comes after the start")
        return self

    @property
    def clips(self) -> list[str]:
        """Keys of the clips that ask, each once."""
        return list(dict.fromkeys([*(self.key or []), *(self.keys or [])]))

    @property
    def excluded(self) -> list[str]:
        """Keys of all clips that ask; they are no hits."""
        return [*self.clips, *([] if self.looks is None else [self.looks])]

    @property
    def asked_by(self) -> By:
        """The space or spaces that are searched."""
        return "both" if self.looks is not None else self.by


class Prediction(_Asked):
    """What to predict. Key or a file is needed."""

    key: Key | None = Field(None, description="A clip of the index.")
    samples: int = Field(1, ge=1, description="Futures to draw.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the first; the next ones follow.")
    horizon: int | None = Field(None, ge=1, description="Frames to draw; as many as in the training if left out.")


class Swap(_Asked):
    """Two clips of the index to make one of."""

    looks: Key = Field(description="What is shown.")
    motion: Key = Field(description="How it moves.")


class Redrawing(BaseModel):
    """Which clip to redraw, and how."""

    model_config = ConfigDict(extra="forbid")

    key: Key = Field(description="A clip of the index.")
    moves: dict[str, Annotated[FiniteFloat, Field(ge=-_FARTHEST, le=_FARTHEST)]] = Field(
        default_factory=dict, description="Name of a dimension -> how far it is moved, in its standard deviations."
    )
