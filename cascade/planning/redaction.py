"""Specs that may be shown: without the values that look like secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

REDACTED = "***"
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|private|auth|webhook", re.IGNORECASE)
_OPTION = re.compile(r"--?[\w.-]+")
_OPTION_IN_LINE = re.compile(r"(?:^|\s)(--?[\w.-]+)(?:\s+|=)(\S+)")
# A password may hold what an address may not: all before the last @ is taken for it.
_IN_ADDRESS = re.compile(r"(?<=://)[^\s'\"]{1,1000}(?=@)")
# `name=value` and `name: value` inside a line: of a shell, a header, a query, a connection string, JSON.
_IN_LINE = re.compile(
    r"""(?<![\w.-])([\w.-]+)["']?[ \t]{0,30}[=:][ \t]{0,30}"""
    r"""(?=(?:(?:basic|bearer)\s)?["']?([^\s"';&,}]{1,2000}))""",
    re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(.*?)(?:-----END|\Z)", re.DOTALL)
_AGE_IDENTITY = re.compile(r"AGE-(?:PLUGIN-[\w-]+|SECRET-KEY)-1[02-9AC-HJ-NP-Z]+", re.IGNORECASE)
# Options that are secret in some programs only.
_OF_A_PROGRAM = re.compile(
    r"""(?<![\w-])(?:curl|wget)\s(?:.{0,500}\s)?(?:-u|--user)[\s=]["']?[^\s:]{1,200}:([^\s"']+)"""
    r"""|(?<![\w-])(?:mysql|mariadb)[\w-]*\s(?:.{0,500}\s)?-p["']?([^\s"']+)"""
    r"""|(?<![\w-])redis-cli\s(?:.{0,500}\s)?-a\s["']?([^\s"']+)"""
)
# Names that everybody may know, though somebody's password may be the same word.
_NAMES = {"Aliases", "Image", "Name", "Source", "Target", "Type"}
# Names of secrets are no secrets: in the engine's own references, and in the labels that Cascade sets.
_TELL_A_NAME = {"SecretName": "File", "cascade.secret": "cascade.system"}
# Where the file of a secret is, neither.
_A_FILE = re.compile(r"/run/secrets/[\w./-]+(?!\S)")
# Where the engine's specs have seccomp profiles.
_PROFILES = {"Profile", "SecurityOpt"}
# What is shorter would be found in too many other words.
_LEAST = 4


def looks_secret(name: str) -> bool:
    """Whether the name of a variable or option says that its value is nobody's business."""
    return _SECRET.search(name) is not None


def _hides(name: str, value: str) -> bool:
    """Whether this value stands under a secret name, and is not where a file with one is."""
    a_path = name.lower().endswith("_file") and _A_FILE.match(value)
    return looks_secret(name) and not a_path


def redacted(spec: Any) -> Any:
    """The spec with *** for each value under a secret name, and wherever that value stands again."""
    return _without(spec, secrets_of(spec))


def secrets_of(spec: Any) -> list[str]:
    """The values that look like secrets, the longest first."""
    return sorted(set(_secrets(spec)) - {""}, key=len, reverse=True)


def masked(value: Any, secrets: list[str], name: str = "") -> Any:
    """A part of a spec that stands under a name, without these secrets of the whole."""
    if name != "AGENT_CONFIG" or not isinstance(value, str):
        return _without(value, secrets, name)
    return _masked(f"{name}={value}", secrets, "").partition("=")[2]


def shows(text: str, secret: str) -> bool:
    """Whether a text gives a secret away; a very short one stands by chance in too many words."""
    return secret == text or (len(secret) >= _LEAST and secret in text)


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    for key, item in _items(value, name):
        yield from _secrets(item, key)
    if isinstance(value, list) and name not in _PROFILES:
        yield from _of_programs(" ".join(item for item in value if isinstance(item, str)))
    if isinstance(value, str):
        yield from _of_profile(value, name) if name in _PROFILES else _of_text(value, name)


@lru_cache(maxsize=64)
def _of_profile(value: str, name: str) -> tuple[str, ...]:
    """Each container has a long one, and most have the same."""
    return tuple(_of_text(value, name))


def _of_text(value: str, name: str) -> Iterator[str]:
    yield from _of_programs(value)
    yield from (line for body in _PRIVATE_KEY.findall(value) for line in body.split())
    yield from _AGE_IDENTITY.findall(value)
    yield from (word for key, word in _IN_LINE.findall(value) if _hides(key, word))
    variable, _, text = _assignment(value, name)
    if (config := _config(variable, text)) is not None:
        yield from _secrets(config)
    elif text and _hides(variable, text):
        yield text
    yield from (user.partition(":")[2] for user in _IN_ADDRESS.findall(value))
    yield from (word.strip("'\"") for option, word in _OPTION_IN_LINE.findall(value) if looks_secret(option))


def _of_programs(line: str) -> Iterator[str]:
    for found in _OF_A_PROGRAM.findall(line):
        yield from found


def _items(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What stands inside, each with the name that it stands under: of a list, the option before it."""
    if isinstance(value, dict):
        yield from ((_said_of(str(key), value), item) for key, item in value.items())
    elif isinstance(value, list):
        for before, item in zip([None, *value], value, strict=False):
            yield (before if isinstance(before, str) and _OPTION.fullmatch(before) else name), item


def _said_of(key: str, beside: Any) -> str:
    """The name under which a value of a map stands; none for the name of a secret."""
    return "" if _TELL_A_NAME.get(key) in beside else key


def _assignment(text: str, name: str) -> tuple[str, str, str]:
    """`NAME=value` or `--option=value` as its parts; else the whole text under its own name."""
    variable, equals, value = text.partition("=")
    return (variable, equals, value) if equals and not re.search(r"\s", variable) else (name, "", text)


def _config(variable: str, text: str) -> Any:
    """An agent's own settings, which its environment holds as JSON."""
    try:
        return json.loads(text) if variable == "AGENT_CONFIG" else None
    except ValueError:
        return None


def _without(value: Any, secrets: list[str], name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without(item, secrets, _said_of(str(key), value)) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets, key) for key, item in _items(value, name)]
    return _masked(value, secrets, name) if isinstance(value, str) and name not in _NAMES else value


def _masked(whole: str, secrets: list[str], name: str) -> str:
    variable, equals, text = _assignment(whole, name)
    if (config := _config(variable, text)) is not None:
        masked = json.dumps(_without(config, secrets), sort_keys=True, separators=(",", ":"))
        return f"{variable}={masked}"
    if text and _hides(variable, text):
        return f"{variable}={REDACTED}" if equals else REDACTED
    for secret in (secret for secret in secrets if shows(whole, secret)):
        whole = whole.replace(secret, REDACTED)
    return _IN_ADDRESS.sub(REDACTED, whole)
