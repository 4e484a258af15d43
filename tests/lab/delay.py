"""A bad link, for kernels without netem: frames between two interfaces come late, and some never.

    delay.py ONE OTHER MILLISECONDS PERCENT

Each way has that delay and loses that share of its frames at random.
"""

import collections
import random
import select
import socket
import sys
import time

ETH_P_ALL = 0x0003
SOL_PACKET = 263
# Frames come and go with their offload header: checksums that the sending kernel left to its "card" stay so.
PACKET_VNET_HDR = 15
PACKET_OUTGOING = 4
LARGEST = 10 + 14 + 65536
# A sender that is faster than the link for long loses frames, as anywhere.
LONGEST_QUEUE = 20000


def opened(interface):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    link.bind((interface, ETH_P_ALL))
    link.setblocking(False)
    return link


def main(one, other, milliseconds, percent):
    delay, loss = float(milliseconds) / 1000, float(percent) / 100
    links = [opened(one), opened(other)]
    towards = {links[0]: links[1], links[1]: links[0]}
    waiting = collections.deque()
    while True:
        timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for link in select.select(links, [], [], timeout)[0]:
            frame, sender = link.recvfrom(LARGEST)
            if sender[2] == PACKET_OUTGOING or random.random() < loss or len(waiting) >= LONGEST_QUEUE:
                continue
            waiting.append((time.monotonic() + delay, towards[link], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, link, frame = waiting.popleft()
            try:
                link.send(frame)
            except OSError:
                # The queue of the interface is full, or its other end is gone: a lost frame.
                pass


main(*sys.argv[1:])
