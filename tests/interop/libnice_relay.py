"""Two agents of libnice that may use nothing but our relay.

    libnice_relay.py HOST UDP_PORT TCP_PORT USERNAME PASSWORD
"""

import ctypes
import sys

import gi

gi.require_version("Nice", "0.1")
from gi.repository import GLib, Nice  # noqa: E402

MESSAGES = 50
SECONDS = 30
COMPONENT = 1


# The bindings lack the function that takes what was received.
LIBRARY = ctypes.CDLL("libnice.so.10")
POINTER, NUMBER = ctypes.c_void_p, ctypes.c_uint
RECEIVE = ctypes.CFUNCTYPE(None, POINTER, NUMBER, NUMBER, NUMBER, POINTER, POINTER)
LIBRARY.nice_agent_attach_recv.argtypes = [POINTER, NUMBER, NUMBER, POINTER, RECEIVE, POINTER]


class Side:
    """One agent with one stream, on the main loop that both share."""

    def __init__(self, loop, controlling, host, port, username, password, kind):
        self.loop, self.received = loop, []
        self.agent = Nice.Agent.new(loop.get_context(), Nice.Compatibility.RFC5245)
        for name, value in (("controlling-mode", controlling), ("force-relay", True), ("ice-tcp", False), ("upnp", False)):
            self.agent.set_property(name, value)
        self.agent.add_local_address(address(host))
        self.stream = self.agent.add_stream(1)
        assert self.agent.set_relay_info(self.stream, COMPONENT, host, port, username, password, kind)
        self.gathered = self.ready = False
        self.agent.connect("candidate-gathering-done", self.on_gathered)
        self.agent.connect("component-state-changed", self.on_state)
        self.callback = RECEIVE(self.on_data)
        # An object of these bindings hashes to its address in C.
        assert LIBRARY.nice_agent_attach_recv(hash(self.agent), self.stream, COMPONENT, None, self.callback, None)

    def on_gathered(self, _agent, _stream):
        self.gathered = True

    def on_state(self, _agent, _stream, _component, state):
        assert state != int(Nice.ComponentState.FAILED), "libnice found no pair"
        self.ready = state == int(Nice.ComponentState.READY)

    def on_data(self, _agent, _stream, _component, length, data, _user):
        self.received.append(ctypes.string_at(data, length).decode())

    def meet(self, other):
        """Takes the credentials and candidates of the other side."""
        _, ufrag, password = other.agent.get_local_credentials(other.stream)
        assert self.agent.set_remote_credentials(self.stream, ufrag, password)
        candidates = other.agent.get_local_candidates(other.stream, COMPONENT)
        kinds = {candidate.type for candidate in candidates}
        assert kinds == {Nice.CandidateType.RELAYED}, kinds
        assert self.agent.set_remote_candidates(self.stream, COMPONENT, candidates) > 0


def address(ip):
    found = Nice.Address.new()
    assert found.set_from_string(ip)
    return found


def until(loop, what, condition):
    """Runs the loop until the condition holds."""
    context, late = loop.get_context(), []
    timer = GLib.timeout_add_seconds(SECONDS, lambda: late.append(True))
    while not condition():
        assert not late, "waited in vain for " + what
        context.iteration(True)
    GLib.source_remove(timer)


def call(name, kind, host, port, username, password):
    loop = GLib.MainLoop.new(GLib.MainContext.default(), False)
    sides = [Side(loop, controlling, host, port, username, password, kind) for controlling in (True, False)]
    for side in sides:
        assert side.agent.gather_candidates(side.stream)
    until(loop, "candidates", lambda: all(side.gathered for side in sides))
    sides[0].meet(sides[1])
    sides[1].meet(sides[0])
    until(loop, "a pair", lambda: all(side.ready for side in sides))
    for number in range(MESSAGES):
        text = f"message {number} " + "x" * (number * 20)
        for one, two in (sides, reversed(sides)):
            assert one.agent.send(one.stream, COMPONENT, len(text), text) == len(text)
            until(loop, "message %d" % number, lambda: two.received)
            assert two.received.pop() == text
    print("libnice", name, MESSAGES, "messages each way")


host, udp, tcp, username, password = sys.argv[1:]
call("udp", Nice.RelayType.UDP, host, int(udp), username, password)
call("tcp", Nice.RelayType.TCP, host, int(tcp), username, password)
