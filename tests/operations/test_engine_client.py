"""What the client of a host's engine must never bring along."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import cast

import docker
import pytest
from paramiko import Transport

from operations.engine_client import EngineClient


def test_no_registry_password_of_the_deploying_machine_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"auth": base64.b64encode(b"alice:planted").decode()}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"https://index.docker.io/v1/": entry}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    usual = docker.APIClient(base_url="http://192.0.2.1:80", version="1.44")
    ours = EngineClient(cast(Transport, None), lambda: None)
    assert docker.auth.get_config_header(usual, "docker.io") is not None
    assert docker.auth.get_config_header(ours, "docker.io") is None
    assert ours.trust_env is False
