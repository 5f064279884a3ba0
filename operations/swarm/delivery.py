"""Images on their way to a host: bytes over the SSH connection that is there, in one exec."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import gevent
from pyinfra.api.host import Host

from cascade.model.image import image_tags
from operations.run import WorkFailed, transport_of
from operations.signals import SIGNALS

TIMEOUT_S = 60.0
PIECE_BYTES = 1 << 20
QUIET_S = 10.0

_SCRIPT = Path(__file__).with_name("remote_images.py")
_BOOT = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"

Message = dict[str, Any]


class Conversation:
    """The script on the host: tasks and bytes one way, a JSON object a line the other."""

    def __init__(self, host: Host, task: Message) -> None:
        script = f"import json\nTASK = json.loads({json.dumps(task)!r})\n{_SCRIPT.read_text()}".encode()
        self._transport = transport_of(host)
        self._channel = self._transport.open_session()
        self._channel.settimeout(TIMEOUT_S)
        self._channel.exec_command(
            shlex.join(("sudo", "-n", "python3", "-IS", "-c", _BOOT, str(len(script))))
        )
        self._lines = self._channel.makefile("r")
        self.send(script)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def send(self, content: bytes) -> None:
        """Raises WorkFailed with the host's own words where it stopped listening."""
        try:
            self._channel.sendall(content)
        except OSError:
            if self._channel.exit_status_ready():
                list(self.messages())
            raise

    def messages(self) -> Iterator[Message]:
        """What the host says, until it ends; raises WorkFailed when that is why it cannot go on."""
        for line in self._lines:
            message: Message = json.loads(line)
            if "error" in message:
                raise WorkFailed(message["error"])
            yield message

    def wait_for(self, name: str) -> Any:
        """The next message of this name.

        Raises WorkFailed when the host ends without one, and EOFError when the connection is lost.
        """
        for message in self.messages():
            if name in message:
                return message
        if not self._transport.is_active():
            raise EOFError("the host hung up")
        said = self._channel.makefile_stderr("rb").read().decode(errors="replace").strip().splitlines()
        raise WorkFailed(f"its part of the delivery ended early: {said[-1] if said else 'it said nothing'}")


def ask(host: Host, task: Message, answer: str = "done") -> Message:
    """Has the host do one task; what it answers."""
    with Conversation(host, task) as talk:
        message: Message = talk.wait_for(answer)
        return message


def send_archive(host: Host, image: str, archive: Path) -> str:
    """Brings an archive to the host and into its engine; what the engine said.

    A delivery that was interrupted goes on where it ended. Raises WorkFailed.
    """
    size, tags = archive.stat().st_size, image_tags(archive)
    with (
        archive.open("rb") as file,
        Conversation(host, {"do": "receive", "image": image, "size": size, "tags": tags}) as talk,
    ):
        there = talk.wait_for("have")
        digest, offset = _agree(file, there["have"], there["sha256"])
        talk.send(f"{offset}\n".encode())
        for piece in _told(host, archive.name, _pieces(file), offset, size):
            digest.update(piece)
            talk.send(piece)
        talk.send(f"{digest.hexdigest()}\n".encode())
        loaded = talk.wait_for("loaded")
        talk.wait_for("done")
        return str(loaded["loaded"])


def _agree(file: BinaryIO, have: int, sha256: str | None) -> tuple[Any, int]:
    """Where to go on: behind what the host has if that is how the archive begins, else at its start."""
    digest, left = hashlib.sha256(), have if sha256 else 0
    while left:
        piece = file.read(min(PIECE_BYTES, left))
        digest.update(piece)
        left -= len(piece)
        gevent.sleep(0)  # Other hosts are served meanwhile.
    if digest.hexdigest() == sha256:
        return digest, have
    file.seek(0)
    return hashlib.sha256(), 0


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _told(host: Host, name: str, pieces: Iterator[bytes], offset: int, size: int) -> Iterator[bytes]:
    """The pieces; says how far it is at each quarter, and now and then between them."""
    resumed = f", resumed at {_mb(offset)} MB" if offset else ""
    if offset == size:
        host.log(f"{name}: {_mb(size)} of {_mb(size)} MB{resumed}")
    there, quarter, said = offset, 4 * offset // size, time.monotonic()
    for piece in pieces:
        SIGNALS.pause_point()
        yield piece
        there += len(piece)
        if 4 * there // size > quarter or time.monotonic() - said > QUIET_S:
            quarter, said = 4 * there // size, time.monotonic()
            host.log(f"{name}: {_mb(there)} of {_mb(size)} MB{resumed}")


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"
