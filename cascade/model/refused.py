"""What Compose allows and Cascade refuses: each key by name, why, and what to write instead.

Source: the Compose Specification's schema. `*` stands for a name of the file's own, and list items have no
number: `services.*.ports.host_ip`. A refused key is refused with all that is below it. One value of a key
that is honoured otherwise is written `key = value`.
"""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """Why a key is refused, and what to write instead."""

    reason: str
    fix: str


_LIMITS = "deploy.resources alone says what a service may use"
_NO_FIELD = "a Swarm service has no such setting"
_NETWORK = "networks are declared once for all groups, in group_data"
_STORE = "write external: true, and put the value in the store: cascade secrets set INVENTORY NAME"
_NAMESPACE = "a Swarm service has namespaces of its own and shares none"
_ONE_FILE = "each group file stands by itself"
_GPU = "write runtime: nvidia, x-gpu: {vram_budget: 80%}, and a constraint on the GPU's host"
_ADDRESS = "addresses are the Swarm's to give"

REFUSED: dict[str, Refusal] = {
    "include": Refusal(_ONE_FILE, "write its services here, or make it a group of its own"),
    "models": Refusal("Cascade runs services, not model runners", "write a service that serves the model"),
    # Configs
    "configs.*.environment": Refusal(
        "the deploying machine's environment is not passed on", "write content: or file:"
    ),
    "configs.*.external": Refusal(
        "a config comes from the files, so that it is there for every release",
        "write file: with its content beside this file",
    ),
    "configs.*.labels": Refusal("a config carries Cascade's labels only", "remove it"),
    "configs.*.template_driver": Refusal(
        "what a service reads is what the file says", "write the values themselves"
    ),
    # Secrets
    "secrets.*.driver": Refusal("the Swarm itself keeps secrets", "remove it"),
    "secrets.*.driver_opts": Refusal("the Swarm itself keeps secrets", "remove it"),
    "secrets.*.environment": Refusal("the deploying machine's environment is not passed on", _STORE),
    "secrets.*.external.name": Refusal("an old form", "write external: true and name: beside it"),
    "secrets.*.file": Refusal(
        "a value in a plain file would lie open, in git or on this machine", f"{_STORE} --file PATH"
    ),
    "secrets.*.labels": Refusal("a secret carries Cascade's labels only", "remove it"),
    "secrets.*.template_driver": Refusal(
        "what a service reads is the value in the store", "put the whole text in the store"
    ),
    # Networks
    "networks.*.attachable": Refusal(
        _NETWORK, "remove it: an Overlay there is attachable unless it says otherwise"
    ),
    "networks.*.driver": Refusal(f"{_NETWORK}, and all are overlays", "remove it"),
    "networks.*.driver_opts": Refusal(
        _NETWORK, "remove it; the one option there is mtu: write Overlay(…, mtu=1400) there"
    ),
    "networks.*.enable_ipv4": Refusal(f"{_NETWORK}, and all have IPv4", "remove it"),
    "networks.*.enable_ipv6": Refusal(f"{_NETWORK}, and all have IPv4 only", "remove it"),
    "networks.*.external.name": Refusal("an old form", "write external: true and name: beside it"),
    "networks.*.internal": Refusal(_NETWORK, "write Overlay(…, internal=True) there"),
    "networks.*.ipam": Refusal(_NETWORK, 'write Overlay(…, subnet="192.0.2.0/24") there'),
    "networks.*.labels": Refusal(_NETWORK, "remove it: a network carries Cascade's labels only"),
    # Volumes
    "volumes.*.driver_opts": Refusal(
        "volumes are plain ones of each host",
        "remove it; mount the remote or special file system on the host and bind-mount its folder",
    ),
    "volumes.*.external": Refusal(
        "a volume that is missing would be made, on the host where its service starts",
        "write name: with the volume's name on the host; one that exists is used as it is",
    ),
    "volumes.*.labels": Refusal("a volume that exists cannot be labelled again", "remove it"),
    # Services
    "services.*.agents": Refusal("unknown key", "write it as x-agents"),
    "services.*.annotations": Refusal(_NO_FIELD, "write labels"),
    "services.*.blkio_config": Refusal(_NO_FIELD, "remove it, or limit the disk's use on the host"),
    "services.*.build": Refusal(
        "images are built apart from the group file",
        'write image: NAME, and in group_data images = {"NAME": BuildImage(context=Path("…"))}',
    ),
    "services.*.cgroup": Refusal(_NAMESPACE, "remove it"),
    "services.*.cgroup_parent": Refusal(_NO_FIELD, "write the limits under deploy.resources.limits"),
    "services.*.container_name": Refusal(
        "containers are named after group and service, so that there can be replicas and updates",
        "remove it; other services reach this one by its key, or by networks.NAME.aliases",
    ),
    "services.*.cpu_count": Refusal(_LIMITS, "write deploy.resources.limits.cpus"),
    "services.*.cpu_percent": Refusal(_LIMITS, "write deploy.resources.limits.cpus"),
    "services.*.cpu_period": Refusal(_LIMITS, "write deploy.resources.limits.cpus, cpu_quota / cpu_period"),
    "services.*.cpu_quota": Refusal(_LIMITS, "write deploy.resources.limits.cpus, cpu_quota / cpu_period"),
    "services.*.cpu_rt_period": Refusal(
        _NO_FIELD,
        "remove it; the rtprio limit comes from ulimits, or an agent's realtime_priority",
    ),
    "services.*.cpu_rt_runtime": Refusal(
        _NO_FIELD,
        "remove it; the rtprio limit comes from ulimits, or an agent's realtime_priority",
    ),
    "services.*.cpu_shares": Refusal(_LIMITS, "write deploy.resources.reservations.cpus"),
    "services.*.cpus": Refusal(_LIMITS, "write deploy.resources.limits.cpus"),
    "services.*.cpuset": Refusal(_NO_FIELD, "write deploy.resources.limits.cpus"),
    "services.*.credential_spec": Refusal("it is for Windows, and hosts run Linux", "remove it"),
    "services.*.deploy.resources.reservations.devices": Refusal(
        "Swarm schedules no devices and knows no device requests",
        _GPU,
    ),
    "services.*.deploy.resources.reservations.generic_resources": Refusal(
        "a GPU that is reserved belongs to one container alone, and an update could never start the next one",
        _GPU,
    ),
    "services.*.deploy.rollback_config": Refusal(
        "Swarm never takes a service back by itself here: it pauses", "remove it"
    ),
    "services.*.deploy.update_config.max_failure_ratio": Refusal(
        "an update pauses when more than half of the replicas fail, and the gate says why", "remove it"
    ),
    "services.*.deploy.mode = global": Refusal(
        "the count of replicas is part of the file, not of the fleet",
        "write replicas: with the number of hosts, and placement.max_replicas_per_node: 1",
    ),
    "services.*.deploy.mode = global-job": Refusal(
        "a job ends, and a gate waits for what stays", "run it by hand with docker run, or from a service"
    ),
    "services.*.deploy.mode = replicated-job": Refusal(
        "a job ends, and a gate waits for what stays", "run it by hand with docker run, or from a service"
    ),
    "services.*.deploy.endpoint_mode = vip": Refusal(
        "a virtual IP drops connections that are idle for 15 minutes; only published ports get one",
        "remove it: the name resolves to every healthy replica",
    ),
    "services.*.deploy.update_config.failure_action = rollback": Refusal(
        "Swarm would take back one service of a group", "write pause, or remove it"
    ),
    "services.*.deploy.update_config.failure_action = continue": Refusal(
        "a failing update must not go on", "write pause, or remove it"
    ),
    "services.*.deploy.update_config.parallelism = 0": Refusal(
        "it exchanges all replicas at once", "write the number of replicas"
    ),
    "services.*.depends_on.*.condition = service_completed_successfully": Refusal(
        "a service that ends is not healthy, so its gate would fail",
        "do its work in the entrypoint of the service that needs it, or by hand before the deployment",
    ),
    "services.*.depends_on.*.required = false": Refusal(
        "every service of a file is started, so there is nothing to do without", "remove it"
    ),
    "services.*.depends_on.*.restart = true": Refusal(
        "a service restarts only when its own settings change", "remove it, and let the service reconnect"
    ),
    "services.*.develop": Refusal("it is for work on a laptop", "remove it, or keep it in a file of its own"),
    "services.*.device_cgroup_rules": Refusal(_NO_FIELD, "write devices: with each device's path"),
    "services.*.domainname": Refusal(_NO_FIELD, "write hostname: with the whole name"),
    "services.*.env_file": Refusal(
        "a group file holds all there is, so that one look shows what runs", "write environment:"
    ),
    "services.*.extends": Refusal(_ONE_FILE, "write its keys here; an anchor and a merge key (<<) may help"),
    "services.*.external_links": Refusal(_NO_FIELD, "join its network, where it is known by name"),
    "services.*.gpus": Refusal(
        "Swarm knows no device requests",
        _GPU,
    ),
    "services.*.ipc": Refusal(_NAMESPACE, "remove it; for more shared memory write shm_size"),
    "services.*.isolation": Refusal("it is for Windows, and hosts run Linux", "remove it"),
    "services.*.label_file": Refusal(
        "a group file holds all there is, so that one look shows what runs", "write labels:"
    ),
    "services.*.links": Refusal(
        "services of a file know each other by name already",
        "remove it; another name is written under networks.NAME.aliases, an order as depends_on",
    ),
    "services.*.mac_address": Refusal(_ADDRESS, "remove it"),
    "services.*.mem_limit": Refusal(_LIMITS, "write deploy.resources.limits.memory"),
    "services.*.mem_reservation": Refusal(_LIMITS, "write deploy.resources.reservations.memory"),
    "services.*.mem_swappiness": Refusal(_NO_FIELD, "remove it, or set vm.swappiness in the host's sysctls"),
    "services.*.memswap_limit": Refusal(_NO_FIELD, "write deploy.resources.limits.memory"),
    "services.*.models": Refusal(
        "Cascade runs services, not model runners", "write its address under environment"
    ),
    "services.*.network_mode": Refusal(
        "a Swarm service is on overlays, never in the host's network or without one",
        "write networks:, and ports: in long form with mode: host for what must be on the host's address",
    ),
    "services.*.networks.*.driver_opts": Refusal(_NO_FIELD, "remove it"),
    "services.*.networks.*.gw_priority": Refusal(_NO_FIELD, "remove it"),
    "services.*.networks.*.interface_name": Refusal(_NO_FIELD, "find the interface by its address"),
    "services.*.networks.*.ipv4_address": Refusal(_ADDRESS, "remove it, and use the service's name"),
    "services.*.networks.*.ipv6_address": Refusal(_ADDRESS, "remove it, and use the service's name"),
    "services.*.networks.*.link_local_ips": Refusal(_ADDRESS, "remove it, and use the service's name"),
    "services.*.networks.*.mac_address": Refusal(_ADDRESS, "remove it"),
    "services.*.networks.*.priority": Refusal(_NO_FIELD, "remove it"),
    "services.*.oom_kill_disable": Refusal(_NO_FIELD, "write deploy.resources with enough memory"),
    "services.*.oom_score_adj": Refusal(
        "engines older than API 1.46 drop it without a word", "write deploy.resources.reservations.memory"
    ),
    "services.*.pid": Refusal(_NAMESPACE, "remove it"),
    "services.*.platform": Refusal(
        "an image is pinned by digest, for the architecture of the hosts", "remove it, and map such an image"
    ),
    "services.*.ports.host_ip": Refusal(
        "a port is published on every address of a host",
        "remove it; what only services need is not published at all; the host's firewall can close it",
    ),
    "services.*.post_start": Refusal(_NO_FIELD, "run it in the image's entrypoint"),
    "services.*.pre_stop": Refusal(_NO_FIELD, "let the process act on stop_signal"),
    "services.*.privileged": Refusal(_NO_FIELD, "write the capabilities as cap_add, the devices as devices"),
    "services.*.profiles": Refusal(
        "every service of a group runs",
        "put the services of a profile into a group file with x-enabled: false",
    ),
    "services.*.provider": Refusal(
        "Cascade runs containers only", "remove it, and write its address under environment"
    ),
    "services.*.pull_policy": Refusal(
        "an image is pinned by digest and sent or pulled when a host lacks it", "remove it"
    ),
    "services.*.pull_refresh_after": Refusal(
        "an image is pinned by digest and never refreshed by itself", "remove it"
    ),
    "services.*.scale": Refusal("an older word for deploy.replicas", "write deploy.replicas"),
    "services.*.storage_opt": Refusal(_NO_FIELD, "remove it"),
    "services.*.use_api_socket": Refusal(
        "it gives a container the whole host", "remove it, or bind-mount the socket knowingly"
    ),
    "services.*.userns_mode": Refusal(_NAMESPACE, "remove it"),
    "services.*.uts": Refusal(_NAMESPACE, "remove it"),
    "services.*.volumes.bind.create_host_path = true": Refusal(
        "a folder of the host is never made by itself: its owner and permissions would be guessed",
        "write false, and make the folder on the host",
    ),
    "services.*.volumes.bind.recursive": Refusal(_NO_FIELD, "remove it: mounts below the folder come along"),
    "services.*.volumes.bind.selinux": Refusal(_NO_FIELD, "remove it; the hosts run no SELinux"),
    "services.*.volumes.consistency": Refusal("it is for Docker Desktop", "remove it"),
    "services.*.volumes.image": Refusal("images cannot be mounted", "put the files into the service's image"),
    "services.*.volumes.type = cluster": Refusal(
        "it needs a storage driver that no host has", "write type: volume"
    ),
    "services.*.volumes.type = image": Refusal(
        "images cannot be mounted", "put the files into the service's image"
    ),
    "services.*.volumes.type = npipe": Refusal("it is for Windows, and hosts run Linux", "write type: bind"),
    "services.*.volumes.volume.labels": Refusal("a volume that exists cannot be labelled again", "remove it"),
    "services.*.volumes.volume.subpath": Refusal(
        "engines older than API 1.45 drop it without a word", "write a volume of its own for the folder"
    ),
    "services.*.volumes_from": Refusal(_NO_FIELD, "write the same volumes: in both services"),
}
