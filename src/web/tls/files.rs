//! Certificates and keys on disk, read with errors that name the file and the remedy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::identity::provider;
use crate::state::write_private;

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

/// A pair of files that is looked at now and then.
pub struct Watched {
    chain: PathBuf,
    key: PathBuf,
    /// What they held when they were read last, good or not: a broken pair is named once, not every minute.
    seen: Mutex<Contents>,
}

type Contents = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Watched {
    /// Reads the pair for the first time.
    pub fn open(chain: &Path, key: &Path) -> Result<(Self, CertifiedKey)> {
        let seen = Mutex::new(contents(chain, key));
        let read = read_certified_key(chain, key)?;
        Ok((Self { chain: chain.to_owned(), key: key.to_owned(), seen }, read))
    }

    /// The pair as it is now.
    pub fn read(&self) -> Result<CertifiedKey> {
        read_certified_key(&self.chain, &self.key)
    }

    /// The pair, if the files changed since the last look. A broken pair is an error; what is in use stays.
    pub fn changed(&self) -> Result<Option<CertifiedKey>> {
        let now = contents(&self.chain, &self.key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(None);
        }
        *seen = now;
        read_certified_key(&self.chain, &self.key).map(Some)
    }
}

fn contents(chain: &Path, key: &Path) -> Contents {
    (fs::read(chain).ok(), fs::read(key).ok())
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
pub fn write(file: &Path, content: &str) -> Result<()> {
    write_private(file, content.as_bytes()).with_context(|| format!("{}: cannot write", file.display()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    struct Pair {
        dir: tempfile::TempDir,
    }

    impl Pair {
        /// A self-signed certificate for the key in `pkcs8`, and `key` in its file.
        fn new(pkcs8: &[u8], algorithm: &'static rcgen::SignatureAlgorithm, key: &str) -> Self {
            let dir = tempfile::tempdir().expect("directory");
            let signer = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), algorithm).expect("key");
            let params = CertificateParams::new(vec!["call.example".to_owned()]).expect("parameters");
            let certificate = params.self_signed(&signer).expect("signed");
            fs::write(dir.path().join("chain.pem"), certificate.pem()).expect("written");
            fs::write(dir.path().join("key.pem"), key).expect("written");
            Self { dir }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn read(&self) -> Result<CertifiedKey> {
            read_certified_key(&self.file("chain.pem"), &self.file("key.pem"))
        }
    }

    fn ecdsa() -> (Vec<u8>, Vec<u8>) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("key");
        let pkcs8 = key.to_pkcs8v1().expect("encoded").as_ref().to_vec();
        let sec1: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().expect("encoded");
        (pkcs8, sec1.as_ref().to_vec())
    }

    #[test]
    fn all_three_forms_of_keys_are_read() {
        let (pkcs8, sec1) = ecdsa();
        for key in [pem("PRIVATE KEY", &pkcs8), pem("EC PRIVATE KEY", &sec1)] {
            Pair::new(&pkcs8, &PKCS_ECDSA_P256_SHA256, &key).read().expect("read");
        }
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("key");
        let pkcs8: Pkcs8V1Der<'_> = rsa.as_der().expect("encoded");
        // PKCS#8 wraps PKCS#1 behind 26 bytes of header at this key size.
        let pkcs1 = &pkcs8.as_ref()[26..];
        Pair::new(pkcs8.as_ref(), &PKCS_RSA_SHA256, &pem("RSA PRIVATE KEY", pkcs1)).read().expect("read");
    }

    #[test]
    fn changed_files_are_read_again_and_broken_ones_named_once() {
        let (pkcs8, _) = ecdsa();
        let pair = Pair::new(&pkcs8, &PKCS_ECDSA_P256_SHA256, &pem("PRIVATE KEY", &pkcs8));
        let (watched, first) = Watched::open(&pair.file("chain.pem"), &pair.file("key.pem")).expect("read");
        assert!(watched.changed().expect("good").is_none());
        fs::write(pair.file("key.pem"), "half of a").expect("written");
        assert!(watched.changed().is_err());
        assert!(watched.changed().expect("named already").is_none());
        let (pkcs8, _) = ecdsa();
        let other = Pair::new(&pkcs8, &PKCS_ECDSA_P256_SHA256, &pem("PRIVATE KEY", &pkcs8));
        for name in ["chain.pem", "key.pem"] {
            fs::copy(other.file(name), pair.file(name)).expect("copied");
        }
        let second = watched.changed().expect("good").expect("changed");
        assert_ne!(first.cert, second.cert);
        assert!(watched.changed().expect("good").is_none());
    }

    #[test]
    fn refusals_name_the_file_and_the_remedy() {
        let (pkcs8, _) = ecdsa();
        let (other, _) = ecdsa();
        let refusal = |pair: &Pair| format!("{:#}", pair.read().expect_err("refused"));
        let good = || Pair::new(&pkcs8, &PKCS_ECDSA_P256_SHA256, &pem("PRIVATE KEY", &pkcs8));
        let mismatched = Pair::new(&pkcs8, &PKCS_ECDSA_P256_SHA256, &pem("PRIVATE KEY", &other));
        assert!(refusal(&mismatched).contains("does not belong to the certificate"));
        let encrypted = Pair::new(&pkcs8, &PKCS_ECDSA_P256_SHA256, &pem("ENCRYPTED PRIVATE KEY", b"x"));
        assert!(refusal(&encrypted).contains("openssl pkey"));
        for (file, content, expected) in [
            ("key.pem", Some("nonsense"), "key.pem: holds no private key"),
            ("key.pem", None, "key.pem: cannot read the private key"),
            ("chain.pem", Some("nonsense"), "chain.pem: holds no certificate"),
            ("chain.pem", None, "chain.pem: cannot read the certificate"),
        ] {
            let pair = good();
            match content {
                Some(content) => fs::write(pair.file(file), content).expect("written"),
                None => fs::remove_file(pair.file(file)).expect("removed"),
            }
            let text = refusal(&pair);
            assert!(text.contains(expected), "{text}");
        }
    }
}
