"""What this machine's apt knows: its mirrors, its settings, and how to install a package."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.commands import as_root, output, run_logged, succeeds
from lab.errors import LabError
from lab.progress import Say, step

SETTINGS_THAT_TRAVEL = ("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries")
PROXY_VARIABLES = {"http_proxy": "Acquire::http::Proxy", "https_proxy": "Acquire::https::Proxy"}

_HOW = "apt" if os.geteuid() == 0 else "sudo apt"


@dataclass(frozen=True)
class Source:
    """One package source: the same whether a .list or a .sources file names it."""

    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Mirrors:
    """Where this machine gets Debian from."""

    archive: str
    security: str | None


def parse_one_line(text: str) -> list[Source]:
    """Read `deb [options] uri suite components` lines."""
    pattern = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)")
    found = (pattern.match(line.strip()) for line in text.splitlines())
    return [Source(match[1], match[2], tuple(match[3].split())) for match in found if match]


def parse_deb822(text: str) -> list[Source]:
    """Read the stanzas of a .sources file, leaving out disabled ones and source packages."""
    sources = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            sources += [
                Source(uri, suite, tuple(fields.get("components", [])))
                for uri in fields.get("uris", [])
                for suite in fields.get("suites", [])
            ]
    return sources


def _fields(stanza: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if not line[:1].isspace() and ":" in line:
            name, _, line = line.partition(":")
        fields.setdefault(name.strip().lower(), []).extend(line.split())
    return fields


def debian_mirrors(sources: Iterable[Source], codename: str) -> Mirrors | None:
    """The archive and the security archive among a Debian machine's sources."""
    official = [source for source in sources if "main" in source.components]
    archive = next((source.uri for source in official if source.suite == codename), None)
    security = next((source.uri for source in official if source.suite == f"{codename}-security"), None)
    return Mirrors(_plain(archive), _plain(security) if security else None) if archive else None


def _plain(uri: str) -> str:
    """Follow a `mirror+file:` list, as cloud images have it, to its first mirror."""
    if not uri.startswith("mirror+file:"):
        return uri
    listed = Path(uri.removeprefix("mirror+file:")).read_text().split()
    return listed[0]


def machine_mirrors(etc: Path = Path("/etc")) -> Mirrors | None:
    """This machine's Debian mirrors; None where it is no Debian, so that they cannot be derived."""
    release = _os_release(etc)
    if release.get("ID") != "debian":
        return None
    return debian_mirrors(_machine_sources(etc / "apt"), release.get("VERSION_CODENAME", ""))


def _machine_sources(folder: Path) -> list[Source]:
    one_line = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]
    deb822 = sorted(folder.glob("sources.list.d/*.sources"))
    return [
        *(source for file in deb822 for source in parse_deb822(file.read_text())),
        *(source for file in one_line if file.exists() for source in parse_one_line(file.read_text())),
    ]


def _os_release(etc: Path) -> dict[str, str]:
    lines = (etc / "os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def machine_settings() -> str:
    """The settings that decide how packages are fetched, as lines of an apt.conf file."""
    dumped = output(["apt-config", "dump"])
    return "".join(f"{line}\n" for line in [*travelling(dumped), *proxies(os.environ)])


def travelling(dumped: str) -> list[str]:
    """The lines of `apt-config dump` that a test host needs too."""
    return [
        line for line in dumped.splitlines() if line.startswith(SETTINGS_THAT_TRAVEL) and '""' not in line
    ]


def proxies(environment: Mapping[str, str]) -> list[str]:
    """The proxies that apt takes from the environment, written as settings."""
    return [f'{name} "{environment[key]}";' for key, name in PROXY_VARIABLES.items() if environment.get(key)]


def install(packages: Sequence[str], log: Path, say: Say) -> None:
    """Install packages on this machine, saying so."""
    if not succeeds(["apt-get", "--version"]):
        names = " ".join(packages)
        raise LabError(
            "this machine", f"has no apt to install {names} with", f"install {names} and run it again"
        )
    quiet = ("env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1")
    command = as_root(*quiet, "apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)
    with step(say, f"Installing {' '.join(packages)} on this machine with {_HOW}"):
        update(log, say)
        run_logged(command, log, say, timeout_s=900)


def update(log: Path, say: Say) -> None:
    """Fetch this machine's package lists anew."""
    run_logged(as_root("apt-get", "update", "-q"), log, say, timeout_s=300)


def download(package: str, folder: Path) -> None:
    """Download a package's file into a folder, without installing it."""
    output(
        ["sh", "-c", 'cd "$1" && apt-get download -q "$2"', "download", str(folder), package], timeout_s=300
    )


def unpack(package: str, folder: Path, log: Path, say: Say) -> None:
    """Lay a package's files out in a folder, without installing it."""
    if not has_candidate(package):
        update(log, say)
    download(package, folder)
    output(["dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), str(folder)])


def has_candidate(package: str) -> bool:
    """Whether the package lists offer a package."""
    found = re.search(r"Candidate: (\S+)", output(["apt-cache", "policy", package]))
    return found is not None and found[1] != "(none)"
