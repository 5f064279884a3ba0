"""What people do to a fleet by hand, what is to be found of it, and where to look that it is mended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.lab.by_hand import (
    OLD_API,
    exchange_config,
    exchange_network,
    fail_update,
    leave,
    recreate_container,
    rejoin,
    relabel_config,
    update_service,
)
from tests.lab.conftest import on_host

SYSCTLS = "/etc/sysctl.d/90-cascade.conf"
SETTINGS = "/etc/docker/daemon.json"
AUDIO = "cascade-audio-realtime"
TEMPLATE = "TaskTemplate"
BODY = "TaskTemplate.ContainerSpec"
# Everything of a service's spec but the IDs of its networks and the number of its release.
SERVICE = " ".join(
    (
        *(
            f"{{{{json .Spec.TaskTemplate.{part}}}}}"
            for part in ("ContainerSpec", "Resources", "RestartPolicy", "Placement", "LogDriver")
        ),
        "{{range .Spec.TaskTemplate.Networks}}{{json .Aliases}}{{end}}",
        *(
            f"{{{{json .Spec.{part}}}}}"
            for part in ("Mode", "UpdateConfig", "RollbackConfig", "EndpointSpec")
        ),
        '{{index .Spec.Labels "cascade.agent"}} {{index .Spec.Labels "cascade.system"}}',
    )
)
CONTAINER = (
    "{{.State.Status}} {{json .Config.Env}} {{json .HostConfig}} "
    '{{index .Config.Labels "cascade.agent"}} '
    "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}"
)
NETWORK = '{{.Internal}} {{.Attachable}} {{index .Options "com.docker.network.driver.mtu"}}'


@dataclass(frozen=True, order=True)
class Finding:
    """A field of a thing; the field is empty where the thing is missing."""

    host: str
    kind: str
    name: str
    field: str


@dataclass(frozen=True)
class Mutation:
    """What somebody did on a host, all that is to be found of it, and a command that shows the state.

    The command prints after the repair what it printed before the change. What is found is an agent's own
    business: other agents keep their containers, but for those on a host that it `shakes`, and a `gentle`
    change leaves the agent's own ones too.
    """

    name: str
    host: str
    by_hand: str | Callable[[], None]
    finds: tuple[Finding, ...]
    state: str
    repair: str = "automatic"
    shakes: str = ""
    gentle: bool = False

    def make(self) -> None:
        """Does it."""
        if isinstance(self.by_hand, str):
            on_host(self.host, self.by_hand)
        else:
            self.by_hand()


def found(host: str, kind: str, name: str, *fields: str) -> tuple[Finding, ...]:
    return tuple(Finding(host, kind, name, field) for field in fields or ("",))


def of_file(name: str, host: str, by_hand: str, *fields: str) -> Mutation:
    state = f"sha256sum {SYSCTLS}; stat -c '%a %U %G' {SYSCTLS}"
    return Mutation(name, host, by_hand, found(host, "file", SYSCTLS, *fields), state)


def of_package(name: str, host: str, package: str, shakes: str = "") -> Mutation:
    """A package that was removed; with the engine's its unit is gone."""
    unit = found(host, "unit", "docker.service") if package == "docker.io" else ()
    return Mutation(
        name,
        host,
        f"apt-get remove -y -q {package}",
        (*found(host, "package", package), *unit),
        f"dpkg-query -W -f '${{db:Status-Status}}' {package}",
        shakes=shakes,
    )


def of_unit(name: str, host: str, by_hand: str, *fields: str, shakes: str = "") -> Mutation:
    state = "systemctl is-enabled docker.service; systemctl is-active docker.service"
    finds = found(host, "unit", "docker.service", *fields)
    return Mutation(name, host, by_hand, finds, state, shakes=shakes)


def of_settings(name: str, by_hand: str, *fields: str) -> Mutation:
    """Of the engine of pc2, which starts anew with its own settings."""
    finds = found("pc2", "daemon-settings", SETTINGS, *fields)
    return Mutation(name, "pc2", by_hand, finds, f"cat {SETTINGS}", shakes="pc2")


