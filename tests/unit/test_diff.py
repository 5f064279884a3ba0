"""The one diff: every difference, at its path, and what has to happen for it."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.workload import Workload
from cascade.planning.comparable import comparable
from cascade.planning.diff import Change, FieldChange, diff, diff_fields
from cascade.planning.resource import Key, Kind, Resources
from cascade.planning.specs import container_body, service_spec

Rich = Callable[..., tuple[Workload, Fleet]]
Path = tuple[str | int, ...]

# Lists of named things, and where the name stands.
NAMED: dict[str, Callable[[Any], str]] = {
    "Env": lambda item: item.split("=")[0],
    "Mounts": lambda item: item["Target"],
    "Networks": lambda item: item["Target"],
    "Ports": lambda item: f"{item['PublishedPort']}/{item['Protocol']}",
    "Ulimits": lambda item: item["Name"],
    "Devices": lambda item: item["PathInContainer"],
    "Configs": lambda item: item["File"]["Name"],
    "Secrets": lambda item: item["File"]["Name"],
    "SecurityOpt": lambda item: item.split("=")[0],
}
NAMES = {
    ("Mounts", "Target"),
    ("Networks", "Target"),
    ("Ports", "PublishedPort"),
    ("Ports", "Protocol"),
    ("Ulimits", "Name"),
    ("Devices", "PathInContainer"),
    ("Configs", "Name"),
    ("Secrets", "Name"),
}


def desired(kind: Any, rich: Rich) -> dict[str, Any]:
    fox, fleet = rich(kind)
    if kind == "service":
        return service_spec(fox, fleet)
    return {"running": True, **container_body(fox, fleet)}


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where in a spec something is said, empty things included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    yield from below or [path]


def at(spec: Any, path: Path) -> Any:
    for part in path:
        spec = spec[part]
    return spec


def changed(spec: Any, path: Path) -> Any:
    """A copy of the spec with another value at this path."""
    other = copy.deepcopy(spec)
    at(other, path[:-1])[path[-1]] = another(at(other, path))
    return other


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value}-changed"
    return {"changed": "changed"} if isinstance(value, dict) else ["changed"]


def expected_path(spec: Any, path: Path) -> str:
    """How a difference there is called: named things by name, other lists as a whole.

    Where the last thing that was said is taken back, nothing stands there any more.
    """
    shown: list[str] = []
    for depth, part in enumerate(path):
        if isinstance(part, str):
            shown.append(part)
            continue
        name = NAMED.get(str(path[depth - 1]))
        if name is None:
            break
        shown.append(name(at(spec, path[: depth + 1])))
    if at(spec, path) is True and len(at(spec, path[:-1])) == 1 and len(path) > 1:
        shown.pop()
    return ".".join(shown)


# No state, and ports of which there is nothing more to say.
NOTHING_MORE = {"ForceUpdate", "ExposedPorts"}


def item_of(path: Path) -> Path:
    """The item of a list in which this stands, or nothing."""
    numbers = [depth for depth, part in enumerate(path) if isinstance(part, int)]
    return path[: numbers[-1] + 1] if numbers else ()


def is_name(path: Path) -> bool:
    item = item_of(path)
    return len(path) > len(item) > 1 and (item[-2], path[-1]) in NAMES


@pytest.mark.parametrize("kind", ["service", "container"])
def test_every_single_change_is_found_where_it_was_made(kind: Any, rich: Rich) -> None:
    spec = desired(kind, rich)
    wanted = comparable(kind, spec)
    said = [path for path in leaves(spec) if not is_name(path) and not NOTHING_MORE & set(path)]
    assert len(said) > 60
    for path in said:
        found = list(diff_fields(wanted, comparable(kind, changed(spec, path))))
        assert [field.path for field in found] == [expected_path(spec, path)], path
        assert found[0].observed != found[0].desired


@pytest.mark.parametrize("kind", ["service", "container"])
def test_a_thing_with_another_name_is_one_that_went_and_one_that_came(kind: Any, rich: Rich) -> None:
    spec = desired(kind, rich)
    renamed = [path for path in leaves(spec) if is_name(path)]
    found_names = {(item_of(path)[-2], path[-1]) for path in renamed}
    assert found_names >= {("Mounts", "Target"), ("Ulimits", "Name")}
    for path in renamed:
        other = changed(spec, path)
        found = list(diff_fields(comparable(kind, spec), comparable(kind, other)))
        ours, theirs = expected_path(spec, item_of(path)), expected_path(other, item_of(path))
        assert {field.path for field in found} == {ours, theirs}, path
        assert {field.path for field in found if field.observed is None} == {ours}
        assert {field.path for field in found if field.desired is None} == {theirs}


@pytest.mark.parametrize("kind", ["service", "container"])
def test_whatever_is_taken_away_is_found(kind: Any, rich: Rich) -> None:
    spec = desired(kind, rich)
    taken = [path for path in leaves(spec) if at(spec, path) and not isinstance(path[-1], int)]
    for path in taken:
        if is_name(path):
            continue
        other = copy.deepcopy(spec)
        del at(other, path[:-1])[path[-1]]
        found = list(diff_fields(comparable(kind, spec), comparable(kind, other)))
        assert len(found) == 1, path
        assert expected_path(spec, path).startswith(found[0].path)


@pytest.mark.parametrize("kind", ["service", "container"])
def test_whatever_was_added_by_hand_is_found(kind: Any, rich: Rich) -> None:
    spec = desired(kind, rich)
    place = ("TaskTemplate", "ContainerSpec") if kind == "service" else ("HostConfig",)
    other = copy.deepcopy(spec)
    at(other, place)["Privileges" if kind == "service" else "Privileged"] = True
    assert len(list(diff_fields(comparable(kind, spec), comparable(kind, other)))) == 1


def test_equal_specs_differ_in_nothing(rich: Rich) -> None:
    assert list(diff_fields(desired("service", rich), desired("service", rich))) == []


@pytest.mark.parametrize(
    ("wanted", "observed", "fields"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 2, 1)]),
        ({"a": 1}, {}, [("a", None, 1)]),
        ({}, {"a": 1}, [("a", 1, None)]),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, [("a", 2, 1), ("b", 2, 1)]),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1, "d": 3}}}, [("a.b.d", 3, 2)]),
        ({"a": {"b": 1}}, {"a": "b"}, [("a", "b", {"b": 1})]),
        ({"a": {"b": 1}}, {}, [("a", None, {"b": 1})]),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", [2, 1], [1, 2])]),
        ({"a": True}, {"a": "True"}, [("a", "True", True)]),
    ],
)
def test_fields_differ_at_their_path(wanted: Any, observed: Any, fields: list[tuple[str, Any, Any]]) -> None:
    assert [(field.path, field.observed, field.desired) for field in diff_fields(wanted, observed)] == fields


def key(kind: Kind, name: str = "fox") -> Key:
    return Key("mainpc", kind, name)


@pytest.mark.parametrize(
    "kind",
    ["package", "sysctl", "file", "daemon-settings", "unit", "swarm", "node", "image", "service"],
)
def test_what_differs_is_updated(kind: Kind) -> None:
    change = diff({key(kind): {"a": 1}}, {key(kind): {"a": 2}})[key(kind)]
    assert change == Change(key(kind), "update", (FieldChange("a", 2, 1),), {"a": 1}, {"a": 2})


@pytest.mark.parametrize("kind", ["network", "volume"])
def test_a_network_or_volume_that_differs_is_replaced(kind: Kind) -> None:
    assert diff({key(kind): {"a": 1}}, {key(kind): {"a": 2}})[key(kind)].action == "replace"


@pytest.mark.parametrize(
    ("observed", "action"),
    [
        ({"labels": {"a": "b"}, "sha256": "1"}, "update"),
        ({"labels": {}, "sha256": "2"}, "replace"),
        ({"labels": {"a": "b"}, "sha256": "2"}, "replace"),
    ],
)
def test_a_config_with_other_labels_is_updated_and_one_with_another_content_replaced(
    observed: dict[str, Any], action: str
) -> None:
    wanted = {"labels": {}, "sha256": "1"}
    assert diff({key("config"): wanted}, {key("config"): observed})[key("config")].action == action


@pytest.mark.parametrize(
    ("observed", "action"),
    [
        ({"running": False, "Image": "i"}, "update"),
        ({"Image": "i"}, "update"),
        ({"running": True, "Image": "j"}, "replace"),
        ({"running": False, "Image": "j"}, "replace"),
        ({"running": True}, "replace"),
        ({"running": True, "Image": "i", "User": "root"}, "replace"),
        ({}, "replace"),
    ],
)
def test_a_container_is_started_when_only_that_is_missing_and_else_replaced(
    observed: dict[str, Any], action: str
) -> None:
    wanted = {"running": True, "Image": "i"}
    assert diff({key("container"): wanted}, {key("container"): observed})[key("container")].action == action


def test_every_field_of_a_container_but_one_replaces_it(rich: Rich) -> None:
    spec = desired("container", rich)
    wanted = {key("container"): comparable("container", spec)}
    for path in leaves(spec):
        observed = {key("container"): comparable("container", changed(spec, path))}
        action = diff(wanted, observed)[key("container")].action
        assert action == ("update" if path == ("running",) else "replace"), path


def test_what_is_not_there_is_created_with_all_its_fields() -> None:
    change = diff({key("service"): {"a": 1}}, {})[key("service")]
    assert change == Change(key("service"), "create", (), {"a": 1})


def test_what_is_there_but_not_wanted_is_let_be() -> None:
    assert diff({}, {key("service"): {"a": 1}}) == {}


def test_what_is_in_sync_has_no_change() -> None:
    resources: Resources = {key("service"): {"a": {"b": 1}}, key("volume"): {}}
    assert diff(resources, copy.deepcopy(resources)) == {}


def test_the_same_name_on_another_host_or_of_another_kind_is_another_thing() -> None:
    wanted: Resources = {key("service"): {"a": 1}}
    observed: Resources = {Key("pc2", "service", "fox"): {"a": 1}, key("volume"): {"a": 1}}
    assert diff(wanted, observed)[key("service")].action == "create"


def test_changes_come_in_the_order_of_what_is_wanted() -> None:
    names = ["c", "a", "d", "b"]
    wanted: Resources = {key("service", name): {"a": 1} for name in names}
    assert [change.name for change in diff(wanted, {key("service", "a"): {"a": 2}})] == names


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (FieldChange("a.b", 1, 2), "a.b 1 → 2"),
        (FieldChange("a.b", None, "x"), "a.b unset → x"),
        (FieldChange("a.b", "x", None), "a.b x → unset"),
        (FieldChange("a.b", 0, False), "a.b 0 → False"),
        (Change(key("service"), "update", (), {}), "update service fox"),
        (key("service"), "service fox on mainpc"),
    ],
)
def test_a_difference_is_shown_as_a_person_would_say_it(shown: object, text: str) -> None:
    assert str(shown) == text
