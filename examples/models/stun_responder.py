"""Answers STUN binding requests (RFC 8489) on a loopback UDP port.

The runtime and the official client ask a STUN server for their address and wait seconds
for one that stays silent. This one answers, and nothing leaves the machine.
"""

from __future__ import annotations

import socket
import struct
import threading

MAGIC = 0x2112A442


def answer(request: bytes, address: tuple[str, int]) -> bytes | None:
    """The response to a binding request from `address`, or None for anything else."""
    if len(request) < 20:
        return None
    kind, _, magic = struct.unpack_from("!HHI", request)
    if kind != 0x0001 or magic != MAGIC:
        return None
    host = struct.unpack("!I", socket.inet_aton(address[0]))[0] ^ MAGIC
    mapped = struct.pack("!HHBBHI", 0x0020, 8, 0, 1, address[1] ^ (MAGIC >> 16), host)
    return struct.pack("!HHI", 0x0101, len(mapped), MAGIC) + request[8:20] + mapped


def start() -> str:
    """Serve on a thread of this process; returns the address as a `stun:` URL."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                request, address = sock.recvfrom(2048)
                if response := answer(request, address):
                    sock.sendto(response, address)
            except OSError:
                continue  # such as an ICMP error for a client that is gone

    threading.Thread(target=serve, name="stun-responder", daemon=True).start()
    return f"stun:127.0.0.1:{sock.getsockname()[1]}"
