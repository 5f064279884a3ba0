"""A fleet judged from outside: `pytest tests/verify --inventory inventories/home.py`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

# Its import patches the standard library for gevent, which has to come before what uses threads.
import pyinfra_cli  # noqa: F401
import pytest
import testinfra
from pyinfra.api.host import Host as InventoryHost
from testinfra.host import Host as Machine

from cascade.commands.verify import AREAS
from cascade.exit_codes import INVALID, UNREACHABLE
from cascade.model.host import Host
from cascade.model.workload import Workload
from operations.session import load
from tests.verify import record
from tests.verify.conversations import Conversations
from tests.verify.evidence import Evidence, Replica
from tests.verify.expected import Expected
from tests.verify.reach import ssh_config

SSH_KEYS = ("ssh_hostname", "ssh_port", "ssh_user", "ssh_key", "ssh_known_hosts_file")
EXPECTED = pytest.StashKey[Expected]()
INVENTORY = pytest.StashKey[Mapping[str, InventoryHost]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("verify", "verification of a fleet")
    group.addoption("--inventory", type=Path, required=True, help="the inventory whose fleet is judged")
    group.addoption("--group", action="append", default=[], help="only the agents of this group")
    group.addoption("--host", action="append", default=[], help="only this host and its agents")
    record.pytest_addoption(parser)


def pytest_configure(config: pytest.Config) -> None:
    for name, what in AREAS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    try:
        run = load(config.getoption("inventory"), check_images=False)
    except SystemExit as error:
        pytest.exit("the files of the inventory are not valid", returncode=int(error.code or INVALID))
    groups, hosts = config.getoption("group"), config.getoption("host")
    _refuse("group", groups, run.fleet.chosen_groups)
    _refuse("host", hosts, tuple(run.fleet.hosts))
    strict, json = config.getoption("strict_verify"), config.getoption("verify_json")
    config.pluginmanager.register(record.Record(config.getoption("inventory"), AREAS, strict, json))
    config.stash[EXPECTED] = Expected(run.fleet, groups, hosts)
    config.stash[INVENTORY] = {name: run.state.inventory.get_host(name) for name in run.fleet.hosts}


def _refuse(what: str, named: list[str], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(named) - set(known)):
        pytest.exit(f"--{what} {unknown[0]}: there is none; known: {', '.join(known)}", returncode=INVALID)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test is of the area that its file is named after."""
    for item in items:
        area = item.path.stem.removeprefix("test_").partition("_")[0]
        item.add_marker(getattr(pytest.mark, area))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    expected = metafunc.config.stash[EXPECTED]
    subjects = {
        "node": expected.hosts,
        "workload": expected.judged,
        "in_swarm": expected.judged_services,
        "group": expected.judged_groups,
        "overlay": expected.overlays,
        "volume": expected.volumes,
    }
    for name, found in subjects.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, list(found.values()), ids=list(found), scope="session")


@pytest.fixture(scope="session")
def expected(request: pytest.FixtureRequest) -> Expected:
    """What the files ask for."""
    return request.config.stash[EXPECTED]


@pytest.fixture(scope="session")
def evidence(request: pytest.FixtureRequest, expected: Expected) -> Iterator[Evidence]:
    """What the hosts show; ends the run with 6 where one of them is not reached."""
    # The path of a socket may not be longer than about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="cascade-verify-") as folder:
        config = Path(folder) / "ssh_config"
        inventory = request.config.stash[INVENTORY]
        config.write_text("".join(_ssh_config(host, folder) for host in inventory.values()))
        try:
            yield Evidence({name: _machine(name, config) for name in inventory}, expected)
        finally:
            for name in inventory:
                subprocess.run(("ssh", "-F", config, "-O", "exit", name), check=False, capture_output=True)


def _ssh_config(host: InventoryHost, folder: str) -> str:
    said = {key: host.data.get(key) for key in SSH_KEYS}
    known = {key: value for key, value in said.items() if value is not None}
    return ssh_config(host.name, {**known, "control_path": f"{folder}/{host.name}"})


def _machine(name: str, config: Path) -> Machine:
    found = testinfra.get_host(f"ssh://{name}", ssh_config=str(config))
    try:
        user = found.run("id -u")
    except RuntimeError as error:
        (said,) = error.args
        pytest.exit(f"{name}: SSH: {said.stderr.strip()}; next: cascade doctor", returncode=UNREACHABLE)
    sudo = user.stdout.strip() != "0"
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(config), sudo=sudo)


@pytest.fixture(scope="session")
def conversations(evidence: Evidence, expected: Expected) -> Conversations:
    """What agents and hosts hear of each other."""
    return Conversations(evidence, expected)


@pytest.fixture
def machine(node: Host, evidence: Evidence) -> Machine:
    """A host as testinfra reaches it."""
    return evidence.machines[node.name]


@pytest.fixture
def replicas(workload: Workload, evidence: Evidence) -> tuple[Replica, ...]:
    """The running containers of an agent; a test of an agent that does not run fails."""
    found = evidence.replicas[workload.name]
    assert found, f"{workload.name}: no container of it runs on any host"
    return found
