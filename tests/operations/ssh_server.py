"""A real SSH server of a test's own, as far as the exchange of keys."""

from __future__ import annotations

import contextlib
import socket
import threading

from paramiko import PKey, ServerInterface, SSHException, Transport


class SSHServer:
    """Shows one key on a port of the loopback; nobody can log in."""

    def __init__(self, *keys: PKey) -> None:
        self.keys = keys
        self.users: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and waits for the thread."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        """One connection; another need not wait until this one has noticed that its client is gone."""
        transport = Transport(connection)
        transport.set_log_channel("cascade.ssh")
        for key in self.keys:
            transport.add_server_key(key)
        with contextlib.suppress(SSHException, EOFError, OSError):
            transport.start_server(server=_NobodyComesIn(self.users))
            transport.join()
        transport.close()


class _NobodyComesIn(ServerInterface):
    def __init__(self, users: list[str]) -> None:
        self.users = users

    def get_allowed_auths(self, username: str) -> str:
        self.users.append(username)
        return "publickey"
