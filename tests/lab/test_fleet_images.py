"""Images by digest from a registry that the hosts can reach."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.conftest import Checkout, on_host, steady

REGISTRY = "127.0.0.1:5000"
SETTINGS = f"""version: 0.1
http: {{addr: "{REGISTRY}"}}
storage: {{filesystem: {{rootdirectory: /tmp/registry}}}}
"""


@pytest.fixture
def pushed() -> Iterator[str]:
    """The stand-in in a registry on mainpc, by digest."""
    on_host("mainpc", "apt-get install -y -q docker-registry && systemctl stop docker-registry")
    on_host("mainpc", f"printf %s '{SETTINGS}' > /tmp/registry.yml")
    on_host("mainpc", "systemd-run --unit=registry-of-test docker-registry serve /tmp/registry.yml")
    on_host("mainpc", f"curl -s --retry 20 --retry-connrefused --retry-delay 1 http://{REGISTRY}/v2/")
    image = on_host("mainpc", "docker images -q --no-trunc cascade/stand-in | head -n 1")
    tag = f"{REGISTRY}/stand-in:test"
    output = on_host("mainpc", f"docker tag {image} {tag} && docker push {tag} && docker rmi {tag}")
    digest = re.search(r"sha256:[0-9a-f]{64}", output)
    assert digest
    yield f"{REGISTRY}/stand-in@{digest[0]}"
    on_host("mainpc", "systemctl stop registry-of-test")
    on_host("mainpc", "apt-get purge -y -q docker-registry")


def test_a_host_pulls_an_image_by_digest_before_its_agents_start(pushed: str, variant: Checkout) -> None:
    variant.change(
        "group_data/lab.py",
        "# The groups reserve",
        f'images["cascade/auxiliary"] = RegistryImage(reference="{pushed}")\n\n# The groups reserve',
    )
    variant.change("group_data/lab.py", "import ArchiveImage", "import ArchiveImage, RegistryImage")
    planned = variant.dry().ok().planned
    variant.deploy().ok()
    assert planned[0] == f"create image {pushed}"
    spec = on_host("mainpc", "docker service inspect cascade-auxiliary_executor -f '{{json .Spec}}'")
    assert f'"Image":"{pushed}"' in spec
    steady()
    assert variant.dry().ok().planned == []
