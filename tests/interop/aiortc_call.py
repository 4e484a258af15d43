"""A call between two peer connections of aiortc through our relay alone: a data channel and a sound track.

    aiortc_call.py HOST UDP_PORT TCP_PORT USERNAME PASSWORD
"""

import asyncio
import sys

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack
from aiortc.rtcconfiguration import RTCIceTransportPolicy

MESSAGES = 20
FRAMES = 20


def connection(url, username, password):
    server = RTCIceServer(urls=url, username=username, credential=password)
    return RTCPeerConnection(RTCConfiguration(iceServers=[server], iceTransportPolicy=RTCIceTransportPolicy.RELAY))


async def call(url, username, password):
    caller, callee = connection(url, username, password), connection(url, username, password)
    echoes, frames = asyncio.Queue(), asyncio.Queue()

    @callee.on("datachannel")
    def on_channel(channel):
        channel.on("message", lambda message: channel.send("echo " + message))

    @callee.on("track")
    async def on_track(track):
        for _ in range(FRAMES):
            await frames.put(await track.recv())

    channel = caller.createDataChannel("chat")
    caller.addTrack(AudioStreamTrack())
    channel.on("open", lambda: [channel.send(f"message {number}") for number in range(MESSAGES)])
    channel.on("message", echoes.put_nowait)

    # aiortc gathers before it describes: the descriptions carry every candidate.
    await caller.setLocalDescription(await caller.createOffer())
    kinds = [line.split(" typ ")[1].split()[0] for line in caller.localDescription.sdp.splitlines() if " typ " in line]
    assert kinds and set(kinds) == {"relay"}, kinds
    await callee.setRemoteDescription(caller.localDescription)
    await callee.setLocalDescription(await callee.createAnswer())
    await caller.setRemoteDescription(callee.localDescription)

    for number in range(MESSAGES):
        assert await echoes.get() == f"echo message {number}"
    for _ in range(FRAMES):
        await frames.get()
    await caller.close()
    await callee.close()
    print("aiortc", url, MESSAGES, "messages,", FRAMES, "frames of sound")


async def main():
    host, udp, tcp, username, password = sys.argv[1:]
    for url in (f"turn:{host}:{udp}?transport=udp", f"turn:{host}:{tcp}?transport=tcp"):
        await asyncio.wait_for(call(url, username, password), 30)


asyncio.run(main())
