"""Images on their way to the hosts: from a registry, from archives, from builds; and away again."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import secrets
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from lab.stand_in import Entry, layer_tar
from tests.lab.conftest import ROOT, Checkout, docker, look, on_host, steady
from tests.lab.releases import forget_all_but_the_last

HERE = "# The groups reserve"
REGISTRY = "10.203.0.11:5000"
STABLE = f"{REGISTRY}/team/stand-in:stable"
CA = f"/etc/docker/certs.d/{REGISTRY}/ca.crt"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FOLDER = "/var/lib/cascade/images"
MB = 1_000_000


def map_images(checkout: Checkout, source: str, *names: str) -> None:
    """Lets group_data say that these images come from this source."""
    lines = "".join(f'images["{name}"] = {source}\n' for name in names)
    checkout.change("group_data/lab.py", HERE, f"{lines}\n{HERE}")
    checkout.change(
        "group_data/lab.py", "import ArchiveImage", "import ArchiveImage, BuildImage, RegistryImage"
    )


def started(group: str) -> set[str]:
    """The running containers of a group."""
    return {id_ for id_, item in steady().items() if item["group"] == group}


def image_of(service: str) -> str:
    return on_host(
        "mainpc", f"docker service inspect {service} -f '{{{{.Spec.TaskTemplate.ContainerSpec.Image}}}}'"
    )


@dataclass(frozen=True)
class Registry:
    """A private registry with TLS on mainpc, and the login for it."""

    login: str
    password: str

    def push(self, label: str) -> str:
        """Moves the tag to a stand-in that carries this label; its digest."""
        client = "docker --config /tmp/registry/login"
        stand_in = on_host("mainpc", "docker images -q --no-trunc cascade/stand-in:lab")
        on_host("mainpc", f"docker create --name pushed {stand_in}")
        on_host(
            "mainpc", f"docker commit --change 'LABEL pushed={label}' pushed {STABLE} && docker rm pushed"
        )
        said = on_host("mainpc", f"{client} push {STABLE} && docker rmi {STABLE}")
        found = DIGEST.search(said.partition("digest:")[2])
        assert found, said
        return found[0]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Which the deploying machine may log in to, and whose CA everybody trusts."""
    made = Registry("alice", f"planted-{secrets.token_hex(8)}")
    hashed = bcrypt.hashpw(made.password.encode(), bcrypt.gensalt(4)).decode()
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/tmp/registry/data"}},
        "http": {
            "addr": REGISTRY,
            "tls": {"certificate": "/tmp/registry/ca.crt", "key": "/tmp/registry/key"},
        },
        "auth": {"htpasswd": {"realm": "lab", "path": "/tmp/registry/htpasswd"}},
    }
    on_host("mainpc", "apt-get install -y -q docker-registry && systemctl stop docker-registry")
    on_host("mainpc", "mkdir -p /tmp/registry/login")
    on_host("mainpc", f"printf %s '{made.login}:{hashed}' > /tmp/registry/htpasswd")
    on_host("mainpc", f"printf %s '{json.dumps(settings)}' > /tmp/registry/settings.yml")
    on_host(
        "mainpc",
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lab"
        f" -addext subjectAltName=IP:{REGISTRY.partition(':')[0]}"
        " -keyout /tmp/registry/key -out /tmp/registry/ca.crt",
    )
    certificate = on_host("mainpc", "cat /tmp/registry/ca.crt")
    for host in HOSTS:
        on_host(host.name, f"mkdir -p $(dirname {CA}) && printf '%s\\n' '{certificate}' > {CA}")
    on_host("mainpc", "systemd-run --unit=registry-of-test docker-registry serve /tmp/registry/settings.yml")
    wait = f"curl -s --cacert {CA} --retry 20 --retry-connrefused --retry-delay 1 https://{REGISTRY}/v2/"
    on_host("mainpc", wait)
    said = base64.b64encode(f"{made.login}:{made.password}".encode()).decode()
    login = json.dumps({"auths": {REGISTRY: {"auth": said}}})
    on_host("mainpc", f"printf %s '{login}' > /tmp/registry/login/config.json")
    (tmp_path / "login").mkdir()
    (tmp_path / "login" / "config.json").write_text(login)
    (tmp_path / "ca.crt").write_text(certificate)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "login"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    yield made
    on_host("mainpc", "systemctl stop registry-of-test; apt-get purge -y -q docker-registry")
    for host in HOSTS:
        on_host(host.name, f"rm -rf /tmp/registry $(dirname {CA})")


