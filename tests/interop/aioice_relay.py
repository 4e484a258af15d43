"""Two ICE agents of aioice that may use nothing but our relay: host and ports come as arguments.

    aioice_relay.py HOST UDP_PORT TCP_PORT USERNAME PASSWORD
"""

import asyncio
import sys

import aioice

MESSAGES = 50


async def gathered(controlling, transport, host, ports, username, password):
    agent = aioice.Connection(
        ice_controlling=controlling,
        turn_server=(host, ports[transport]),
        turn_username=username,
        turn_password=password,
        turn_transport=transport,
        transport_policy=aioice.TransportPolicy.RELAY,
        use_ipv6=False,
    )
    await agent.gather_candidates()
    kinds = {candidate.type for candidate in agent.local_candidates}
    assert kinds == {"relay"}, kinds
    return agent


async def call(transports, *server):
    one = await gathered(True, transports[0], *server)
    two = await gathered(False, transports[1], *server)
    for agent, other in ((one, two), (two, one)):
        for candidate in other.local_candidates:
            await agent.add_remote_candidate(candidate)
        await agent.add_remote_candidate(None)
        agent.remote_username = other.local_username
        agent.remote_password = other.local_password
    await asyncio.gather(one.connect(), two.connect())
    for number in range(MESSAGES):
        payload = bytes([number]) * (1 + number * 20)
        await one.send(payload)
        assert await two.recv() == payload
        await two.send(payload)
        assert await one.recv() == payload
    await one.close()
    await two.close()
    print("aioice", *transports, MESSAGES, "messages each way")


async def main():
    host, udp, tcp, username, password = sys.argv[1:]
    ports = {"udp": int(udp), "tcp": int(tcp)}
    for transports in (("udp", "udp"), ("tcp", "tcp"), ("udp", "tcp")):
        await asyncio.wait_for(call(transports, host, ports, username, password), 20)


asyncio.run(main())
