"""Answers STUN binding requests (RFC 8489) on a loopback UDP port.

The runtime and the official client ask a STUN server for their reflexive address, and wait
several seconds for one that does not respond. With this one, no packet leaves the machine.
"""

from __future__ import annotations

import socket
import struct
import threading

MAGIC_COOKIE = 0x2112A442


def binding_response(request: bytes, address: tuple[str, int]) -> bytes | None:
    """Return the response to a binding request from `address`, or None for other packets."""
    if len(request) < 20:
        return None
    message_type, _, cookie = struct.unpack_from("!HHI", request)
    if message_type != 0x0001 or cookie != MAGIC_COOKIE:
        return None
    host = struct.unpack("!I", socket.inet_aton(address[0]))[0] ^ MAGIC_COOKIE
    mapped = struct.pack("!HHBBHI", 0x0020, 8, 0, 1, address[1] ^ (MAGIC_COOKIE >> 16), host)
    return struct.pack("!HHI", 0x0101, len(mapped), MAGIC_COOKIE) + request[8:20] + mapped


def start() -> str:
    """Serve in a thread of this process; return the address as a `stun:` URL."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                request, address = sock.recvfrom(2048)
                if response := binding_response(request, address):
                    sock.sendto(response, address)
            except OSError:
                continue  # for example an ICMP error because the client has ended

    threading.Thread(target=serve, name="stun-responder", daemon=True).start()
    return f"stun:127.0.0.1:{sock.getsockname()[1]}"
