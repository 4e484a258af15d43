//! The conformance cases of the Engine.IO 4 and Socket.IO 5 protocol repositories (their `test-suite`), re-stated: each
//! in our own words, with the section of the protocol that it holds. They run over real sockets against two small
//! applications on our own layers and our own shell: an echo on Engine.IO, and namespaces that echo on Socket.IO.

#[path = "../http/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with another test")]
mod server;

mod applications;
mod client;
mod engine;
mod sockets;

use std::future::Future;
use std::pin::Pin;

use applications::World;

/// A case: what must hold, the section that says so, and the check.
type Case = (&'static str, &'static str, fn(World) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// Runs every case of a table at once, each with a connection of its own, and names those that fail.
async fn run(world: &World, cases: &[Case]) {
    let started: Vec<_> =
        cases.iter().map(|(name, section, case)| (*name, *section, tokio::spawn(case(*world)))).collect();
    let mut failed = Vec::new();
    for (name, section, task) in started {
        if let Err(error) = task.await {
            failed.push(format!("{section}: {name}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_io() {
    let (server, world) = World::start(applications::echo).await;
    assert_eq!(engine::TRANSPORT.len() + engine::MESSAGES.len(), 24, "the suite has so many cases");
    run(&world, engine::TRANSPORT).await;
    run(&world, engine::MESSAGES).await;
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_io() {
    let (server, world) = World::start(applications::namespaces).await;
    // Socket.IO's suite begins with Engine.IO's own, all but the messages.
    assert_eq!(engine::TRANSPORT.len() + sockets::CASES.len(), 32, "the suite has so many cases");
    run(&world, engine::TRANSPORT).await;
    run(&world, sockets::CASES).await;
    run(&world, sockets::MORE).await;
    server.app.stop().await;
}
