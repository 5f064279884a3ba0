
# What a virtual machine needs besides: it has a kernel, disks and network cards of its own.
cat >/etc/fstab <<'FSTAB'
LABEL=cascade-root  /                        ext4  defaults         0 1
LABEL=cascade-apt   /var/cache/apt/archives  ext4  defaults,nofail  0 2
FSTAB
cat >/etc/hosts <<'HOSTS'
127.0.0.1 localhost
::1       localhost ip6-localhost ip6-loopback
HOSTS
sed -i '/^hosts:/s/files/files myhostname/' /etc/nsswitch.conf
rm -f /etc/resolv.conf
# QEMU's user network answers for names here.
echo 'nameserver 10.0.2.3' >/etc/resolv.conf
systemctl enable systemd-networkd.service systemd-network-generator.service
