// The room call of many tutorials, on the stock Socket.IO server.

import { Server } from 'socket.io';
import { httpServer, listen } from './listen.mjs';

const server = httpServer();
const options = { serveClient: false, transports: ['websocket'] };
if (process.env.RECOVERY) options.connectionStateRecovery = { maxDisconnectionDuration: 60_000 };
const io = new Server(server, options);

io.of('/webrtc').on('connection', (socket) => {
  socket.on('join-room', ({ room }, done) => {
    socket.join(room);
    done?.({ room });
  });
  const relay = (event, field) => {
    socket.on(event, (message) => {
      const body = { from: socket.id };
      body[field] = message[field];
      socket.to(message.room).emit(event, body);
    });
  };
  relay('webrtc-offer', 'offer');
  relay('webrtc-answer', 'answer');
  relay('webrtc-ice-candidate', 'candidate');
});

listen(server);
