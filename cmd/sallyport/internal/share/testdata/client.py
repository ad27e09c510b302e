"""A client of a shared connection, written from sshtunnel/mux/doc.go alone.

It attaches to the share at the socket argv[1], uses everything that a share can do, and tells on
stdout what it saw. The address argv[2] echoes what it is sent until the end of that direction.
"""

import json
import os
import socket
import struct
import sys

SOCKET, ECHO = sys.argv[1:]
MAX_LINE = 65536


class Connection:
    """One local connection: a greeting, a request, lines, and then perhaps bytes."""

    def __init__(self, op, **members):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(SOCKET)
        uid = struct.unpack("3i", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid != os.getuid():
            raise PermissionError("the share is another user's")
        self.rest = b""
        self.greeting = self.line()
        self.say({"mux": 1, "op": op, **members})

    def say(self, message):
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def line(self):
        while b"\n" not in self.rest:
            if len(self.rest) > MAX_LINE:
                raise ValueError("a line is too long")
            more = self.sock.recv(4096)
            if not more:
                raise EOFError
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def reply(self, member):
        """The next line, which must have this member. Lines about the way there are passed over."""
        while True:
            line = self.line()
            if member in line:
                return line[member]
            if not line.keys() & {"state", "notice"}:
                raise ValueError(f"{line} in place of {member}")

    def bytes(self):
        """All bytes to the end."""
        data, self.rest = self.rest, b""
        while more := self.sock.recv(65536):
            data += more
        return data

    def end(self):
        self.sock.shutdown(socket.SHUT_WR)


def echo(stream, text):
    stream.sock.sendall(text)
    stream.end()
    got = stream.bytes()
    assert got == text, f"{len(got)} bytes came back of {len(text)}"


refused = Connection("dial", network="tcp", address=ECHO).line()["error"]["type"]
print("before attach:", refused)

presence = Connection("attach", attach={"pid": os.getpid(), "purpose": "a client in Python", "ask": True, "hops": ["elsewhere"]})
assert presence.greeting["mux"] == 1 and not presence.greeting.get("draining"), presence.greeting
print("greeting:", presence.greeting["version"], presence.greeting["hops"])
presence.reply("up")
presence.say({"ping": 7})
print("pong:", presence.reply("pong"))

stream = Connection("dial", network="tcp", address=ECHO)
stream.reply("ok")
echo(stream, b"hello" * 20_000)
print("dial: echoed")
error = Connection("dial", network="tcp", address="127.0.0.1:1").line()["error"]
print("dial refused:", error["type"], error.get("hop"), bool(error["text"]))
print("unknown op:", Connection("dance").line()["error"]["type"])

listening = Connection("listen", network="tcp", address="127.0.0.1:0")
port = listening.reply("ok")["port"]
visitor = socket.create_connection(("127.0.0.1", port), 30)
arrival = listening.reply("arrival")
host = Connection("accept", id=arrival["id"])
host.reply("ok")
visitor.sendall(b"hello")
visitor.shutdown(socket.SHUT_WR)
print("listen:", host.bytes().decode(), arrival["remote"] == "%s:%d" % visitor.getsockname())
host.end()
listening.end()
try:
    listening.line()
except EOFError:
    print("listen: cancelled")

command = Connection("exec", command="cat; echo oops >&2; exit 3")
name = command.reply("ok")["id"]
echo(command, b"to cat\n")
exit = Connection("wait", id=name).reply("exit")
print("exec:", exit["status"], exit["stderr"].strip())

status = Connection("status").reply("status")
me = status["users"][-1]
print("status:", status["phase"], status["streams"], status["attached"], me["purpose"], me["hops"], me["pid"] == os.getpid())

old = Connection("dial", network="tcp", address=ECHO)
old.reply("ok")
Connection("drain", why="a test").reply("ok")
print("draining:", "a test" in presence.reply("draining")["why"])
presence.end()
echo(old, b"a stream lives on")
print("drained: echoed")
