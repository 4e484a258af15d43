//! Carrying messages from one peer to others.

use super::Hub;
use crate::signaling::{Body, Event, Fault, Kind, PeerId, To};

impl Hub {
    pub(super) fn send(&mut self, me: &PeerId, to: To, kind: Kind, body: Option<Body>) {
        match to {
            To::Peer(other) => {
                if !self.may_send(me, &other) {
                    return self.deliver(me, Event::Complaint(Fault::UnknownPeer));
                }
                if kind == Kind::Offer {
                    self.with_peer(me, |peer| peer.offered_to_all = false);
                }
                self.carry(me, &other, kind, body);
            }
            To::Others => {
                let receivers = self.fitting(me, kind);
                if kind == Kind::Offer {
                    self.with_peer(me, |peer| {
                        peer.pair = None;
                        peer.offered_to_all = true;
                    });
                }
                for other in receivers {
                    self.carry(me, &other, kind, body.clone());
                }
            }
        }
    }

    fn may_send(&self, me: &PeerId, other: &PeerId) -> bool {
        let (Some(from), Some(to)) = (self.peers.get(me), self.peers.get(other)) else { return false };
        me != other && from.room == to.room && from.room.carries(from.role, to.role)
    }

    /// Who gets a message that names nobody.
    fn fitting(&self, me: &PeerId, kind: Kind) -> Vec<PeerId> {
        let pair = self.peers.get(me).and_then(|peer| peer.pair.clone());
        match (kind, pair) {
            (Kind::Answer | Kind::Candidate, Some(pair)) if self.may_send(me, &pair) => vec![pair],
            _ => self.seen_from(me),
        }
    }

    /// Hands a message over and remembers who is negotiating with whom.
    fn carry(&mut self, me: &PeerId, other: &PeerId, kind: Kind, body: Option<Body>) {
        let taken = |pair: &PeerId| pair != me && self.may_send(other, pair);
        let taken =
            self.peers.get(other).is_some_and(|peer| peer.offered_to_all && peer.pair.as_ref().is_some_and(taken));
        let Some(receiver) = self.peers.get_mut(other) else { return };
        match kind {
            Kind::Offer => receiver.pair = Some(me.clone()),
            Kind::Answer => {
                // Pages that offer to everybody have one connection: a second answer would break it.
                if taken {
                    let event = Event::Message { from: other.clone(), kind: Kind::Bye, body: None };
                    return self.deliver(me, event);
                }
                receiver.pair = Some(me.clone());
                self.with_peer(me, |peer| peer.pair = Some(other.clone()));
            }
            Kind::Bye => {
                if receiver.pair.as_ref() == Some(me) {
                    receiver.pair = None;
                }
            }
            Kind::Candidate => {}
        }
        self.deliver(other, Event::Message { from: me.clone(), kind, body });
    }
}
