"""Drift documents, as `cascade drift --json` writes them."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

FINDING: Document = {
    "host": "mainpc",
    "kind": "service",
    "name": "registry",
    "group": "cascade-core",
    "agent": "ServiceRegistry",
    "action": "update",
    "field": "replicas",
    "desired": 3,
    "observed": 2,
    "repair": "automatic",
}
RELEASE: Document = {
    "number": 7,
    "time": "2026-11-21T15:00:00+00:00",
    "operator": "owner",
    "revision": "0123abc",
    "dirty": False,
    "purpose": "deploy",
    "digest": "f" * 64,
}
IN_SYNC: Document = {
    "inventory": "inventories/home.py",
    "checked_at": "2026-11-21T15:20:00+00:00",
    "release": RELEASE,
    "in_sync": True,
    "exit_code": 0,
    "findings": [],
    "unwanted": [],
    "files": {"differ": False, "changes": []},
    "unknown": [],
    "notes": [],
}
DRIFT: Document = IN_SYNC | {
    "in_sync": False,
    "exit_code": 2,
    "findings": [
        FINDING,
        FINDING | {"kind": "file", "name": "/etc/hosts", "repair": "approval"},
    ],
    "unwanted": [{"host": "mainpc", "kind": "config", "name": "old"}],
    "files": {
        "differ": True,
        "changes": [{"host": "pc2", "kind": "service", "name": "new", "action": "create"}],
    },
}
UNREACHABLE: Document = IN_SYNC | {
    "in_sync": False,
    "exit_code": 6,
    "release": None,
    "unknown": [{"host": "pc2", "what": "host", "reason": "no route"}],
}