def of_sysctl(host: str, key: str, value: str) -> Mutation:
    finds = found(host, "sysctl", key, "value")
    return Mutation(f"{key} was changed", host, f"sysctl -q -w {key}={value}", finds, f"sysctl -n {key}")


def of_node(
    name: str, node: str, by_hand: str | Callable[[], None], *fields: str, shakes: str = ""
) -> Mutation:
    finds = found("mainpc", "node", node, *fields)
    state = (
        f"docker node ls -q --filter name={node} | wc -l;"
        f" docker node inspect {node} --format '{{{{json .Spec}}}} {{{{.Status.State}}}}'"
    )
    return Mutation(name, "mainpc", by_hand, finds, state, shakes=shakes)


def service_state(service: str) -> str:
    return f"docker service inspect {service} --format '{SERVICE}'"


def of_service(
    name: str,
    service: str,
    options: str,
    *fields: str,
    before: str = "",
    gentle: bool = False,
    repair: str = "automatic",
) -> Mutation:
    """A service that somebody updated with the command line."""
    by_hand = f"{before}docker service update -q --detach --no-resolve-image {options} {service}"
    finds = found("mainpc", "service", service, *fields)
    return Mutation(name, "mainpc", by_hand, finds, service_state(service), repair, gentle=gentle)


def of_container(
    name: str, agent: str, by_hand: str | Callable[[], None], *fields: str, gentle: bool = False
) -> Mutation:
    container = f"{AUDIO}_{agent}"
    done = by_hand.format(container) if isinstance(by_hand, str) else by_hand
    finds = found("mainpc", "container", container, *fields)
    state = f"docker inspect {container} --format '{CONTAINER}'"
    return Mutation(name, "mainpc", done, finds, state, gentle=gentle)


FEW = (
    of_file("a file was edited", "pc2", f"echo 'vm.swappiness = 1' >> {SYSCTLS}", "sha256"),
    of_file("a file was opened to everybody", "mainpc", f"chmod 666 {SYSCTLS}", "mode"),
    of_package("a package was removed", "pc2", "curl"),
    of_settings("a daemon setting was changed", f"sed -i 's/100m/1m/' {SETTINGS}", "log-opts.max-size"),
    of_sysctl("mainpc", "net.core.somaxconn", "128"),
    of_unit("a unit was disabled", "mainpc", "systemctl disable docker.service", "enabled"),
    of_node("a node label was changed", "pc2", "docker node update --label-add gpu=none pc2", "labels.gpu"),
    of_service(
        "an environment was changed",
        "cascade-core_unified-system-agent",
        "--env-add HAND=made",
        f"{BODY}.Env.HAND",
    ),
    Mutation(
        "a service was removed",
        "mainpc",
        "docker service rm cascade-pc2-core_cache-manager",
        found("mainpc", "service", "cascade-pc2-core_cache-manager"),
        service_state("cascade-pc2-core_cache-manager"),
    ),
    Mutation(
        "a network was removed, with what used it",
        "mainpc",
        "docker service rm cascade-request-handler_request-coordinator cascade-pc2-apps_unified-web-agent"
        " cascade-pc2-apps_remote-connector-agent; docker network rm cascade-external;"
        " while docker network inspect cascade-external > /dev/null 2>&1; do sleep 0.2; done",
        (
            *found("mainpc", "network", "cascade-external"),
            *found("mainpc", "service", "cascade-request-handler_request-coordinator"),
            *found("mainpc", "service", "cascade-pc2-apps_unified-web-agent"),
            *found("mainpc", "service", "cascade-pc2-apps_remote-connector-agent"),
        ),
        f"docker network inspect cascade-external --format '{NETWORK}'",
    ),
    of_container("a host container was stopped", "wake-word-detector", "docker stop {}", "running"),
    Mutation(
        "a volume was removed, after its service was scaled to nothing",
        "mainpc",
        "docker service scale -d cascade-core_system-digital-twin=0;"
        " until docker rm -f $(docker ps -aq --filter volume=cascade-core_redis_data) 2> /dev/null;"
        " docker volume rm cascade-core_redis_data 2> /dev/null;"
        " do sleep 0.2; done",
        (
            *found("mainpc", "volume", "cascade-core_redis_data"),
            *found("mainpc", "service", "cascade-core_system-digital-twin", "Mode.Replicated.Replicas"),
        ),
        "docker volume inspect cascade-core_redis_data --format '{{json .Labels}} {{json .Options}}'",
    ),
)

