"""What an owner may declare of a machine's GPUs."""

import pytest
from pydantic import ValidationError

from cascade.model.gpu import HostGpu
from tests.fleets import lab_fleet


@pytest.mark.parametrize(
    "version", ["1.18.2-1", "0.99.99-1", "1.19.0~rc.3-1", "1.19", "latest", "", "1.19.0-1; x"]
)
def test_a_toolkit_that_ignores_swarm_resource_or_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValidationError, match=r"1\.19\.0-1"):
        HostGpu(toolkit=version)


@pytest.mark.parametrize("version", ["1.19.0-1", "1.19.10-2", "1.20.0-1", "2.0.0-1"])
def test_a_later_toolkit_may_be_declared(version: str) -> None:
    assert HostGpu(toolkit=version).toolkit == version


@pytest.mark.parametrize("key", ["C95B321B", "c95b321b61e88c1809c4f759ddcae044f796ecb0", ""])
def test_a_key_is_told_by_its_whole_fingerprint(key: str) -> None:
    with pytest.raises(ValidationError, match="40 hexadecimal digits"):
        HostGpu(key=key)


def test_a_host_has_gpus_where_they_are_declared_and_not_absent() -> None:
    lab = lab_fleet().manager.model_copy(update={"gpu": HostGpu()})
    assert not lab.has_gpu
    assert lab.model_copy(update={"absent": frozenset()}).has_gpu
    assert not lab.model_copy(update={"absent": frozenset(), "gpu": None}).has_gpu
