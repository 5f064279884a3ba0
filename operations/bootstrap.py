"""First contact with a machine: from a user with a password to a deploy user with a key and sudo."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from paramiko import AuthenticationException, BadAuthenticationType, PKey, SSHException, Transport

from operations.deploy_key import DeployKey
from operations.trust import QUIET, TIMEOUT_S, Place, Refused, meet, say

USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PROOF = "sudo -n true && python3 -V"
# apt waits two minutes for its lock, and a slow mirror takes longer than that.
PATIENCE_S = 600
TOLD = 6

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_APT = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get -q update; "
    "apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install"
)
_KEY_FILE = """
home=$(getent passwd "$user" | cut -d: -f6)
file=$home/.ssh/authorized_keys
listed() { awk -v kind="$kind" -v key="$key" '$1 == kind && $2 == key { n = 1 } END { exit !n }' "$file"; }
"""
_SUDOERS = """
file=/etc/sudoers.d/90-cascade-$user
line="$user ALL=(ALL:ALL) NOPASSWD: ALL"
"""


@dataclass(frozen=True)
class Step:
    """Something that the machine is to have: how to see that it does, and how to give it.

    The scripts are the shell's, run as root, and find `user`, `kind` and `key` in variables.
    """

    doing: str
    check: str
    give: str


STEPS = (
    Step(
        "installing sudo",
        "command -v sudo && command -v visudo",
        f"{_APT} sudo",
    ),
    Step(
        "installing python3",
        "command -v python3",
        f"{_APT} python3-minimal",
    ),
    Step(
        "making the user",
        'getent passwd "$user"',
        # A star is no password and, unlike !, no lock that keeps sshd from taking the key.
        "useradd --create-home --user-group --shell /bin/bash --password '*' \"$user\"",
    ),
    Step(
        "adding the key to authorized_keys",
        _KEY_FILE + '[ "$(stat -c "%U %a" "$home/.ssh")" = "$user 700" ]'
        ' && [ "$(stat -c "%U %a" "$file")" = "$user 600" ] && listed',
        _KEY_FILE
        + """