# pc2 is left without an engine.
HOSTS_AND_PACKAGES = (
    of_file("a file was given away", "pc2", f"chown nobody:nogroup {SYSCTLS}", "group", "owner"),
    of_file("a file was removed", "mainpc", f"rm {SYSCTLS}"),
    of_sysctl("pc2", "net.ipv4.tcp_keepalive_time", "7200"),
    of_settings("the daemon settings were removed", f"rm {SETTINGS}"),
    of_package("the engine's package was removed", "pc2", "docker.io", shakes="pc2"),
    of_package("the engine's command line was removed", "mainpc", "docker-cli"),
)


def _other_options(body: dict[str, Any]) -> None:
    body["HostConfig"]["CapAdd"] = ["NET_ADMIN"]
    body["HostConfig"]["Memory"] = 64 << 20
    body["HostConfig"]["MemorySwap"] = 128 << 20


def _other_environment(body: dict[str, Any]) -> None:
    body["Env"] = [*body["Env"], "HAND=made"]


def _without_labels(body: dict[str, Any]) -> None:
    body["Labels"] = {"owner": "alice"}


def _recreated(agent: str, change: Callable[..., None]) -> Callable[[], None]:
    return partial(recreate_container, f"{AUDIO}_{agent}", change)


CONTAINERS = (
    of_container("a host container was paused", "audio-capture", "docker pause {}", "running", gentle=True),
    of_container("a host container was removed", "fused-audio-preprocessor", "docker rm -f {}"),
    of_container(
        "a host container was recreated with other options",
        "streaming-speech-recognition",
        _recreated("streaming-speech-recognition", _other_options),
        "HostConfig.CapAdd",
        "HostConfig.Memory",
    ),
    of_container(
        "a host container was recreated with another environment",
        "streaming-interrupt-handler",
        _recreated("streaming-interrupt-handler", _other_environment),
        "Env.HAND",
    ),
    of_container(
        "a host container was recreated without Cascade's labels",
        "streaming-tts-agent",
        _recreated("streaming-tts-agent", _without_labels),
        *(f"Labels.cascade.{name}" for name in ("agent", "digest", "group", "system")),
        "Labels.owner",
    ),
    of_container(
        "a host container was disconnected from its network",
        "wake-word-detector",
        "docker network disconnect cascade-internal {}",
        "NetworkingConfig",
    ),
    of_container(
        "a host container was limited",
        "streaming-language-analyzer",
        "docker update --memory 96m --memory-swap 200m --restart no {}",
        "HostConfig.Memory",
        "HostConfig.RestartPolicy.Name",
    ),
    of_unit(
        "a unit was masked",
        "pc2",
        "systemctl mask --now docker.service docker.socket",
        "active",
        "enabled",
        shakes="pc2",
    ),
    of_settings("a daemon setting was removed", f"sed -i '/max-file/d' {SETTINGS}", "log-opts.max-file"),
)


def _undropped(spec: dict[str, Any]) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["CapabilityDrop"] = []