def test_a_tag_means_what_was_recorded_until_somebody_records_anew(
    registry: Registry, variant: Checkout
) -> None:
    first = registry.push("first")
    map_images(variant, f'RegistryImage(reference="{STABLE}", credentials=True)', "cascade/auxiliary")

    unrecorded = variant.deploy()
    assert unrecorded.code == 64
    assert f"{STABLE} is a moving reference" in unrecorded.err
    assert "cascade images pin" in unrecorded.err
    assert "Connected" not in unrecorded.err

    variant.run("cascade", "images", "pin", "inventories/lab.py").ok()
    assert json.loads((variant.path / "group_data/images.json").read_text()) == {STABLE: first}
    planned = variant.dry().planned
    assert planned[0] == f"create image {STABLE.removesuffix(':stable')}@{first}"
    pulled = variant.deploy().ok()
    assert image_of("cascade-auxiliary_executor") == f"{STABLE.removesuffix(':stable')}@{first}"
    before = steady()

    second = registry.push("second")
    listed = variant.run("cascade", "images", "list", "inventories/lab.py", "--json")
    assert listed.code == 2
    (image,) = (item for item in json.loads(listed.out)["images"] if item["name"] == "cascade/auxiliary")
    assert image["moved"] == second
    assert image["hosts"] == {"mainpc": True}
    again = variant.deploy().ok()
    assert (again.summary["verdict"], again.writes) == ("in sync", 0)
    assert set(again.execs.values()) == {1}
    assert steady().keys() == before.keys()

    kept = variant.run("cascade", "images", "pin", "inventories/lab.py").ok()
    assert second not in kept.out + (variant.path / "group_data/images.json").read_text()
    updated = variant.run("cascade", "images", "pin", "inventories/lab.py", "--update").ok()
    assert second in updated.out
    variant.deploy().ok()
    after = steady()
    replaced = {before[id_]["group"] for id_ in before.keys() - after.keys()}
    assert replaced == {"cascade-auxiliary"}
    assert not {id_ for id_ in before if before[id_]["group"] == "cascade-auxiliary"} & after.keys()
    assert image_of("cascade-auxiliary_executor") == f"{STABLE.removesuffix(':stable')}@{second}"
    assert variant.run("cascade", "images", "list", "inventories/lab.py").code == 0

    _nothing_tells(registry.password, pulled.out + pulled.err)
    _prunes_the_first_alone(variant, first, second)


def _nothing_tells(password: str, output: str) -> None:
    """The password was used on mainpc, and neither it nor its header was kept there."""
    coded = base64.b64encode(f"alice:{password}".encode()).decode()
    assert password not in output
    places = "/var/lib/cascade /root /home /etc /var/log"
    for word in (password, coded):
        assert look("mainpc", f"grep -rl -e {word} {places} 2>/dev/null") == ""
        assert look("mainpc", f"journalctl --no-pager | grep -c -e {word}") == "0"


def _prunes_the_first_alone(checkout: Checkout, first: str, second: str) -> None:
    """A tag that moved on leaves its old image behind; what it keeps for the logs has to be let go."""
    digests = "docker images --digests --format '{{.Digest}}'"
    on_host("mainpc", "docker tag cascade/stand-in:lab mine:1")
    assert first not in checkout.run("cascade", "images", "prune", "inventories/lab.py", "--ended").ok().out
    forget_all_but_the_last()
    held = checkout.run("cascade", "images", "prune", "inventories/lab.py").ok()
    assert "ended containers of replaced tasks" in held.out
    shown = checkout.run("cascade", "images", "prune", "inventories/lab.py", "--ended")
    assert shown.code == 2
    assert first in shown.out
    assert first in on_host("mainpc", digests)
    checkout.run("cascade", "images", "prune", "inventories/lab.py", "--ended", "--yes").ok()
    left = on_host("mainpc", digests)
    assert first not in left
    assert second in left
    assert on_host("mainpc", "docker images -q mine:1")
    assert checkout.run("cascade", "images", "prune", "inventories/lab.py", "--ended").code == 0
    on_host("mainpc", "docker rmi mine:1")


