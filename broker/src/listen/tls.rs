//! TLS by rustls, with optional client certificates.
//!
//! Certificates are read at start and again at every reload; a bad file is refused and the old
//! certificates stay.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{ClientCertificate, Listen};

/// The server's side of TLS.
pub struct Tls {
    config: Listen,
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads the certificates, if there is a TLS listener.
    pub fn load(config: &Listen) -> anyhow::Result<Option<Arc<Self>>> {
        if config.tls.is_none() && config.wss.is_none() {
            return Ok(None);
        }
        let current = ArcSwap::new(server_config(config)?);
        Ok(Some(Arc::new(Self { config: config.clone(), current })))
    }

    /// Reads the certificates anew. On an error the old ones stay.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.current.store(server_config(&self.config)?);
        Ok(())
    }

    /// Does the handshake; also gives the common name of a verified client certificate.
    pub async fn accept(&self, stream: TcpStream) -> anyhow::Result<(TlsStream<TcpStream>, Option<String>)> {
        let stream = TlsAcceptor::from(self.current.load_full()).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = certificate.map(common_name).transpose()?;
        Ok((stream, name))
    }
}

fn server_config(config: &Listen) -> anyhow::Result<Arc<ServerConfig>> {
    let certificate_file =
        config.certificate_file.as_deref().context("listen.certificate_file is not set")?;
    let key_file = config.key_file.as_deref().context("listen.key_file is not set")?;
    let chain = certificates(certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .with_context(|| format!("no private key in {}", key_file.display()))?;
    let builder = ServerConfig::builder();
    let builder = match client_verifier(config)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .with_context(|| format!("{} and {} do not fit", certificate_file.display(), key_file.display()))?;
    // Locks reconnect often: let them resume without a full handshake, and without memory here.
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().context("no session tickets")?;
    Ok(Arc::new(server))
}

fn client_verifier(config: &Listen) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
    if config.client_certificate == ClientCertificate::Off {
        return Ok(None);
    }
    let file = config.client_ca_file.as_deref().context("listen.client_ca_file is not set")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).with_context(|| format!("a certificate in {} is no CA", file.display()))?;
    }
    let builder = WebPkiClientVerifier::builder(Arc::new(roots));
    let builder = match config.client_certificate {
        ClientCertificate::Optional => builder.allow_unauthenticated(),
        ClientCertificate::Off | ClientCertificate::Required => builder,
    };
    Ok(Some(builder.build().context("client certificates cannot be verified")?))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", file.display()))?;
    if certificates.is_empty() {
        bail!("no certificate in {}", file.display());
    }
    Ok(certificates)
}

/// The one common name of a certificate's subject. More than one is refused: nobody could say which
/// of them counts.
fn common_name(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).context("unreadable client certificate")?;
    let mut names = parsed.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.as_str().context("common name is not text")?.to_owned()),
        (None, _) => bail!("client certificate without a common name"),
        (Some(_), Some(_)) => bail!("client certificate with more than one common name"),
    }
}
