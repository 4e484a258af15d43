// A room relay as one writes it on bare `ws`: JSON in, everybody else in the room gets it with the sender's id.

import { randomUUID } from 'node:crypto';
import { WebSocketServer } from 'ws';
import { httpServer, listen } from './listen.mjs';

const server = httpServer();
const sockets = new WebSocketServer({ server });
const rooms = new Map();

sockets.on('connection', (socket) => {
  const peer = randomUUID();
  let room;
  const tellOthers = (message) => {
    const text = JSON.stringify(message);
    for (const [other, id] of rooms.get(room) ?? []) if (id !== peer) other.send(text);
  };
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    if (message.type === 'join') {
      room = message.room;
      if (!rooms.has(room)) rooms.set(room, new Map());
      const peers = [...rooms.get(room).values()].map((id) => ({ peer: id }));
      rooms.get(room).set(socket, peer);
      socket.send(JSON.stringify({ type: 'joined', room, peer, peers }));
      tellOthers({ type: 'peer-joined', peer });
      return;
    }
    delete message.to;
    tellOthers({ ...message, from: peer });
  });
  socket.on('close', () => {
    rooms.get(room)?.delete(socket);
    if (rooms.get(room)?.size === 0) rooms.delete(room);
  });
});

listen(server);