SPECS = (
    of_service("a variable was removed", "cascade-auxiliary_executor", "--env-rm PORT", f"{BODY}.Env.PORT"),
    of_service(
        "a variable was changed",
        "cascade-personality_human-awareness-agent",
        "--env-add PORT=1",
        f"{BODY}.Env.PORT",
    ),
    of_service(
        "an image was exchanged",
        "cascade-auxiliary_chitchat-agent",
        "--image made-by:hand",
        f"{BODY}.Image",
        before="docker tag $(docker images -q | head -n 1) made-by:hand; ",
    ),
    of_service(
        "a mount was added",
        "cascade-auxiliary_code-generator",
        "--mount-add type=tmpfs,target=/extra",
        f"{BODY}.Mounts./extra",
    ),
    of_service(
        "a capability was added",
        "cascade-auxiliary_feedback-handler",
        "--cap-add NET_ADMIN",
        f"{BODY}.CapabilityAdd",
    ),
    of_service(
        "a CPU limit was changed",
        "cascade-auxiliary_nllb-adapter",
        "--limit-cpu 0.1",
        f"{TEMPLATE}.Resources.Limits.NanoCPUs",
    ),
    of_service(
        "a memory limit was changed",
        "cascade-auxiliary_proactive-agent",
        "--limit-memory 99M",
        f"{TEMPLATE}.Resources.Limits.MemoryBytes",
    ),
    of_service(
        "a reservation was changed",
        "cascade-auxiliary_translation-service",
        "--reserve-memory 64M",
        f"{TEMPLATE}.Resources.Reservations.MemoryBytes",
    ),
    of_service(
        "a health check was slowed down",
        "cascade-auxiliary_fixed-streaming-translation",
        "--health-interval 57s",
        f"{BODY}.Healthcheck.Interval",
    ),
    of_service(
        "a service was scaled down",
        "cascade-personality_tone-detector",
        "--replicas 1",
        "Mode.Replicated.Replicas",
    ),
    of_service(
        "a constraint was added",
        "cascade-personality_empathy-agent",
        "--constraint-add node.labels.gpu!=none",
        f"{TEMPLATE}.Placement.Constraints",
    ),
    of_service(
        "a label of Cascade's was changed",
        "cascade-personality_emotion-engine",
        "--label-add cascade.agent=Nobody",
        "Labels.cascade.agent",
        gentle=True,
    ),
    of_service(
        "a network alias was taken",
        "cascade-personality_mood-tracker-agent",
        "--network-rm cascade-internal --network-add name=cascade-internal,alias=mood",
        f"{TEMPLATE}.Networks.cascade-internal.Aliases",
    ),
    of_service(
        "a service was attached to another network",
        "cascade-personality_dynamic-identity-agent",
        "--network-add cascade-external",
        f"{TEMPLATE}.Networks.cascade-external",
    ),
    of_service(
        "a restart policy was changed",
        "cascade-personality_voice-profiling-agent",
        "--restart-max-attempts 7",
        f"{TEMPLATE}.RestartPolicy.MaxAttempts",
    ),
    of_service(
        "a persistent agent was changed",
        "cascade-memory-learning_memory-client",
        "--env-add HAND=made",
        f"{BODY}.Env.HAND",
        repair="approval",
    ),
    of_unit(
        "a unit was stopped",
        "pc2",
        "systemctl stop docker.socket docker.service",
        "active",
        shakes="pc2",
    ),
)

MORE_SPECS = (
    of_service(
        "an update was sped up",
        "cascade-auxiliary_executor",
        "--update-parallelism 3",
        "UpdateConfig.Parallelism",
        gentle=True,
    ),
    of_service(
        "the order of a return was changed",
        "cascade-auxiliary_chitchat-agent",
        "--rollback-order start-first",
        "RollbackConfig.Order",
        gentle=True,
    ),
    of_service("a user was changed", "cascade-auxiliary_code-generator", "--user 65534", f"{BODY}.User"),
    of_service("arguments were added", "cascade-auxiliary_feedback-handler", "--args more", f"{BODY}.Args"),
    of_service(
        "an entry point was set",
        "cascade-auxiliary_nllb-adapter",
        "--entrypoint /stand-in/stand-in",
        f"{BODY}.Command",
    ),
    of_service(
        "a grace period was cut",
        "cascade-auxiliary_proactive-agent",
        "--stop-grace-period 3s",
        f"{BODY}.StopGracePeriod",
    ),
    of_service(
        "a host was added",
        "cascade-auxiliary_translation-service",
        "--host-add hole.example:192.0.2.1",
        f"{BODY}.Hosts",
    ),
    of_service(
        "a ulimit was added",
        "cascade-auxiliary_fixed-streaming-translation",
        "--ulimit-add nofile=512:512",
        f"{BODY}.Ulimits.nofile",
    ),
    of_service(
        "a root file system was opened to writing",
        "cascade-personality_empathy-agent",
        "--read-only=false",
        f"{BODY}.ReadOnly",
    ),
    of_service(
        "a health check was switched off",
        "cascade-personality_emotion-engine",
        "--no-healthcheck",
        *(
            f"{BODY}.Healthcheck.{name}"
            for name in ("Interval", "Retries", "StartInterval", "StartPeriod", "Test", "Timeout")
        ),
    ),
    of_service(
        "a name server was added",
        "cascade-personality_tone-detector",
        "--dns-add 192.0.2.53",
        f"{BODY}.DNSConfig",
    ),
    of_service(
        "logs were cut",
        "cascade-personality_mood-tracker-agent",
        "--log-driver json-file --log-opt max-size=1m",
        f"{TEMPLATE}.LogDriver.Options.max-file",
        f"{TEMPLATE}.LogDriver.Options.max-size",
    ),
    of_service(
        "a limit of processes was changed",
        "cascade-personality_voice-profiling-agent",
        "--limit-pids 55",
        f"{TEMPLATE}.Resources.Limits.Pids",
    ),
    of_service(
        "a working directory was set",
        "cascade-personality_human-awareness-agent",
        "--workdir /tmp",
        f"{BODY}.Dir",
    ),
    of_service(
        "the label that makes it Cascade's was removed",
        "cascade-personality_dynamic-identity-agent",
        "--label-rm cascade.system",
        "Labels.cascade.system",
        gentle=True,
    ),
    of_service(
        "a host name was set",
        "cascade-personality_emotion-synthesis-agent",
        "--hostname other",
        f"{BODY}.Hostname",
    ),
    of_settings(
        "the engine was restarted with other settings",
        f'sed -i \'s/"size": 24/"size": 25/\' {SETTINGS} && systemctl restart docker.service',
        "default-address-pools",
    ),
)

