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
_NOTHING = object()


@dataclass(frozen=True)
class Salvage(Generic[Model]):
    """What could be read, every mistake, and the keys about which nothing can be said any more."""

    model: Model | None
    errors: tuple[ErrorDetails, ...] = ()
    doubtful: frozenset[str] = frozenset()


def salvage(
    model: type[Model], values: Any, stand_ins: Mapping[str, Any], context: Mapping[str, Any] | None = None
) -> Salvage[Model]:
    """Validates; what is wrong is left out, or replaced by its stand-in where the model requires it."""
    errors: list[ErrorDetails] = []
    left_out: set[Place] = set()
    for _ in range(_ROUNDS):
        try:
            found = model.model_validate(values, context=context)
        except ValidationError as refused:
            now: set[Place] = set()
            for error in refused.errors():
                if error["loc"] not in left_out:
                    errors.append(error)
                if not any(error["loc"][:length] in now for length in range(1, len(error["loc"]) + 1)):
                    values = _mended(values, error, stand_ins, now)
            left_out |= now
        else:
            return Salvage(found, tuple(errors), _keys(left_out))
        if values is _NOTHING:
            break
    return Salvage(None, tuple(errors), _keys(left_out))


def _mended(values: Any, error: ErrorDetails, stand_ins: Mapping[str, Any], left_out: set[Place]) -> Any:
    """The values without this error."""
    place = error["loc"]
    if error["type"] == "missing" and place[-1] in stand_ins:
        left_out.add(place)
        return _with(values, place, stand_ins[str(place[-1])])
    return _without(values, place[:-1] if error["type"] == "missing" else place, (), left_out)


def _with(values: Any, place: Place, stand_in: Any) -> Any:
    key, *rest = place
    if not rest:
        return {**values, key: stand_in}
    return _replaced(values, key, _with(values[key], tuple(rest), stand_in))


def _without(values: Any, place: Place, above: Place, left_out: set[Place]) -> Any:
    """Leaves out the nearest key: a list goes as a whole, so that the places in others stay true."""
    key, *rest = place or (None,)
    inside = isinstance(values, Mapping) and key in values
    if not inside and not (isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values)):
        return _NOTHING
    here: Place = (*above, *([key] if key is not None else []))
    inner = _without(values[key], tuple(rest), here, left_out)
    if inner is not _NOTHING:
        return _replaced(values, key, inner)
    if not inside:
        return _NOTHING
    left_out.add(here)
    return {name: value for name, value in values.items() if name != key}


def _replaced(values: Any, key: Any, value: Any) -> Any:
    if isinstance(values, Mapping):
        return {**values, key: value}
    return [*values[:key], value, *values[key + 1 :]]


def _keys(places: set[Place]) -> frozenset[str]:
    """The key that went, and the one of a map at the top that lacks it now."""
    return frozenset(
        part
        for place in places
        for part in (place if len(place) == 2 else place[-1:])
        if isinstance(part, str)
    )
