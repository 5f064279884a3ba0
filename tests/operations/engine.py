"""A socket that answers as a Docker engine does, with what it is told to answer."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One call that the engine heard."""

    method: str
    path: str
    body: Any
    headers: dict[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


class Engine:
    """Answers by path, with or without its query; an answer may be raw bytes, or nothing at all.

    A GET without an answer is 404; anything else without one is done and says nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self.path = folder / "docker.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """A connection that says nothing ends it."""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as stream:
                request = stream.readline().decode().split()
                if not request:
                    return
                lines = (line.decode().strip() for line in iter(stream.readline, b"\r\n"))
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = stream.read(int(headers.get("content-length", 0)))
                asked = Asked(request[0], request[1], json.loads(body) if body else None, headers)
                self.asked.append(asked)
                connection.sendall(self._answer(asked))

    def _answer(self, asked: Asked) -> bytes:
        answer = self.answers.get(asked.path, self.answers.get(asked.path.partition("?")[0]))
        if isinstance(answer, bytes):
            return answer
        content = b"" if answer is None else json.dumps(answer).encode()
        status = b"200 OK" if answer is not None else b"404 Gone" if asked.method == "GET" else b"204 Done"
        return b"HTTP/1.0 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)