def heavy_stand_in(path: Path, megabytes: int, seed: int) -> str:
    """An archive of a stand-in with a layer of noise on top; its image ID."""
    with tarfile.open(ROOT / ".lab/stand-in.tar") as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    (saved,) = json.loads(files["manifest.json"])
    config = json.loads(files[saved["Config"]])
    noise = layer_tar({"noise": Entry(0o644, random.Random(seed).randbytes(megabytes * MB))})
    config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(noise).hexdigest()}")
    config["history"].append({"created_by": "noise"})
    text = json.dumps(config, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": ["heavy:1"], "Layers": ["layer.tar", "noise.tar"]}]
    members = {
        f"{digest}.json": text,
        "layer.tar": files[saved["Layers"][0]],
        "noise.tar": noise,
        "manifest.json": json.dumps(manifest).encode(),
    }
    path.write_bytes(layer_tar({name: Entry(0o644, content) for name, content in members.items()}))
    return f"sha256:{digest}"


def bytes_received(host: str) -> int:
    """What a host's network interfaces have taken in."""
    return sum(map(int, on_host(host, "cat /sys/class/net/eth*/statistics/rx_bytes").split()))


def part_size(host: str, image: str) -> int:
    part = f"{FOLDER}/{image.removeprefix('sha256:')}.part"
    return int(look(host, f"stat -c %s {part} 2>/dev/null") or 0)


def killed_midway(checkout: Checkout, image: str, enough: int) -> None:
    """Begins to deploy, and is killed when so many bytes of the image lie on both hosts."""
    environment = {**os.environ, "PATH": f"{checkout.venv}/bin:{os.environ['PATH']}"}
    argv = ("pyinfra", "-y", "inventories/lab.py", "deploy.py")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        argv, cwd=checkout.path, env=environment, stdin=quiet, stdout=quiet, stderr=quiet
    ) as process:

        def midway() -> None:
            sizes = {host.name: part_size(host.name, image) for host in HOSTS}
            if min(sizes.values()) < enough:
                raise LabError("the delivery", f"has brought {sizes}", "look at the deployment")

        until("the delivery", midway, timeout_s=60, next_step="look at the deployment")
        process.kill()


def when_stored(host: str, image: str) -> float:
    """When a host's engine had an image whole."""
    digest = image.removeprefix("sha256:")
    stored = f"/var/lib/docker/image/*/imagedb/content/sha256/{digest}"
    return float(on_host(host, f"stat -c %.Y {stored}"))


def test_an_interrupted_transfer_goes_on_and_is_whole_on_both_hosts_before_anything_stops(
    variant: Checkout, fleet: Checkout, tmp_path: Path
) -> None:
    archive = tmp_path / "heavy.tar"
    image, size = heavy_stand_in(archive, 200, seed=1), archive.stat().st_size
    before = steady()
    map_images(variant, f'ArchiveImage(path=Path("{archive}"))', "cascade/auxiliary", "cascade/pc2-core")

    killed_midway(variant, image, enough=20 * MB)
    assert steady().keys() == before.keys()
    there = {host.name: part_size(host.name, image) for host in HOSTS}
    assert all(0 < count < size for count in there.values())
    received = {host.name: bytes_received(host.name) for host in HOSTS}
    resumed = variant.deploy().ok()

    assert len(re.findall(r"heavy\.tar: .* of 2\d\d\.\d MB, resumed at \d+\.\d MB", resumed.err)) >= 2
    for host, count in received.items():
        assert size - there[host] < bytes_received(host) - count < size
        assert on_host(host, f"ls {FOLDER}") == "delivered.json"
        assert on_host(host, f"stat -c '%a %U' {FOLDER} {FOLDER}/delivered.json") == "700 root\n600 root"
    ids = {host.name: on_host(host.name, "docker images -q --no-trunc heavy:1") for host in HOSTS}
    assert set(ids.values()) == {image}
    _all_there_before_the_first_stop(image, before)

    again = variant.deploy().ok()
    assert (again.writes, set(again.execs.values())) == (0, {1})
    _prunes_what_was_heavy(fleet)


