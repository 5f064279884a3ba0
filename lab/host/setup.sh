#!/bin/sh
# Turns a minimal Debian root file system into the lab's bare server. Runs once, as root, inside it.
set -eu
export DEBIAN_FRONTEND=noninteractive

# Packages that a host downloads stay in its cache volume, so that a reset does not fetch them again.
rm -f /etc/apt/apt.conf.d/docker-clean
if [ -s /lab/debian.sources ]; then
    rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
    cp /lab/debian.sources /etc/apt/sources.list.d/debian.sources
fi
cp /lab/apt.conf /etc/apt/apt.conf.d/90lab

apt-get update -q
# shellcheck disable=SC2046
apt-get install -y -q --no-install-recommends $(cat /lab/packages)
apt-get clean

for certificate in /lab/*.crt; do
    if [ -e "$certificate" ]; then cp "$certificate" /usr/local/share/ca-certificates/; fi
done
update-ca-certificates

useradd --create-home --shell /bin/bash deploy
install -d -o deploy -g deploy -m 0700 /home/deploy/.ssh
install -o deploy -g deploy -m 0600 /dev/null /home/deploy/.ssh/authorized_keys
echo 'deploy ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/deploy
chmod 0440 /etc/sudoers.d/deploy

# Each host makes a host key of its own when it starts for the first time.
rm -f /etc/ssh/ssh_host_*
cat >/etc/systemd/system/lab-host-key.service <<'UNIT'
[Unit]
Description=Make this host's SSH key once
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
UNIT
systemctl enable ssh.service lab-host-key.service

# Nothing but the deployment may hold apt's lock, and a container has no console to log in on.
systemctl mask apt-daily.timer apt-daily-upgrade.timer console-getty.service
: >/etc/machine-id
rm -rf /lab
