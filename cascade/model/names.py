"""Names that systems other than this one must be able to read: one rule each, with an example."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from cascade.model.wording import shown

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*"


def fits(pattern: str, complaint: str, example: str) -> Callable[[str], str]:
    """A check of a whole text; raises ValueError: `'x y' is no name: write one like xy`."""
    whole = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if whole.fullmatch(text) is None:
            raise ValueError(f"{shown(text)} {complaint}: write one like {example}")
        return text

    return check


check_dns_name = fits(_DNS_NAME, "is no DNS name of lower-case letters, digits, - and dots", "mainpc")
# Docker's DNS takes an underscore, and finds names in any letter case.
check_alias = fits(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", "is no name for a network", "core.cascade"
)
check_host_name = fits(r"(?=.{1,63}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", "is no host name", "fox")

DnsName = Annotated[str, AfterValidator(check_dns_name)]
Alias = Annotated[str, AfterValidator(check_alias)]
