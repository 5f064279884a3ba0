"""Runs on the manager, from standard input: the same rollout with nothing but the engine's socket.

The bound that bench/rollout.py measures Cascade against. `WAVES` is prepended: a list of waves, each a
list of {"kind", "name", "replicas", "body"}. Prints the seconds from the first post to the last gate.
"""

import json
import socket
import time
from typing import Any
from urllib.parse import quote

WAVES = globals().get("WAVES", [])
INTERVAL_S = 0.15


def call(method: str, path: str, body: Any = None) -> Any:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} /v1.44{path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/docker.sock")
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, answer = reply.decode().partition("\r\n\r\n")
    if int(head.split()[1]) >= 300:
        raise SystemExit(f"{method} {path}: {head.splitlines()[0]} {answer}")
    return json.loads(answer) if answer.strip() else None


def create(item: Any) -> None:
    if item["kind"] == "service":
        call("POST", "/services/create", item["body"])
    else:
        call("POST", f"/containers/create?name={item['name']}", item["body"])
        call("POST", f"/containers/{item['name']}/start")


def healthy(wave: Any) -> bool:
    services = {item["name"]: item["replicas"] for item in wave if item["kind"] == "service"}
    containers = [item["name"] for item in wave if item["kind"] == "container"]
    return (not services or tasks_run(services)) and all(map(container_is_healthy, containers))


def tasks_run(services: dict[str, int]) -> bool:
    filters = quote(json.dumps({"service": sorted(services), "_up-to-date": ["true"]}))
    running = [
        task for task in call("GET", f"/tasks?filters={filters}") if task["Status"]["State"] == "running"
    ]
    return len(running) >= sum(services.values())


def container_is_healthy(name: str) -> bool:
    return bool(call("GET", f"/containers/{name}/json")["State"]["Health"]["Status"] == "healthy")


began = time.monotonic()
for wave in WAVES:
    for item in wave:
        create(item)
    while not healthy(wave):
        time.sleep(INTERVAL_S)
print(time.monotonic() - began)
