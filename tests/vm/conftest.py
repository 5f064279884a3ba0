"""The system on two virtual machines: deployed once for all tests, onto what `cascade lab up --vm` finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT, Checkout
from tests.vm.machines import deploy, healthy


@pytest.fixture(scope="session")
def system() -> Checkout:
    """The checkout whose system runs on the machines; a test that changes it brings it back."""
    checkout = Checkout(ROOT, ROOT / ".venv")
    checkout.run_alone("cascade", "lab", "up", "--vm").ok()
    deploy(checkout).ok()
    healthy(checkout)
    return checkout


@pytest.fixture
def variant(system: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the deployed files to change and deploy; afterwards the system is as before."""
    yield system.variant(tmp_path / "variant")
    deploy(system).ok()
