//! The smallest TURN server that the `turn` crate makes: one UDP socket, one thread.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relais::credentials::turn as credentials;
use tokio::net::UdpSocket;
use turn::Error;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

use super::servers::{REALM, SECRET};

/// Names made with the shared secret; their time is not looked at, which costs nothing and spares a clock call.
struct Secret;

impl AuthHandler for Secret {
    fn auth_handle(&self, username: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, Error> {
        Ok(generate_auth_key(username, realm, &credentials::password(SECRET.as_bytes(), username)))
    }
}

/// Serves until the process ends, and says on standard output where.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        // As large as the others'.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        let address = socket.local_addr().expect("bound");
        let generator = RelayAddressGeneratorStatic {
            relay_address: Ipv4Addr::LOCALHOST.into(),
            address: Ipv4Addr::LOCALHOST.to_string(),
            net: Arc::new(Net::new(None)),
        };
        let _server = Server::new(ServerConfig {
            conn_configs: vec![ConnConfig { conn: Arc::new(socket), relay_addr_generator: Box::new(generator) }],
            realm: REALM.into(),
            auth_handler: Arc::new(Secret),
            channel_bind_timeout: Duration::from_secs(600),
            alloc_close_notify: None,
        })
        .await
        .expect("the server starts");
        println!("{address}");
        std::io::stdout().flush().expect("written");
        std::future::pending::<()>().await;
    });
}
