//! HTTPS to the certificate authority, with our one cryptography provider and the roots it is to be trusted by.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore};

use super::super::files::read_chain;
use super::super::identity::provider;

/// How long one request to the authority may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP client handed to `instant-acme`, whose own would ask for a process-wide cryptography provider.
pub struct Https(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Https {
    /// Trusts the public roots, and the certificates of `ca_file` beside them.
    pub fn new(ca_file: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in ca_file.map(read_chain).transpose()?.unwrap_or_default() {
            roots.add(certificate).context("acme_ca_file holds a certificate that is no authority's")?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.0.request(request));
        Box::pin(async move {
            match answer.await {
                Ok(Ok(response)) => Ok(BytesResponse::from(response)),
                Ok(Err(error)) => Err(Error::Other(error.into())),
                Err(_) => Err(Error::Other("no answer from the authority within 30 s".into())),
            }
        })
    }
}
