//! Binds the TCP ports. An address set by the operator must bind; of the defaults only a missing family is forgiven.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Passed;
use crate::config::{Config, Listen};
use crate::net::holder::holder;
use crate::web::Bound;
use crate::web::front::Listener;

/// Connections that wait for us to take them; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds `--tcp` and `--http`, or takes the sockets of these addresses that were passed.
pub(super) fn listeners(config: &Config, passed: &mut Passed) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (listen, flag, serves_plain) in [(&config.tcp, "--tcp", false), (&config.http, "--http", true)] {
        for address in &listen.addresses {
            let socket = match passed.take_tcp(*address) {
                Some(socket) => Some(adopt(socket, *address)?),
                None => bind(*address, listen, flag)?,
            };
            if let Some(socket) = socket {
                let address = socket.local_addr()?;
                listeners.push(Listener { socket, address, serves_plain });
            }
        }
    }
    passed.close_rest();
    let is_wanted = !config.tcp.addresses.is_empty() || !config.http.addresses.is_empty();
    if listeners.is_empty() && is_wanted {
        bail!("no TCP port could be bound; give one with --tcp or --http");
    }
    Ok(listeners)
}

fn adopt(socket: std::net::TcpListener, address: SocketAddr) -> Result<TcpListener> {
    let taken = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
    let taken = taken.with_context(|| format!("the socket passed for TCP {address} cannot be used"))?;
    tracing::info!(%address, "a passed TCP socket is in use");
    Ok(taken)
}

/// Binds `--metrics`.
pub(super) fn metrics(config: &Config) -> Result<Option<TcpListener>> {
    let listen = |address| Listen { addresses: vec![address], explicit: true };
    config.metrics.map_or(Ok(None), |address| bind(address, &listen(address), "--metrics"))
}

/// What bound.
pub(super) fn addresses(listeners: &[Listener]) -> Bound {
    let of = |serves_plain: bool| {
        listeners.iter().filter(|one| one.serves_plain == serves_plain).map(|one| one.address).collect()
    };
    Bound { tcp: of(false), http: of(true), ..Bound::default() }
}

/// The port is taken: names the holder where the system tells.
fn in_use(address: SocketAddr, flag: &str) -> anyhow::Error {
    let holder = holder(address, "TCP").map_or_else(String::new, |holder| format!(" by {holder}"));
    anyhow!("TCP {address}: already in use{holder}; stop that, or choose another port with {flag}")
}

fn bind(address: SocketAddr, listen: &Listen, flag: &str) -> Result<Option<TcpListener>> {
    let error = match open(address) {
        Ok(socket) => return Ok(Some(TcpListener::from_std(socket.into())?)),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => Err(in_use(address, flag)),
        io::ErrorKind::PermissionDenied => Err(error).with_context(|| {
            format!(
                "TCP {address} cannot be bound: ports below 1024 need the capability CAP_NET_BIND_SERVICE; run the \
                 systemd service, or choose another port with {flag}"
            )
        }),
        _ if !listen.explicit && is_family_missing(&error) => {
            tracing::warn!(%address, %error, "this address family is missing here; going on without it");
            Ok(None)
        }
        io::ErrorKind::AddrNotAvailable => Err(error)
            .with_context(|| format!("TCP {address} cannot be bound: no interface here has that address; see {flag}")),
        _ => Err(error).with_context(|| format!("TCP {address} cannot be bound; see {flag}")),
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart need not wait for the connections of the run before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn is_family_missing(error: &io::Error) -> bool {
    let is_unsupported = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    is_unsupported || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(address: &str, explicit: bool) -> Listen {
        Listen { addresses: vec![address.parse().expect("address")], explicit }
    }

    #[tokio::test]
    async fn a_port_in_use_names_address_holder_and_remedy() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = held.local_addr().expect("address").to_string();
        let config = Config { tcp: listen(&address, true), ..Config::default() };
        let text = listeners(&config, &mut Passed::default()).err().expect("refused").to_string();
        let own = format!("pid {}", std::process::id());
        assert!(text.contains(&address) && text.contains(&own) && text.contains("--tcp"), "{text}");
        let config = Config { tcp: listen(&address, false), ..Config::default() };
        assert!(
            listeners(&config, &mut Passed::default()).is_err(),
            "a default that is in use stops the start as well"
        );
    }

    #[tokio::test]
    async fn an_address_that_is_not_here_stops_only_when_asked_for() {
        let config = |explicit| Config { tcp: listen("192.0.2.77:0", explicit), ..Config::default() };
        let text = listeners(&config(true), &mut Passed::default()).err().expect("refused").to_string();
        assert!(text.contains("192.0.2.77") && text.contains("no interface"), "{text}");
        let text = listeners(&config(false), &mut Passed::default()).err().expect("nothing is left").to_string();
        assert!(text.contains("no TCP port"), "{text}");
    }
}