ON_PC2 = (
    of_node(
        "a node was paused",
        "mainpc",
        "docker node update --availability pause mainpc",
        "availability",
    ),
    of_service(
        "a port was published",
        "cascade-pc2-apps_unified-web-agent",
        "--publish-add mode=host,published=18099,target=7126",
        "EndpointSpec.Ports",
    ),
    Mutation(
        "capabilities were given back",
        "mainpc",
        partial(update_service, "cascade-pc2-core_async-processor", _undropped),
        found("mainpc", "service", "cascade-pc2-core_async-processor", f"{BODY}.CapabilityDrop"),
        service_state("cascade-pc2-core_async-processor"),
    ),
    of_service("a group was added", "cascade-pc2-core_resource-manager", "--group-add 44", f"{BODY}.Groups"),
    of_service(
        "a sysctl of a service was set",
        "cascade-pc2-core_memory-orchestrator-service",
        "--sysctl-add net.core.somaxconn=99",
        f"{BODY}.Sysctls",
    ),
    of_service(
        "the first process was taken away",
        "cascade-pc2-core_cache-manager",
        "--init=false",
        f"{BODY}.Init",
    ),
    of_service(
        "a label was given to containers",
        "cascade-pc2-core_observability-hub",
        "--container-label-add hand=made",
        f"{BODY}.Labels.hand",
    ),
    of_service(
        "replicas were spread",
        "cascade-pc2-apps_tutor-agent",
        "--placement-pref-add spread=node.labels.gpu",
        f"{TEMPLATE}.Placement.Preferences",
    ),
    of_service(
        "replicas were limited to one a node, which the node cannot keep",
        "cascade-pc2-apps_task-scheduler",
        "--replicas-max-per-node 1",
        f"{TEMPLATE}.Placement.MaxReplicas",
    ),
    of_service(
        "a stop signal was changed",
        "cascade-pc2-apps_context-manager",
        "--stop-signal SIGINT",
        f"{BODY}.StopSignal",
    ),
    Mutation(
        "an update by hand failed and was paused",
        "mainpc",
        partial(fail_update, "cascade-pc2-apps_experience-tracker"),
        found("mainpc", "service", "cascade-pc2-apps_experience-tracker", f"{BODY}.Image"),
        service_state("cascade-pc2-apps_experience-tracker"),
    ),
    of_service(
        "a health check was exchanged",
        "cascade-pc2-apps_authentication-agent",
        "--health-cmd true",
        f"{BODY}.Healthcheck.Test",
    ),
    of_service(
        "restarts were switched off",
        "cascade-pc2-apps_tiered-responder",
        "--restart-condition none",
        f"{TEMPLATE}.RestartPolicy.Condition",
    ),
    of_service(
        "a service was scaled up",
        "cascade-pc2-apps_vision-processing-agent",
        "--replicas 3",
        "Mode.Replicated.Replicas",
    ),
    of_service(
        "a folder of the host was mounted",
        "cascade-pc2-apps_advanced-router",
        "--mount-add type=bind,source=/etc,target=/host",
        f"{BODY}.Mounts./host",
    ),
)

