//! Certificates and keys on disk: read with errors that name the file, written whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::identity::provider;

/// Reads a chain and the key that belongs to it. PEM; the key in PKCS#1, PKCS#8 or SEC1 form.
pub fn read_certified_key(chain_file: &Path, key_file: &Path) -> Result<CertifiedKey> {
    let chain = read_chain(chain_file)?;
    let key = read_key(key_file)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => anyhow::anyhow!(
            "{}: this private key does not belong to the certificate in {}; give the pair that was issued together",
            key_file.display(),
            chain_file.display()
        ),
        other => anyhow::anyhow!(
            "{} with {}: {other}; use an RSA (2048 bits or more), ECDSA or Ed25519 certificate",
            chain_file.display(),
            key_file.display()
        ),
    })
}

/// Reads the certificates of a PEM file, leaf first.
pub fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(file).with_context(|| format!("{}: cannot read the certificate", file.display()))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{}: not a certificate chain in PEM form", file.display()))?;
    if chain.is_empty() {
        bail!("{}: holds no certificate; PEM is expected (-----BEGIN CERTIFICATE-----)", file.display());
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let pem = fs::read(file).with_context(|| {
        format!("{}: cannot read the private key; the user relais runs as needs to be allowed to", file.display())
    })?;
    if pem.windows(9).any(|window| window == b"ENCRYPTED") {
        bail!(
            "{}: the private key is encrypted; write a plain one with `openssl pkey -in FILE -out PLAIN`",
            file.display()
        );
    }
    PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("{}: holds no private key in PEM form (PKCS#1, PKCS#8 or SEC1)", file.display()))
}

/// Writes `content` to `file` with mode 0600: a reader sees the old content or the new, never a part.
pub fn write_atomically(file: &Path, content: &str) -> Result<()> {
    let temporary = file.with_extension("new");
    let write = || {
        // A leftover of a crash may have another mode; a fresh file has ours.
        if temporary.exists() {
            fs::remove_file(&temporary)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        out.write_all(content.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    };
    write().with_context(|| format!("{}: cannot write", file.display()))
}