group=$(id -gn "$user")
[ -d "$home" ] || install -d -m 755 -o "$user" -g "$group" "$home"
install -d -m 700 -o "$user" -g "$group" "$home/.ssh"
touch "$file"
if ! listed; then
    [ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
    echo "$kind $key cascade" >>"$file"
fi
chown "$user:$group" "$file"
chmod 600 "$file"
""",
    ),
    Step(
        "allowing sudo without a password",
        _SUDOERS + '[ "$(stat -c "%U %a" "$file")" = "root 440" ] && [ "$(cat "$file")" = "$line" ]',
        # sudo passes over names with a dot, so that it never reads a file that visudo has not seen.
        _SUDOERS
        + """
mkdir -p /etc/sudoers.d
fresh=$(mktemp /etc/sudoers.d/.cascade.XXXXXX)
trap 'rm -f "$fresh"' EXIT
echo "$line" >"$fresh"
chmod 440 "$fresh"
visudo -cqf "$fresh"
mv "$fresh" "$file"
""",
    ),
)


@dataclass(frozen=True)
class Answer:
    """What a command on the machine said, standard error included."""

    code: int
    output: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def words(self) -> str:
        """The last lines, for a message."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " | ".join(lines[-TOLD:]) or f"exit code {self.code}"


@dataclass
class Password:
    """Asked for when it is first needed, once; never shown."""

    ask: Callable[[], str]
    _known: str | None = field(default=None, repr=False)

    def get(self) -> str:
        if self._known is None:
            self._known = self.ask()
        return self._known


@dataclass(frozen=True)
class Machine:
    """A machine whose host key has been accepted."""

    place: Place
    host_key: PKey

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A new connection on which nobody has logged in; raises Refused."""
        transport = Transport(self.place.reach().socket)
        transport.set_log_channel(QUIET.name)
        try:
            options = transport.get_security_options()
            kind = self.host_key.get_name()
            options.key_types = sorted(options.key_types, key=lambda other: other != kind)
            transport.start_client(timeout=TIMEOUT_S)
            if transport.get_remote_server_key() != self.host_key:
                raise Refused(
                    f"{self.place.name}: the host key changed between two connections; run this again"
                )
            yield Connection(self.place.name, transport)
        except (SSHException, EOFError, OSError) as error:
            raise self.place.unreachable(error) from error
        finally:
            transport.close()


@dataclass(frozen=True)
class Connection:
    """A connection to a machine with the right host key."""

    name: str
    transport: Transport

    def log_in_with_key(self, user: str, key: DeployKey) -> bool:
        """Whether the server lets the user in with that key."""
        try:
            self.transport.auth_publickey(user, key.private)
        except AuthenticationException:
            return False
        return self.transport.is_authenticated()

    def log_in_with_password(self, user: str, password: str) -> None:
        """Logs in; raises Refused."""
        who = f"{user} may not log in at {self.name}"
        try:
            self.transport.auth_password(user, password)
        except BadAuthenticationType as error:
            kinds = ", ".join(error.allowed_types)
            advice = (
                f"log in another way and add the key to ~{user}/.ssh/authorized_keys, then run this again"
            )
            raise Refused(f"{who} with a password, only with {kinds}: {advice}") from None
        except AuthenticationException:
            hint = " (the server may refuse root's password: see PermitRootLogin)" if user == "root" else ""
            raise Refused(f"{who}: the password is wrong, or there is no such user{hint}") from None
        if not self.transport.is_authenticated():
            raise Refused(f"{who} with a password alone: the server wants more")

    def run(self, *argv: str, stdin: str = "") -> Answer:
        """Runs a command in the user's own shell and waits for it."""
        with self.transport.open_session(timeout=TIMEOUT_S) as channel:
            channel.settimeout(PATIENCE_S)
            channel.set_combine_stderr(True)
            channel.exec_command(shlex.join(argv))
            channel.sendall(stdin.encode())
            channel.shutdown_write()
            output = b"".join(iter(lambda: channel.recv(65536), b""))
            return Answer(channel.recv_exit_status(), output.decode(errors="replace"))


@dataclass(frozen=True)
class Root:
    """How commands are run as root: directly, or with sudo, with a password or without."""

    connection: Connection
    sudo: tuple[str, ...] = ()
    stdin: str = field(default="", repr=False)

    def run(self, script: str, variables: dict[str, str]) -> Answer:
        """Runs a shell script as root; its variables are quoted.

        sudo leaves a password unread where it asks for none, so the script's own input is nothing.
        """
        set_up = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        lines = "\n".join(["exec </dev/null", f"export {_PATH}", *set_up, script])
        return self.connection.run(*self.sudo, "sh", "-euc", lines, stdin=self.stdin)


def bootstrap(
    place: Place,
    login: str,
    user: str,
    key: DeployKey,
    ask: Callable[[], str],
    fingerprints: Collection[str] = (),
) -> list[str]:
    """Makes `user` a deploy user with the key, and says what was done; raises Refused.

    `login` is the user that the machine has now. The password goes to the SSH server and to sudo's standard
    input, nowhere else; it is not asked for where the key and sudo suffice.
    """
    machine = Machine(place, meet(place, fingerprints))
    if _missing(machine, user, key) is None:
        return []
    password = Password(ask)
    with machine.connection() as connection:
        if not connection.log_in_with_key(login, key):
            connection.log_in_with_password(login, password.get())
        _refuse_others(connection)
        root = _root(connection, login, password)
        done = [step.doing for step in STEPS if _settle(root, step, user, key)]
    if missing := _missing(machine, user, key):
        raise Refused(f"{place.name}: {missing}")
    return done


def _missing(machine: Machine, user: str, key: DeployKey) -> str | None:
    """Why the deploy user cannot do its work, seen from a new connection; None when it can."""
    with machine.connection() as connection:
        if not connection.log_in_with_key(user, key):
            return (
                f"{user} is not let in with {key.path}: look for AllowUsers, PubkeyAuthentication and "
                "AuthorizedKeysFile in the server's sshd_config"
            )
        answer = connection.run("sh", "-c", PROOF)
        return None if answer.ok else f"{user} is let in, but `{PROOF}` fails: {answer.words}"


def _refuse_others(connection: Connection) -> None:
    """Only Linux with apt can become a host."""
    answer = connection.run("sh", "-c", "uname -s && command -v apt-get")
    if not answer.output.startswith("Linux\n") or not answer.ok:
        raise Refused(
            f"{connection.name}: this is no Linux with apt: Cascade needs Debian 13 or Ubuntu 24.04"
        )


def _root(connection: Connection, login: str, password: Password) -> Root:
    if connection.run("id", "-u").output.strip() == "0":
        return Root(connection)
    if not connection.run("sh", "-c", "command -v sudo").ok:
        advice = f"bootstrap as root, or there: su -c 'apt-get install sudo && adduser {login} sudo'"
        raise Refused(f"{connection.name}: there is no sudo, and {login} is not root: {advice}")
    without = ("sudo", "-n", "--")
    if connection.run(*without, "true").ok:
        return Root(connection, without)
    # -k makes sudo ask although it did so a moment ago: the password is read, whatever is cached.
    root = Root(connection, ("env", "LC_ALL=C", "sudo", "-k", "-S", "-p", "", "--"), f"{password.get()}\n")
    if not (answer := root.run("true", {})).ok:
        raise Refused(_why_no_sudo(connection.name, login, answer))
    return root


def _why_no_sudo(name: str, login: str, answer: Answer) -> str:
    if re.search(r"incorrect password|no password was provided|Sorry, try again", answer.output):
        return f"{name}: sudo does not take the password of {login}"
    advice = f"as root there: adduser {login} sudo; or bootstrap as another user"
    return f"{name}: {login} may not use sudo: {answer.words}; {advice}"


def _settle(root: Root, step: Step, user: str, key: DeployKey) -> bool:
    """Whether something had to be done for a step; raises Refused when it could not."""
    kind, body = key.public
    variables = {"user": user, "kind": kind, "key": body}
    if root.run(step.check, variables).ok:
        return False
    say(f"{root.connection.name}: {step.doing}")
    answer = root.run(step.give, variables)
    if not answer.ok:
        advice = "; does the machine reach its package mirror?" if "apt-get" in step.give else ""
        raise Refused(f"{root.connection.name}: {step.doing} failed: {answer.words}{advice}")
    return True
