"""Where a machine gets Debian from, read from both forms of source files."""

from pathlib import Path

import pytest

from lab import apt
from lab.apt import Mirrors, Source

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # trailing words
deb [signed-by=/etc/keys/x.gpg arch=amd64] https://third.example/apt bookworm stable
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/security bookworm-security main
"""

DEB822 = """\
Types: deb deb-src
# a comment inside a stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 mDMEXAMPLE

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


def test_one_line_sources_lose_comments_options_and_source_packages() -> None:
    assert apt.parse_one_line(ONE_LINE) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Source("https://third.example/apt", "bookworm", ("stable",)),
        Source("http://mirror.example/security", "bookworm-security", ("main",)),
    ]


def test_deb822_sources_lose_disabled_stanzas_and_keys() -> None:
    assert apt.parse_deb822(DEB822) == [
        Source("http://mirror.example/debian", "bookworm", ("main",)),
        Source("http://mirror.example/debian", "bookworm-updates", ("main",)),
        Source("http://mirror.example/security", "bookworm-security", ("main",)),
    ]


@pytest.mark.parametrize("sources", [apt.parse_one_line(ONE_LINE), apt.parse_deb822(DEB822)])
def test_both_forms_give_the_same_mirrors(sources: list[Source]) -> None:
    expected = Mirrors("http://mirror.example/debian", "http://mirror.example/security")
    assert apt.debian_mirrors(sources, "bookworm") == expected


def test_a_third_party_source_is_no_mirror() -> None:
    third = [Source("https://third.example/apt", "bookworm", ("stable",))]
    assert apt.debian_mirrors(third, "bookworm") is None


def test_a_machine_without_security_updates_has_none() -> None:
    sources = [Source("http://mirror.example/debian", "bookworm", ("main",))]
    assert apt.debian_mirrors(sources, "bookworm") == Mirrors("http://mirror.example/debian", None)


def test_a_mirror_list_is_followed_to_its_first_mirror(tmp_path: Path) -> None:
    listed = tmp_path / "debian.list"
    listed.write_text("http://first.example/debian\nhttp://second.example/debian\n")
    sources = [Source(f"mirror+file:{listed}", "trixie", ("main",))]
    assert apt.debian_mirrors(sources, "trixie") == Mirrors("http://first.example/debian", None)


def etc_of(folder: Path, identity: str) -> Path:
    (folder / "apt/sources.list.d").mkdir(parents=True)
    (folder / "os-release").write_text(f'ID={identity}\nVERSION_CODENAME="bookworm"\n')
    (folder / "apt/sources.list.d/debian.sources").write_text(DEB822)
    return folder


def test_a_debian_machine_gives_its_mirrors(tmp_path: Path) -> None:
    found = apt.machine_mirrors(etc_of(tmp_path, "debian"))
    assert found == Mirrors("http://mirror.example/debian", "http://mirror.example/security")


def test_an_ubuntu_machine_gives_none(tmp_path: Path) -> None:
    assert apt.machine_mirrors(etc_of(tmp_path, "ubuntu")) is None


def test_only_settings_about_fetching_travel() -> None:
    dumped = (
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::Check-Date "false";\n'
        'Acquire::https "";\n'
        'APT::Install-Recommends "1";\n'
        'DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";\n'
    )
    assert apt.travelling(dumped) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Date "false";',
    ]


def test_proxies_of_the_environment_become_settings() -> None:
    assert apt.proxies({"http_proxy": "http://proxy.example:3128", "HOME": "/root", "https_proxy": ""}) == [
        'Acquire::http::Proxy "http://proxy.example:3128";'
    ]
