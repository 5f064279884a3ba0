"""Fields in words: every line that `plan` and `drift` say of one."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.planning.diff import FieldChange
from cascade.planning.naming import line_of

CONTAINER = "TaskTemplate.ContainerSpec"
SECOND = 10**9


@pytest.mark.parametrize(
    ("path", "observed", "desired", "line"),
    [
        ("Mode.Replicated.Replicas", 2, 3, "~ replicas 2 → 3"),
        (f"{CONTAINER}.Image", "a@sha256:1", "a@sha256:2", "~ image a@sha256:1 → a@sha256:2"),
        (f"{CONTAINER}.Env.DB_HOST", None, "db", "+ env DB_HOST = db"),
        (f"{CONTAINER}.Env.a.b", "1", None, "- env a.b = 1"),
        (f"{CONTAINER}.Env.EMPTY", None, "", "+ env EMPTY = empty"),
        (f"{CONTAINER}.Labels.cascade.group", "a", "b", "~ container label cascade.group a → b"),
        ("Labels.cascade.group", "a", "b", "~ label cascade.group a → b"),
        (f"{CONTAINER}.Mounts./data.ReadOnly", None, True, "~ mount /data read only no → yes"),
        (
            f"{CONTAINER}.Mounts./data",
            {"Type": "volume", "Source": "x", "Target": "/data"},
            None,
            "- mount /data = Type=volume, Source=x, Target=/data",
        ),
        (f"{CONTAINER}.Healthcheck.Interval", 5 * SECOND, SECOND // 2, "~ health check interval 5 s → 0.5 s"),
        (f"{CONTAINER}.Healthcheck.Test", ["CMD", "x"], ["NONE"], "~ health check test CMD, x → NONE"),
        (f"{CONTAINER}.CapabilityAdd", None, ["CAP_A", "CAP_B"], "+ added capabilities = CAP_A, CAP_B"),
        (f"{CONTAINER}.Privileges.NoNewPrivileges", None, True, "~ no-new-privileges no → yes"),
        (f"{CONTAINER}.Ulimits.nofile.Soft", 1, 2, "~ ulimit nofile soft 1 → 2"),
        ("TaskTemplate.Resources.Limits.NanoCPUs", 5 * 10**8, SECOND, "~ CPU limit 0.5 → 1"),
        ("TaskTemplate.Resources.Limits.MemoryBytes", 1 << 20, 1 << 30, "~ memory limit 1 MiB → 1024 MiB"),
        ("TaskTemplate.Placement.Constraints", ["a"], ["a", "b"], "~ constraints a → a, b"),
        ("TaskTemplate.Networks.net.Aliases", ["a"], ["b"], "~ network net aliases a → b"),
        ("EndpointSpec.Ports.90/tcp.TargetPort", 1, 2, "~ endpoint port 90/tcp target port 1 → 2"),
        ("UpdateConfig.Parallelism", 1, 2, "~ update parallelism 1 → 2"),
        ("HostConfig.Memory", 1 << 20, None, "- memory limit = 1 MiB"),
        ("HostConfig.RestartPolicy.Name", "no", "always", "~ restart policy name no → always"),
        ("running", None, True, "~ running no → yes"),
        ("enabled", False, True, "~ enabled no → yes"),
        ("mode", "666", "644", "~ mode 666 → 644"),
        ("sha256", "a" * 64, "b" * 64, f"~ content sha256 {'a' * 12} → sha256 {'b' * 12}"),
        ("log-opts.max-size", "1m", "100m", "~ log-opts.max-size 1m → 100m"),
        ("labels.gpu", None, "true", "+ label gpu = true"),
    ],
)
def test_a_field_is_said_as_a_person_would(path: str, observed: Any, desired: Any, line: str) -> None:
    assert line_of(FieldChange(path, observed, desired)) == line
