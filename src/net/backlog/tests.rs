use std::task::Waker;

use super::*;

/// Takes `room` bytes and then no more.
struct Pipe {
    room: usize,
    taken: Vec<u8>,
    writes: usize,
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Poll::Pending;
        }
        self.room -= count;
        self.writes += 1;
        self.taken.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Client {
    pipe: Pipe,
    backlog: Backlog,
    frames: Frames,
    gather: Vec<u8>,
}

impl Client {
    fn new(room: usize) -> Self {
        Self::with_cut(room, Cut::Anywhere)
    }

    fn with_cut(room: usize, cut: Cut) -> Self {
        let pipe = Pipe { room, taken: Vec::new(), writes: 0 };
        Self { pipe, backlog: Backlog::new(cut), frames: Frames::default(), gather: Vec::new() }
    }

    fn write(&mut self, now: u64) -> Result<(), WriteError> {
        let cx = &mut Context::from_waker(Waker::noop());
        self.backlog.write(cx, &mut self.pipe, &mut self.frames, &mut self.gather, Mono(now))
    }
}

#[test]
fn many_frames_are_one_write() {
    let mut client = Client::new(usize::MAX);
    client.frames.push_media(b"head", b"abc", 1);
    client.frames.push_control(b"control");
    client.frames.push_media(b"head", b"", 0);
    client.write(0).unwrap();
    assert_eq!(client.pipe.taken, b"headabc\0controlhead");
    assert_eq!(client.pipe.writes, 1);
    assert!(client.backlog.is_empty());
}

#[test]
fn over_tls_every_frame_is_a_write() {
    for room in 0..=40 {
        let mut client = Client::with_cut(room, Cut::Frames);
        for index in 0..4 {
            client.frames.push_media(&[index; 4], &[index; 6], 0);
        }
        client.write(0).unwrap();
        client.pipe.room = usize::MAX;
        client.write(0).unwrap();
        assert_eq!(client.pipe.taken.len(), 40);
        assert_eq!(client.pipe.writes, 4 + usize::from(!room.is_multiple_of(10)), "room {room}");
    }
}

#[test]
fn a_frame_begun_is_finished_wherever_the_client_stopped() {
    let whole: Vec<u8> = (0..40u8).flat_map(|index| [index; 10]).collect();
    for room in 0..=whole.len() {
        let mut client = Client::new(room);
        for frame in whole.chunks(10) {
            client.frames.push_media(&frame[..4], &frame[4..], 0);
        }
        client.write(0).unwrap();
        assert_eq!(client.pipe.taken, whole[..room]);
        // Everything that waits is too old when the client reads again; what was begun must still be completed.
        client.pipe.room = usize::MAX;
        client.frames.push_control(b"later");
        client.write(60_000).unwrap();
        let kept = room.next_multiple_of(10);
        assert_eq!(client.pipe.taken, [&whole[..kept], b"later"].concat(), "room {room}");
        assert_eq!(client.backlog.dropped, ((whole.len() - kept) / 10) as u64);
        assert!(client.backlog.is_empty());
    }
}

#[test]
fn media_is_bounded_oldest_first_and_control_keeps_its_place() {
    let mut client = Client::new(0);
    let payload = vec![0; 60_000];
    for index in 0..100u8 {
        client.frames.push_media(&[index], &payload, 0);
        if index == 50 {
            client.frames.push_control(b"control");
        }
        client.write(u64::from(index)).unwrap();
        assert!(client.backlog.media_bytes <= MEDIA_BYTES);
    }
    client.pipe.room = usize::MAX;
    client.write(100).unwrap();
    let kept = MEDIA_BYTES / 60_001;
    assert_eq!(&client.pipe.taken[..7], b"control", "all media before it was dropped");
    let firsts: Vec<u8> = client.pipe.taken[7..].chunks(60_001).map(|frame| frame[0]).collect();
    assert_eq!(firsts, (100 - kept as u8..100).collect::<Vec<_>>());
    assert_eq!(client.backlog.dropped, 100 - kept as u64);
    assert_eq!((client.backlog.media_bytes, client.backlog.control_bytes), (0, 0));
}

#[test]
fn a_client_that_asks_and_never_reads_is_closed() {
    let mut client = Client::new(0);
    let refused = (0..1_000).find_map(|_| {
        client.frames.push_control(&[0; 100]);
        client.write(0).err()
    });
    assert!(matches!(refused, Some(WriteError::ControlBacklog)));
    assert!(client.backlog.control_bytes <= CONTROL_BYTES + 100);
}