def _all_there_before_the_first_stop(image: str, before: dict[str, dict[str, Any]]) -> None:
    after = steady()
    assert {before[id_]["group"] for id_ in before.keys() - after.keys()} == {
        "cascade-auxiliary",
        "cascade-pc2-core",
    }
    ended = []
    for host in HOSTS:
        gone = [id_ for id_ in before.keys() - after.keys() if before[id_]["host"] == host.name]
        shown = on_host(host.name, f"docker inspect -f '{{{{.State.FinishedAt}}}}' {' '.join(gone)}")
        ended += [datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00") for stamp in shown.split()]
    stored = max(when_stored(host.name, image) for host in HOSTS)
    assert stored < min(ended).timestamp()


def _prunes_what_was_heavy(fleet: Checkout) -> None:
    """Back on the stand-in, nothing wants the heavy one, once nobody goes back to its release."""
    fleet.deploy().ok()
    steady()
    forget_all_but_the_last()
    shown = fleet.run("cascade", "images", "prune", "inventories/lab.py", "--ended", "--json")
    assert shown.code == 2
    found = json.loads(shown.out)
    heavy = [item for item in found["leftovers"] if "heavy:1" in item["names"]]
    assert {item["host"] for item in heavy} == {"mainpc", "pc2"}
    assert all(200 * MB <= item["bytes"] < 201 * MB for item in heavy)
    assert not any("cascade/stand-in:lab" in item["names"] for item in found["leftovers"])
    assert not found["removed"]
    fleet.run("cascade", "images", "prune", "inventories/lab.py", "--ended", "--yes").ok()
    for host in HOSTS:
        assert on_host(host.name, "docker images -q heavy") == ""
        assert on_host(host.name, "docker images -q cascade/stand-in:lab")
    assert steady()


@pytest.fixture
def base() -> None:
    """The stand-in in this machine's engine, for others to build from."""
    subprocess.run((*docker(), "load", "-q", "-i", str(ROOT / ".lab/stand-in.tar")), check=True)


@pytest.mark.usefixtures("base")
def test_a_context_is_built_delivered_and_runs(variant: Checkout) -> None:
    context = variant.path / "greeter"
    context.mkdir()
    (context / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY greeting /greeting\nUSER 65534:65534\n")
    (context / "greeting").write_text("good morning\n")
    source = 'BuildImage(context=Path("greeter"), arguments={"BASE": "cascade/stand-in:lab"})'
    map_images(variant, source, "cascade/auxiliary")

    unbuilt = variant.deploy()
    assert unbuilt.code == 64
    assert "greeter was never built here; run `cascade images build INVENTORY`" in unbuilt.err
    variant.run("cascade", "images", "build", "inventories/lab.py", "cascade/auxiliary").ok()
    variant.deploy().ok()
    agents = {id_: item for id_, item in steady().items() if item["group"] == "cascade-auxiliary"}
    assert len(agents) == 8
    for id_, item in agents.items():
        assert on_host(item["host"], f"docker exec {id_} cat /greeting") == "good morning"
    assert variant.dry().ok().planned == []

    (context / "greeting").write_text("good evening\n")
    changed = variant.deploy()
    assert changed.code == 64
    assert "greeter changed since it was built; run `cascade images build INVENTORY`" in changed.err


@pytest.mark.usefixtures("base")
def test_a_base_that_is_nowhere_fails_the_build_with_a_next_step(variant: Checkout) -> None:
    context = variant.path / "greeter"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM registry.invalid/nowhere:1\n")
    map_images(variant, 'BuildImage(context=Path("greeter"))', "cascade/auxiliary")
    failed = variant.run("cascade", "images", "build", "inventories/lab.py")
    assert failed.code == 1
    assert "docker load" in failed.err
    assert "Traceback" not in failed.err


def test_a_rehearsal_needs_no_images(variant: Checkout) -> None:
    variant.change("group_data/lab.py", HERE, f"images = {{}}\n{HERE}")
    assert "is mapped to no image" in variant.deploy().err
    rehearsed = variant.run("cascade", "apply", "inventories/lab.py", "--yes", "--stand-ins").ok()
    assert "0 to add, 0 to change, 0 to replace, 0 to remove" in rehearsed.out
