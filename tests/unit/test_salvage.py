"""One mistake does not hide the others, and what is right stays."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import model_validator

from cascade.model.salvage import MOST, Salvage, salvage
from cascade.model.strict import Strict


class Leg(Strict):
    joint: str
    length: int = 1


class Fox(Strict):
    name: str
    legs: tuple[Leg, ...] = ()
    marks: dict[str, int] = {}
    age: int = 1

    @model_validator(mode="after")
    def _old_enough(self) -> Fox:
        if len(self.legs) > self.age:
            raise ValueError("too young for its legs: add years")
        return self


def saved(values: Any, **stand_ins: Any) -> Salvage[Fox]:
    return salvage(Fox, values, stand_ins)


def places(found: Salvage[Any]) -> list[tuple[int | str, ...]]:
    return [error["loc"] for error in found.errors]


def test_what_is_right_comes_back_whole() -> None:
    found = saved({"name": "Reynard", "legs": [{"joint": "hip"}]})
    assert found == Salvage(Fox(name="Reynard", legs=(Leg(joint="hip"),)))


def test_a_wrong_value_is_left_out_and_the_rest_stays() -> None:
    found = saved({"name": "Reynard", "age": "old", "marks": {"ear": 1, "tail": "x"}})
    assert found.model == Fox(name="Reynard", marks={"ear": 1})
    assert places(found) == [("marks", "tail"), ("age",)]
    assert found.doubtful == {"tail", "age"}


@pytest.mark.parametrize("values", [{}, {"name": 3}])
def test_a_required_value_has_a_stand_in_and_is_reported_once(values: dict[str, Any]) -> None:
    found = saved(values, name="nobody")
    assert found.model == Fox(name="nobody")
    assert places(found) == [("name",)]
    assert found.doubtful == {"name"}


def test_a_wrong_entry_of_a_map_has_a_stand_in_so_that_its_name_is_still_known() -> None:
    found = salvage(Fox, {"name": "Reynard", "marks": {"ear": 1, "tail": "x"}}, {"marks.*": 0})
    assert found.model == Fox(name="Reynard", marks={"ear": 1, "tail": 0})
    assert places(found) == [("marks", "tail")]
    assert found.doubtful == {"tail"}


@pytest.mark.parametrize("values", [{}, {"name": 3}, "a fox", None])
def test_without_a_stand_in_nothing_is_left(values: Any) -> None:
    found = saved(values)
    assert (found.model, len(found.errors)) == (None, 1)


@pytest.mark.parametrize("leg", [{}, {"joint": 3}, 7, {"joint": "hip", "toes": 5, "length": "x", "hue": 1}])
def test_a_list_goes_as_a_whole_where_one_of_it_cannot_stay(leg: Any) -> None:
    found = saved({"name": "Reynard", "age": 4, "legs": [{"joint": "hip"}, leg]})
    assert found.model is not None
    assert found.model.legs in ((), (Leg(joint="hip"), Leg(joint="hip")))
    assert all(place[:2] == ("legs", 1) for place in places(found))


def test_two_mistakes_in_one_list_leave_what_is_beside_it() -> None:
    found = saved({"name": "Reynard", "age": 4, "legs": [{}, {"joint": "hip"}, 3]})
    assert found.model == Fox(name="Reynard", age=4)
    assert places(found) == [("legs", 0, "joint"), ("legs", 2)]


def test_what_does_not_fit_together_is_found_behind_a_mistake() -> None:
    found = saved({"name": "Reynard", "legs": [{"joint": "a"}, {"joint": "b"}], "marks": 5})
    assert found.model is None
    assert places(found) == [("marks",), ()]


@pytest.mark.parametrize(("many", "told", "saved_one"), [(MOST, MOST, True), (MOST + 1, MOST, False)])
def test_of_more_mistakes_than_a_person_makes_the_first_are_told(
    many: int, told: int, saved_one: bool
) -> None:
    found = saved({"name": "Reynard", "marks": {str(number): "x" for number in range(many)}})
    assert (len(found.errors), found.model is not None) == (told, saved_one)


class Den(Strict):
    foxes: dict[str, Fox] = {}


@pytest.mark.parametrize("key", [1, 1.5, True, None, b"x"])
def test_a_key_that_is_no_text_is_told_once(key: Any) -> None:
    found = salvage(Den, {"foxes": {key: {"age": 2}}}, {"name": "nobody", "foxes.*": {"name": "nobody"}})
    assert len(set(places(found))) == len(found.errors)
    assert all(place[0] == "foxes" for place in places(found))
