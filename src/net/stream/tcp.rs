//! A stream client's TCP allocation (RFC 6062): what the core asks for, carried out by the client's task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::net::mailbox::Query;
use crate::net::tcp::{News, Owner};
use crate::net::worker::Out;
use crate::relay::tcp::{ConnectError, LinkId};
use crate::relay::{Event, OpenError, OpenRelay, TcpOutput, Usage};
use crate::time::Now;

impl<S> Client<S> {
    /// The account of an allocation, with what its data connections have carried.
    pub(super) fn account(&self, mut event: Event) -> Event {
        if let Some(tcp) = &self.tcp {
            tcp.account(&mut event);
        }
        event
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Looks at the TCP relayed address. True when more may be waiting.
    pub(super) fn poll_tcp(&mut self, cx: &mut Context<'_>, now: Now, out: &mut Out) -> bool {
        let Some(owner) = &mut self.tcp else { return false };
        let more = owner.poll(cx, now, &mut self.relay);
        self.drain(now, out);
        more
    }

    /// Carries out what the core asks for.
    pub(super) fn obey_tcp(&mut self, now: Now, output: TcpOutput) {
        match output {
            TcpOutput::Connect { link, peer, route } => {
                let begun = self.tcp.as_mut().map_or(Err(ConnectError::Failed), |tcp| tcp.connect(link, peer, route));
                match begun {
                    // It is polled in this task's next turn.
                    Ok(()) => self.again = true,
                    Err(error) => self.relay.peer_connected(now, link, Err(error)),
                }
            }
            TcpOutput::Bind { connection, subject } => {
                let joined = self.shared.tcp.take(connection, &subject);
                self.relay.connection_bound(joined.as_ref().map(|_| ()).map_err(|error| *error));
                self.joined = joined.ok().map(Box::new);
            }
            TcpOutput::Close(link) => self.close_link(link),
        }
    }

    fn close_link(&mut self, link: LinkId) {
        if let Some(tcp) = &mut self.tcp {
            tcp.close_link(link);
        }
    }

    /// What became of a link in the task that joined it.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Bound(link) => self.relay.link_bound(link),
            News::Closed(link) => {
                self.close_link(link);
                self.relay.link_closed(link);
            }
        }
    }

    /// What the client's allocation uses, if it is of `subject`.
    pub(super) fn usage(&mut self, now: Now, query: &Query, limit: usize) -> Vec<Usage> {
        let mut usage = self.relay.usage(now.mono, |subject| query.wants(subject), limit);
        if let Some(tcp) = &self.tcp {
            tcp.report(&mut usage);
        }
        usage
    }

    /// Opens a TCP relayed address.
    pub(super) fn open_tcp(&mut self, now: Now, open: &OpenRelay) -> Result<SocketAddr, OpenError> {
        let charge = self.tcp.as_ref().and_then(|tcp| tcp.charge());
        let granted = self.shared.grants.open(now, open, charge)?;
        let bound = granted.bound;
        let tcp = self.tcp.get_or_insert_with(|| {
            let (registry, mailbox) = (Arc::clone(&self.shared.tcp), Arc::clone(&self.mailbox));
            Box::new(Owner::new(registry, mailbox, Arc::clone(&open.subject)))
        });
        tcp.add(open.relay, granted).map_err(|error| {
            tracing::warn!(%error, "a TCP relayed address could not be watched");
            OpenError::Capacity
        })?;
        self.again = true;
        Ok(bound)
    }
}