USERS_OF_EXTERNAL = (
    "cascade-pc2-apps_remote-connector-agent",
    "cascade-pc2-apps_unified-web-agent",
    "cascade-request-handler_request-coordinator",
)
NODES_AND_NETWORKS = (
    Mutation(
        "a network was exchanged, with what uses it made anew",
        "mainpc",
        partial(exchange_network, "cascade-external", "--internal -o com.docker.network.driver.mtu=1300"),
        (
            *found(
                "mainpc",
                "network",
                "cascade-external",
                "attachable",
                "internal",
                "options.com.docker.network.driver.mtu",
            ),
            *(
                finding
                for service in USERS_OF_EXTERNAL
                for finding in found("mainpc", "service", service, "network cascade-external")
            ),
        ),
        f"docker network inspect cascade-external --format '{NETWORK}'",
    ),
    of_node("a node label was removed", "pc2", "docker node update --label-rm gpu pc2", "labels.gpu"),
    of_node(
        "a node was drained",
        "pc2",
        "docker node update --availability drain pc2",
        "availability",
        shakes="pc2",
    ),
)

SECOND_ENTRY = (
    of_node(
        "a node left and joined again",
        "pc2",
        rejoin,
        "earlier_entries",
        "labels.gpu",
        "labels.system",
        shakes="pc2",
    ),
)

LEFT = (
    Mutation(
        "a node left the Swarm",
        "mainpc",
        leave,
        (*found("pc2", "swarm", "pc2"), *found("mainpc", "node", "pc2")),
        "docker node ls --format '{{.Hostname}} {{.Status}} {{.Availability}}'",
        shakes="pc2",
    ),
)

VAULT = """\
name: vault
x-service: &service
  image: cascade/auxiliary
  networks: [vault-network]
  healthcheck: {test: "curl -f http://localhost:8300/health", interval: 2s, start_interval: 250ms}
  deploy: {replicas: 1, placement: {constraints: [node.labels.system == mainpc]}}
services:
  guard:
    <<: *service
    environment: {AGENT_NAME: guard, PORT: 7300, HEALTH_PORT: 8300}
    security_opt: ["no-new-privileges:true", "seccomp:./profile.json"]
    x-security: {exceptions: {security_opt: Its profile is exchanged.}}
    configs: [rules]
  porter:
    <<: *service
    environment: {AGENT_NAME: porter, PORT: 7300, HEALTH_PORT: 8300}
    security_opt: ["seccomp:./profile.json"]
    x-security: {exceptions: {security_opt: Its profile is exchanged.}}
    configs: [names]
  clerk:
    <<: *service
    environment: {AGENT_NAME: clerk, PORT: 7300, HEALTH_PORT: 8300}
    configs: [book]
  cook:
    <<: *service
    environment: {AGENT_NAME: cook, PORT: 7300, HEALTH_PORT: 8300}
    configs: [menu]
  safe:
    <<: *service
    environment: {AGENT_NAME: safe, PORT: 7300, HEALTH_PORT: 8300}
    shm_size: 32M
    security_opt: ["no-new-privileges:true"]
    configs: [names]
networks:
  vault-network: {external: true}
configs:
  rules: {content: "rules\\n", name: vault-rules}
  names: {content: "names\\n", name: vault-names}
  book: {content: "book\\n", name: vault-book}
  menu: {content: "menu\\n", name: vault-menu}
"""
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}],
}
VAULT_NETWORKS = ("vault-network", "spare-a", "spare-b", "spare-c", "spare-d")


def config_name(key: str) -> str:
    """The name that a config of the vault has in the Swarm."""
    content = f"{key}\n".encode()
    return f"vault-{key}-{hashlib.sha256(content).hexdigest()[:12]}"


