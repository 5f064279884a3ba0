"""What Python services do all day, each as one small program that must pass under every profile.

It runs inside the container: the names of the workloads that failed are printed as JSON, with why.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import json
import multiprocessing
import os
import queue
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path

LONGEST_S = 60


def asyncio_serves_and_starts_a_program() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def ask(port: int, number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"%d\n" % number)
        line = await reader.readline()
        writer.close()
        return line

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lines = await asyncio.gather(*(ask(port, number) for number in range(50)))
        assert [int(line) for line in lines] == list(range(50))
        server.close()
        program = await asyncio.create_subprocess_exec("echo", "here", stdout=subprocess.PIPE)
        assert (await program.communicate())[0] == b"here\n"
        assert await asyncio.to_thread(sum, [1, 2]) == 3

    asyncio.run(main())


def threads_share_a_queue() -> None:
    items: queue.Queue[int] = queue.Queue()
    done: list[int] = []

    def work() -> None:
        while (item := items.get()) >= 0:
            done.append(item)

    workers = [threading.Thread(target=work) for _ in range(32)]
    for worker in workers:
        worker.start()
    for item in [*range(1000), *[-1] * len(workers)]:
        items.put(item)
    for worker in workers:
        worker.join()
    assert sorted(done) == list(range(1000))


def process_pools_of_each_kind() -> None:
    for kind in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(kind)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
    with multiprocessing.get_context("fork").Pool(2) as pool_of_old:
        assert pool_of_old.map(abs, [-1, -2]) == [1, 2]


def processes_share_memory() -> None:
    block = shared_memory.SharedMemory(create=True, size=4096)
    assert block.buf is not None
    child = os.fork()
    if child == 0:
        block.buf[0] = 7
        os._exit(0)
    os.waitpid(child, 0)
    seen = block.buf[0]
    block.close()
    block.unlink()
    assert seen == 7


def numpy_calculates() -> None:
    import numpy

    numbers = numpy.random.default_rng(1).random((400, 400))
    assert numpy.allclose(numbers @ numpy.linalg.inv(numbers), numpy.eye(400), atol=1e-6)
    assert numpy.fft.ifft(numpy.fft.fft(numbers[0])).real.round(9).tolist() == numbers[0].round(9).tolist()
    with tempfile.NamedTemporaryFile() as file:
        mapped = numpy.memmap(file.name, dtype="float64", mode="w+", shape=(1000,))
        mapped[:] = 1
        mapped.flush()
        assert mapped.sum() == 1000


def ssl_serves_with_a_new_certificate() -> None:
    folder = Path(tempfile.mkdtemp())
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with serving.wrap_socket(listening.accept()[0], server_side=True) as client:
                client.sendall(client.recv(100).upper())

        server = threading.Thread(target=serve)
        server.start()
        asking = ssl.create_default_context(cafile=str(certificate))
        plain = socket.create_connection(listening.getsockname())
        with asking.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"secret")
            assert sock.recv(100) == b"SECRET"
        server.join()


def sqlite_writes_from_many_threads() -> None:
    path = Path(tempfile.mkdtemp()) / "data.db"
    with sqlite3.connect(path) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("create table number (value integer)")

    def write(value: int) -> None:
        with sqlite3.connect(path, timeout=LONGEST_S) as database:
            database.execute("insert into number values (?)", (value,))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(100)))
    with sqlite3.connect(path) as database:
        assert database.execute("select count(*), sum(value) from number").fetchone() == (100, 4950)


def gevent_serves_and_looks_up_names() -> None:
    import gevent
    import gevent.monkey
    import gevent.socket
    from gevent.server import StreamServer

    gevent.monkey.patch_all()
    server = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.sendall(sock.recv(10)))
    server.start()

    def ask(number: int) -> int:
        with gevent.socket.create_connection(("127.0.0.1", server.server_port)) as sock:
            sock.sendall(b"%d" % number)
            return int(sock.recv(10))

    jobs = [gevent.spawn(ask, number) for number in range(50)]
    gevent.joinall(jobs, timeout=LONGEST_S)
    assert [job.value for job in jobs] == list(range(50))
    assert gevent.socket.getaddrinfo("localhost", 80)
    server.stop()


def zmq_talks_over_each_transport() -> None:
    import zmq

    context = zmq.Context()
    for address in ("tcp://127.0.0.1:*", f"ipc://{tempfile.mkdtemp()}/socket", "inproc://here"):
        answering, asking = context.socket(zmq.REP), context.socket(zmq.REQ)
        answering.bind(address)
        asking.connect(answering.get_string(zmq.LAST_ENDPOINT))
        asking.send(b"question")
        assert answering.recv() == b"question"
        answering.send(b"answer")
        assert asking.recv() == b"answer"
        answering.close()
        asking.close()
    context.term()


def redis_keeps_what_a_client_wrote() -> None:
    import redis

    folder = Path(tempfile.mkdtemp())
    arguments = ("--port", "0", "--unixsocket", str(folder / "socket"), "--dir", str(folder))
    server = subprocess.Popen(["redis-server", *arguments, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(folder / "socket"))
    try:
        _until_it_answers(client.ping, redis.ConnectionError)
        client.set("name", "value")
        client.save()
        client.bgrewriteaof()
        assert client.get("name") == b"value"
        assert client.eval("return redis.call('dbsize')", 0) == 1
    finally:
        server.terminate()
        assert server.wait(LONGEST_S) == 0
    assert (folder / "dump.rdb").stat().st_size > 0


def _until_it_answers(ask: Callable[[], object], not_yet: type[Exception]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while True:
        try:
            ask()
            return
        except not_yet:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def signals_timers_and_files() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    assert signal.sigtimedwait([signal.SIGALRM], LONGEST_S) is not None
    assert heard == [signal.SIGUSR1]
    folder = Path(tempfile.mkdtemp())
    os.mkfifo(folder / "pipe")
    (folder / "one").write_text("text")
    (folder / "one").rename(folder / "two")
    (folder / "link").symlink_to("two")
    assert (folder / "link").read_text() == "text"
    assert os.sched_getaffinity(0)
    ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)()
    assert socket.getaddrinfo("127.0.0.1", 80)
    assert socket.if_nameindex()


WORKLOADS = (
    asyncio_serves_and_starts_a_program,
    threads_share_a_queue,
    process_pools_of_each_kind,
    processes_share_memory,
    numpy_calculates,
    ssl_serves_with_a_new_certificate,
    sqlite_writes_from_many_threads,
    gevent_serves_and_looks_up_names,
    zmq_talks_over_each_transport,
    redis_keeps_what_a_client_wrote,
    signals_timers_and_files,
)


def main() -> None:
    """Each workload in a process of its own, for some change how the whole process waits."""
    print(json.dumps({workload.__name__: _said(workload.__name__) for workload in WORKLOADS}))


def _said(name: str) -> str:
    """An empty text, or the end of what a workload that failed said."""
    argv = [sys.executable, __file__, name]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired as error:
        return f"no end after {LONGEST_S} s: {error.stderr!r}"
    return f"exit code {done.returncode}: {done.stderr[-2000:]}" if done.returncode else ""


def one(name: str) -> None:
    """Runs the workload of that name here."""
    try:
        next(workload for workload in WORKLOADS if workload.__name__ == name)()
    except OSError:
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
