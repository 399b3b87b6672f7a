"""A device of this process as a serial port of the system."""

import contextlib
import os
import select
import threading
import tty
from collections.abc import Iterator
from typing import Protocol

__all__ = ["Device", "serial_port"]

#: Bytes that a device is given at once.
_PART = 512


class Device(Protocol):
    """What is at the other end of the line."""

    def exchange(self, received: bytes) -> bytes:
        """Take what came, let some time pass, return what goes back."""


@contextlib.contextmanager
def serial_port(device: Device, *, idle: float = 0.0) -> Iterator[str]:
    """Serve a device on a pseudo terminal.

    Parameters
    ----------
    device : Device
        Is used in a thread of its own.
    idle : float
        Seconds to wait for bytes before the device's time goes on without any.

    Yields
    ------
    str
        Name of the port.
    """
    master, slave = os.openpty()
    tty.setraw(slave)
    stopping = threading.Event()
    failure: list[BaseException] = []

    def serve() -> None:
        try:
            while not stopping.is_set():
                readable = select.select([master], [], [], idle)[0]
                answer = device.exchange(os.read(master, _PART) if readable else b"")
                while answer and not stopping.is_set():
                    if select.select([], [master], [], 0.1)[1]:
                        answer = answer[os.write(master, answer[:_PART]) :]
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        stopping.set()
        thread.join()
        os.close(master)
        os.close(slave)
    if failure:
        raise failure[0]
