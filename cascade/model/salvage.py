"""A model of what is right in a file, so that one mistake does not hide the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[int | str, ...]

# A round finds what the mistakes of the round before hid: a required key, a check of the whole model.
_ROUNDS = 8
# More than this many mistakes at once are not a person's: the first ones are told, and that is all.
MOST = 200
_NOTHING = object()


@dataclass(frozen=True)
class Salvage(Generic[Model]):
    """What could be read, every mistake, and the places about which nothing can be said any more."""

    model: Model | None
    errors: tuple[ErrorDetails, ...] = ()
    left_out: frozenset[Place] = frozenset()

    @property
    def doubtful(self) -> frozenset[str]:
        """The keys of these places."""
        keys = ([part for part in place if isinstance(part, str)] for place in self.left_out)
        return frozenset(named[-1] for named in keys if named)


def salvage(
    model: type[Model], values: Any, stand_ins: Mapping[str, Any], context: Mapping[str, Any] | None = None
) -> Salvage[Model]:
    """Validates; what is wrong is left out, or replaced by its stand-in where the model requires it.

    A stand-in for `images.*` is put in place of any wrong entry of the map `images`.
    """
    errors: list[ErrorDetails] = []
    left_out: set[Place] = set()
    for _ in range(_ROUNDS):
        try:
            found = model.model_validate(values, context=context)
        except ValidationError as refused:
            if refused.error_count() > MOST:
                return Salvage(None, (*errors, *refused.errors()[:MOST]), frozenset(left_out))
            now: set[Place] = set()
            for error in refused.errors():
                if error["loc"] not in left_out:
                    errors.append(error)
                if not any(error["loc"][:length] in now for length in range(1, len(error["loc"]) + 1)):
                    values = _mended(values, error, stand_ins, now)
            left_out |= now
        else:
            return Salvage(found, tuple(errors), frozenset(left_out))
        if values is _NOTHING:
            break
    return Salvage(None, tuple(errors), frozenset(left_out))


def _mended(values: Any, error: ErrorDetails, stand_ins: Mapping[str, Any], left_out: set[Place]) -> Any:
    """The values without this error."""
    place = error["loc"]
    if error["type"] == "missing" and place[-1] in stand_ins:
        mended = _with(values, place, stand_ins[str(place[-1])])
        if mended is not _NOTHING:
            left_out.add(place)
            return mended
    return _without(values, place[:-1] if error["type"] == "missing" else place, stand_ins, (), left_out)


def _with(values: Any, place: Place, stand_in: Any) -> Any:
    """Pydantic writes odd keys as texts, by which they cannot be found again."""
    key, *rest = place
    if not rest:
        return {**values, key: stand_in}
    if not _holds(values, key):
        return _NOTHING
    inner = _with(values[key], tuple(rest), stand_in)
    return inner if inner is _NOTHING else _replaced(values, key, inner)


def _without(
    values: Any, place: Place, stand_ins: Mapping[str, Any], above: Place, left_out: set[Place]
) -> Any:
    """Leaves out the nearest key: a list goes as a whole, so that the places in others stay true."""
    key, *rest = place or (None,)
    inside = isinstance(values, Mapping)
    if not _holds(values, key):
        return _NOTHING
    here: Place = (*above, *([key] if key is not None else []))
    inner = _without(values[key], tuple(rest), stand_ins, here, left_out)
    if inner is not _NOTHING:
        return _replaced(values, key, inner)
    if not inside:
        return _NOTHING
    left_out.add(here)
    if above and f"{above[-1]}.*" in stand_ins and rest != ["[key]"]:
        return _replaced(values, key, stand_ins[f"{above[-1]}.*"])
    return {name: value for name, value in values.items() if name != key}


def _holds(values: Any, key: Any) -> bool:
    if isinstance(values, Mapping):
        return key in values
    return isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values)


def _replaced(values: Any, key: Any, value: Any) -> Any:
    if isinstance(values, Mapping):
        return {**values, key: value}
    return [*values[:key], value, *values[key + 1 :]]