def _unconfined(spec: dict[str, Any]) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Privileges"]["Seccomp"] = {"Mode": "unconfined"}


def _without_security(body: dict[str, Any]) -> None:
    body["HostConfig"]["SecurityOpt"] = []


def of_spare(name: str, network: str, options: str | None, *fields: str) -> Mutation:
    """A network that nothing uses, removed and perhaps made anew."""
    made = f"docker network create -d overlay {options} {network}" if options is not None else "true"
    return Mutation(
        name,
        "mainpc",
        f"docker network rm {network}; while docker network inspect {network} > /dev/null 2>&1;"
        f" do sleep 0.2; done; {made}",
        found("mainpc", "network", network, *fields),
        f"docker network inspect {network} --format '{NETWORK}'",
    )


CONFIG_FILE = f"/var/lib/cascade/configs/{config_name('names')}"
IN_VAULT = (
    Mutation(
        "an old client took a service's security options away",
        "mainpc",
        partial(update_service, "vault_guard", lambda _: None, OLD_API),
        found("mainpc", "service", "vault_guard", f"{BODY}.Privileges"),
        service_state("vault_guard"),
    ),
    Mutation(
        "a seccomp profile was switched off",
        "mainpc",
        partial(update_service, "vault_porter", _unconfined),
        found(
            "mainpc",
            "service",
            "vault_porter",
            f"{BODY}.Privileges.Seccomp.Mode",
            f"{BODY}.Privileges.Seccomp.Profile",
        ),
        service_state("vault_porter"),
    ),
    Mutation(
        "a config was exchanged under its name",
        "mainpc",
        partial(exchange_config, config_name("book"), "vault_clerk", "cooked\n"),
        (
            *found("mainpc", "config", config_name("book"), "sha256"),
            *found("mainpc", "service", "vault_clerk", f"config {config_name('book')}"),
        ),
        f"docker config inspect {config_name('book')} --format '{{{{json .Spec}}}}'",
    ),
    Mutation(
        "a config's labels were taken",
        "mainpc",
        partial(relabel_config, config_name("rules"), {"owner": "alice"}),
        found(
            "mainpc",
            "config",
            config_name("rules"),
            *(f"labels.cascade.{name}" for name in ("config", "group", "system")),
        ),
        f"docker config inspect {config_name('rules')}"
        " --format '{{index .Spec.Labels \"cascade.group\"}}'",
    ),
    Mutation(
        "a config was removed, with what read it",
        "mainpc",
        f"docker service rm vault_cook && docker config rm {config_name('menu')}",
        (
            *found("mainpc", "config", config_name("menu")),
            *found("mainpc", "service", "vault_cook"),
        ),
        f"docker config inspect {config_name('menu')} --format '{{{{json .Spec}}}}'",
    ),
    Mutation(
        "a config's file was edited on its host",
        "mainpc",
        f"echo mine >> {CONFIG_FILE}",
        found("mainpc", "file", CONFIG_FILE, "sha256"),
        f"cat {CONFIG_FILE}; docker exec vault_safe cat /names",
    ),
    Mutation(
        "a host container was recreated without its security options",
        "mainpc",
        partial(recreate_container, "vault_safe", _without_security),
        found("mainpc", "container", "vault_safe", "HostConfig.SecurityOpt"),
        f"docker inspect vault_safe --format '{CONTAINER}'",
    ),
    of_spare("an unused network was made internal", "spare-a", "--attachable --internal", "internal"),
    of_spare("an unused network was closed to containers", "spare-b", "", "attachable"),
    of_spare(
        "an unused network got another MTU",
        "spare-c",
        "--attachable -o com.docker.network.driver.mtu=1300",
        "options.com.docker.network.driver.mtu",
    ),
    of_spare("an unused network was removed", "spare-d", None),
)

BATCHES = {
    "a-few": FEW,
    "hosts-and-packages": HOSTS_AND_PACKAGES,
    "host-containers": CONTAINERS,
    "specs": SPECS,
    "more-specs": MORE_SPECS,
    "on-pc2": ON_PC2,
    "nodes-and-networks": NODES_AND_NETWORKS,
    "second-entry": SECOND_ENTRY,
    "left": LEFT,
}
