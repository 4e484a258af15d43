//! Sessions of clients that do not know which room they are in, and the places that such sessions hold.

use super::{Hub, Output, Peer};
use crate::signaling::{Delivery, Event, Fault, LeaveReason, LinkId, PeerId, Resume, RoomKey};

impl Hub {
    /// Gives up the first lost peer of a call room that may be: true when there is one place more.
    pub(super) fn make_room(&mut self, key: &RoomKey) -> bool {
        let (RoomKey::Call(_), Some(room)) = (key, self.rooms.get(key)) else { return false };
        let yields = |id: &&PeerId| {
            let session = |peer: &Peer| peer.link.is_none() && peer.session.as_ref().is_some_and(|kept| kept.unaware);
            self.peers.get(*id).is_some_and(session)
        };
        let Some(id) = room.members.values().find(yields).cloned() else { return false };
        self.remove(&id, LeaveReason::Lost);
        true
    }

    /// Takes up a session as it stands. One that missed more than is kept is over. Who has the session already is told
    /// once more where it is.
    pub(super) fn resume(&mut self, link: LinkId, resume: &Resume) {
        self.withdraw(link);
        let known = self.sessions.get(&resume.secret).and_then(|id| self.peers.get(id));
        let found = known.map(|peer| {
            let reaches = |seq: &u64| {
                *seq <= peer.seq && peer.session.as_ref().is_some_and(|session| session.reaches_back_to(*seq))
            };
            (peer.id.clone(), peer.link, resume.seq.filter(reaches))
        });
        if let Some((id, Some(old), _)) = &found
            && *old == link
        {
            return self.tell_again(link, id);
        }
        if let Some(before) = self.links.get(&link).cloned() {
            self.remove(&before, LeaveReason::Left);
        }
        let Some((id, old_link, seq)) = found else { return self.shut_out(link, Fault::UnknownSession) };
        if let Some(old) = old_link {
            self.shut_out(old, Fault::Replaced);
        }
        let Some(seq) = seq else {
            self.remove(&id, LeaveReason::Lost);
            return self.shut_out(link, Fault::UnknownSession);
        };
        if let Some(old) = old_link {
            self.links.remove(&old);
        }
        self.attach_again(link, &id, seq);
    }

    fn tell_again(&mut self, link: LinkId, id: &PeerId) {
        let (Some(joined), Some(peer)) = (self.joined(id, true), self.peers.get(id)) else { return };
        let delivery = Delivery { seq: peer.seq, event: Event::Joined(Box::new(joined)) };
        self.outputs.push_back(Output::Deliver { link, delivery });
    }
}
