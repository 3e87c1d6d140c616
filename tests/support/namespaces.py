"""A box in a network namespace of its own, and the wire to it, which the test cuts, one way or both, and degrades.

The wire joins two TUN devices, one in the platform's namespace and one in the box's: every IP packet between the two
passes through it, and connections go from end to end. It needs nothing of the kernel but TUN: a kernel without
netem and packet filters does.
"""

import asyncio
import fcntl
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.loop_thread import LoopThread

_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_PACKET_BYTES = 65536
_READS_AT_ONCE = 64


def platform_address() -> str:
    """Where boxes in namespaces find this test session's platform: from the range for such tests (RFC 2544)."""
    pid = os.getpid()
    return f"198.18.{pid >> 8 & 255}.{pid & 255}"


@dataclass(frozen=True)
class Conditions:
    """What happens to packets in one direction. Chances from 0 to 1; jitter reorders, as packets do not queue."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0


FINE = Conditions()
NOTHING_PASSES = Conditions(loss=1.0)


class Wire:
    """Carries packets between the namespaces. Its conditions may be changed at any time, from any thread."""

    def __init__(self, platform_end: int, box_end: int, link: tuple[str, ...], seed: int) -> None:
        self.to_box = self.to_platform = FINE
        self._ends, self._link = (platform_end, box_end), link
        self._random = random.Random(seed)
        # Packets that were swallowed, both directions together.
        self.lost = 0

    def cut(self) -> None:
        """Packets vanish, in both directions; nobody is told."""
        self.to_box = self.to_platform = NOTHING_PASSES

    def mend(self) -> None:
        self.to_box = self.to_platform = FINE

    def pull(self) -> None:
        """The box's interface goes down: its kernel knows, and says so to who sends."""
        _run(*self._link, "down")

    def plug(self) -> None:
        _run(*self._link, "up")

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for source, target in (self._ends, self._ends[::-1]):
            loop.add_reader(source, self._carry, loop, source, target)

    async def close(self) -> None:
        ends, self._ends = self._ends, (-1, -1)
        for end in ends:
            asyncio.get_running_loop().remove_reader(end)
            os.close(end)

    def _carry(self, loop: asyncio.AbstractEventLoop, source: int, target: int) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                packet = os.read(source, _PACKET_BYTES)
            except OSError:
                # Nothing more for now, or an interface that is down.
                return
            conditions = self.to_box if target == self._ends[1] else self.to_platform
            if self._random.random() < conditions.loss:
                self.lost += 1
                continue
            for _ in range(2 if self._random.random() < conditions.duplicates else 1):
                delay_s = conditions.delay_s + conditions.jitter_s * self._random.uniform(-1, 1)
                if delay_s > 0:
                    loop.call_later(delay_s, self._deliver, target, packet)
                else:
                    self._deliver(target, packet)

    def _deliver(self, target: int, packet: bytes) -> None:
        if target in self._ends:
            with suppress(OSError):
                os.write(target, packet)


@dataclass(frozen=True)
class Namespace:
    """`enter` before a command runs it in the box's namespace."""

    enter: tuple[str, ...]
    wire: Wire


@contextmanager
def namespace(loop: LoopThread, seed: int = 0) -> Iterator[Namespace]:
    """A namespace with one way out, to `platform_address()`. It ends with this process, however that ends."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()
    enter = ("nsenter", "--net", "--target", str(holder.pid))
    (platform_end, platform_name), (box_end, box_name) = _tun(), _tun()
    wire = Wire(platform_end, box_end, (*enter, "ip", "link", "set", box_name), seed)
    number = socket.if_nametoindex(platform_name)
    here, there = platform_address(), f"198.19.{number >> 8 & 255}.{number & 255}"
    try:
        _run("ip", "link", "set", box_name, "netns", str(holder.pid))
        _run("ip", "address", "add", here, "peer", there, "dev", platform_name)
        _run("ip", "link", "set", platform_name, "up")
        _run(*enter, "ip", "address", "add", there, "peer", here, "dev", box_name)
        wire.plug()
        _run(*enter, "ip", "link", "set", "lo", "up")
        loop.call(wire.open())
        yield Namespace(enter, wire)
    finally:
        loop.call(wire.close())
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(10)


def missing() -> str:
    """Why namespaces cannot be had here, in one sentence; empty where they can."""
    if not _TUN.exists():
        return "this kernel has no TUN devices (/dev/net/tun)"
    try:
        end, _ = _tun()
        os.close(end)
        subprocess.run(["unshare", "--net", "ip", "link", "set", "lo", "up"], check=True, capture_output=True)
    except FileNotFoundError as error:
        return f"the program {error.filename} is missing; install iproute2 and util-linux"
    except (OSError, subprocess.CalledProcessError) as error:
        detail = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else error.strerror
        return f"network namespaces need rights that this user lacks ({detail}); run the tests as root"
    return ""


def _tun() -> tuple[int, str]:
    """A new device in our own namespace: its descriptor and the name that the kernel gave it."""
    descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"tether%d", _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, request[:16].rstrip(b"\0").decode()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=10)
