# SPDX-License-Identifier: Apache-2.0

"""A hostile name server, for names.rs: python3 -c CODE FOLDER PROGRAM ARGUMENT...

It is started in user, mount and network namespaces of its own. It makes itself the only name server there, gives the loopback
interface addresses of the world, waits for connections at port 80 of every address, runs the program, and ends with it and with
its exit code. FOLDER is for its files.
"""

import fcntl
import socket
import struct
import subprocess
import sys
import threading
import time

WORLD, SECOND = "203.0.113.5", "203.0.113.6"
A, CNAME, AAAA = 1, 5, 28


def interface(name, address):
    """Gives an interface an address, and starts it (netdevice(7): SIOCSIFADDR, SIOCSIFFLAGS with IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        place = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(control, 0x8916, struct.pack("16s16s", name, place))
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", name, 1))


def labels(name):
    parts = [part.encode() for part in name.split(".")]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def record(kind, data, owner=b"\xc0\x0c"):
    """A record of the name that was asked for, or of another owner."""
    return owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


def a(*addresses):
    return [record(A, socket.inet_aton(address)) for address in addresses]


def aaaa(*addresses):
    return [record(AAAA, socket.inet_pton(socket.AF_INET6, address)) for address in addresses]


asked = {}


def records(name, kind):
    """The answer for a name; None for silence."""
    asked[name, kind] = asked.get((name, kind), 0) + 1
    v4 = kind == A
    if name == "plain.test":
        return a(WORLD) if v4 else []
    if name == "other.test":
        return [record(A, socket.inet_aton(WORLD), labels("victim.test"))] if v4 else []
    if name == "loop.test":
        return [record(CNAME, labels("round.test")), record(CNAME, labels("loop.test"), labels("round.test"))]
    if name == "many.test":
        return a(*(f"198.51.{n >> 8}.{n & 255}" for n in range(4000))) if v4 else []
    if name == "here.test":
        return a("127.0.0.1", "0.0.0.0", "169.254.169.254") if v4 else aaaa("::1", "fe80::1", "fd00:ec2::254")
    if name == "clothes.test":
        return [] if v4 else aaaa("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1")
    if name == "mixed.test":
        return a(WORLD, "127.0.0.1", "169.254.169.254") if v4 else aaaa("::1")
    if name == "rebind.test":
        return a(WORLD if asked[name, kind] == 1 else SECOND) if v4 else []
    if name == "silent.test":
        return None
    return []


def answer(question, by_tcp):
    number = question[:2]
    end = question.index(b"\0", 12) + 5
    text, at = [], 12
    while question[at]:
        text.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    name = ".".join(text).lower()
    (kind,) = struct.unpack(">H", question[at + 1 : at + 3])
    found = records(name, kind)
    if found is None:
        return None
    # Response, recursion desired and available.
    flags = 0x8180
    body = b"".join(found)
    if len(body) > 1200 and not by_tcp:
        # Truncated: ask by TCP.
        flags, found, body = flags | 0x0200, [], b""
    whole = number + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + question[12:end] + body
    if name == "cut.test":
        # Promises a record, and ends in its middle.
        return number + struct.pack(">HHHHH", flags, 1, 1, 0, 0) + question[12:end] + record(A, b"\1\2\3\4")[:13]
    if name == "wrong.test":
        # To a question that nobody asked.
        return bytes([number[0] ^ 255]) + whole[1:]
    return whole


def by_udp(server):
    while True:
        question, peer = server.recvfrom(4096)
        reply = answer(question, False)
        if reply is not None:
            server.sendto(reply, peer)


def by_tcp(server):
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            # Two questions may come over one connection.
            try:
                while length := connection.recv(2, socket.MSG_WAITALL):
                    question = connection.recv(struct.unpack(">H", length)[0], socket.MSG_WAITALL)
                    reply = answer(question, True) or b""
                    connection.sendall(struct.pack(">H", len(reply)) + reply)
            except OSError:
                pass


def waiting(server):
    while True:
        connection, _ = server.accept()
        connection.close()


folder, *command = sys.argv[1:]
for file, text in [
    ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
    ("nsswitch.conf", "hosts: files dns\n"),
]:
    with open(f"{folder}/{file}", "w") as made:
        made.write(text)
    subprocess.run(["mount", "--bind", f"{folder}/{file}", f"/etc/{file}"], check=True)
for name, address in [(b"lo", "127.0.0.1"), (b"lo:1", WORLD), (b"lo:2", SECOND)]:
    interface(name, address)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 53))
dns = socket.create_server(("127.0.0.1", 53))
web = socket.create_server(("0.0.0.0", 80))
for serve, server in [(by_udp, udp), (by_tcp, dns), (waiting, web)]:
    threading.Thread(target=serve, args=(server,), daemon=True).start()
began = time.monotonic()
ended = subprocess.run(command, timeout=240)
# A silent server is waited for for seconds, not for minutes.
assert time.monotonic() - began < 120
sys.exit(ended.returncode)
