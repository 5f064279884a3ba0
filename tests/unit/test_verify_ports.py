"""Published ports in the engine's answers, and its listeners among those of a host."""

from __future__ import annotations

from tests.verify.ports import engines_listening, ports_of_container, ports_of_service

# What ss of iproute2 6.15 printed on two hosts, and a proxy of the engine as ss prints it.
SS = """\
LISTEN 0      4096     10.203.0.11:2377       0.0.0.0:*    users:(("dockerd",pid=827,fd=25))
LISTEN 0      4096       127.0.0.1:41653      0.0.0.0:*    users:(("containerd",pid=728,fd=10))
LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=119,fd=6))
LISTEN 0      4096     10.203.0.11:7946       0.0.0.0:*    users:(("dockerd",pid=827,fd=31))
LISTEN 0      4096      127.0.0.11:40897      0.0.0.0:*
LISTEN 0      4096            [::]:8080          [::]:*    users:(("docker-proxy",pid=900,fd=4))
"""


def test_the_engine_listens_where_its_daemon_or_a_proxy_of_it_does() -> None:
    assert engines_listening(SS.splitlines()) == {2377, 7946, 8080}


def test_a_service_publishes_what_its_endpoint_says() -> None:
    port = {"Protocol": "tcp", "TargetPort": 26002, "PublishedPort": 26002, "PublishMode": "ingress"}
    assert ports_of_service({"Endpoint": {"Ports": [port]}}) == {(26002, 26002, "tcp", "ingress")}
    assert ports_of_service({"Endpoint": {"Spec": {}}}) == set()


def test_a_container_publishes_what_is_bound_and_not_what_its_image_only_exposes() -> None:
    bindings = [{"HostIp": "0.0.0.0", "HostPort": "81"}, {"HostIp": "::", "HostPort": "81"}]
    settings = {"Ports": {"1000/udp": bindings, "2000/tcp": None}}
    assert ports_of_container({"NetworkSettings": settings}) == {(81, 1000, "udp", "host")}
