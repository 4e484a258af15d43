use tokio::net::TcpListener;

use super::*;
use crate::net::mailbox::{Bell, Packets};
use crate::relay::{Family, RelayId};

fn link(number: u32) -> LinkId {
    LinkId { relay: RelayId { slot: 0, generation: 0, family: Family::V4 }, number }
}

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new(Bell::Task(futures_util::task::AtomicWaker::new())))
}

fn news(mailbox: &Mailbox) -> Vec<News> {
    let mut orders = Vec::new();
    mailbox.collect(&mut Packets::default(), &mut orders);
    orders
        .into_iter()
        .map(|order| match order {
            Order::Link(news) => news,
            other => panic!("{other:?}"),
        })
        .collect()
}

async fn peer() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
}

async fn offered(registry: &Arc<Registry>, owner: &Arc<Mailbox>, number: u32) -> Held {
    let place = registry.enter().expect("room");
    let (held, end) = registry.reserve();
    let papers =
        Papers { link: link(number), subject: "p.1".into(), owner: Arc::clone(owner), meter: Arc::default(), place };
    papers.offer(registry, &held, peer().await, end);
    held
}

#[tokio::test]
async fn a_connection_is_taken_once_and_by_its_owner() {
    let (registry, owner) = (Arc::new(Registry::new(8)), mailbox());
    let (empty, _end) = registry.reserve();
    assert_eq!(registry.take(empty.id, "p.1").err(), Some(BindError::Unknown), "it is not there yet");
    let held = offered(&registry, &owner, 1).await;
    assert_eq!(registry.take(held.id, "p.2").err(), Some(BindError::WrongOwner));
    assert_eq!(registry.take(ConnectionId(held.id.0 ^ 1), "p.1").err(), Some(BindError::Unknown));
    let joined = registry.take(held.id, "p.1").expect("the owner gets it");
    assert_eq!(registry.take(held.id, "p.1").err(), Some(BindError::Unknown), "once");
    assert_eq!(news(&owner), [News::Bound(link(1))]);
    drop(joined);
    assert_eq!(news(&owner), [News::Closed(link(1))]);
    drop((held, empty));
    assert!(registry.lock().waiting.is_empty() && registry.lock().places == 0);
}

#[tokio::test]
async fn what_its_owner_drops_ends_wherever_it_is() {
    let (registry, owner) = (Arc::new(Registry::new(8)), mailbox());
    let waiting = offered(&registry, &owner, 1).await;
    let id = waiting.id;
    drop(waiting);
    assert_eq!(registry.take(id, "p.1").err(), Some(BindError::Unknown));
    let bound = offered(&registry, &owner, 2).await;
    let mut joined = registry.take(bound.id, "p.1").unwrap();
    assert!(joined.end.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    drop(bound);
    assert!(joined.end.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
}

#[tokio::test]
async fn places_are_bounded() {
    let registry = Arc::new(Registry::new(2));
    let held = [registry.enter(), registry.enter()];
    assert!(held.iter().all(Option::is_some) && registry.enter().is_none());
    drop(held);
    assert!(registry.enter().is_some());
}

#[test]
fn addresses_by_both_names() {
    let registry = Arc::new(Registry::new(2));
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (one, two, public) = (address("10.0.0.1:50000"), address("10.0.0.2:50000"), address("203.0.113.7:50000"));
    let first = registry.list(one, public);
    assert_eq!((registry.bound(public), registry.bound(one), registry.bound(two)), (Some(one), Some(one), None));
    assert_eq!((registry.advertised(one), registry.advertised(two)), (public, two));
    let second = registry.list(two, public);
    drop(first);
    assert_eq!((registry.bound(public), registry.bound(one)), (Some(two), None), "the later one stays");
    drop(second);
    assert_eq!((registry.bound(public), registry.advertised(two)), (None, two));
}
