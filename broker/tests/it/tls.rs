//! TLS, with and without client certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use latchline_broker::config::{ClientCertificate, Config};
use latchline_broker::listen::Kind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::app::App;
use crate::raw::Raw;
use crate::raw::bytes::{Connect, Publish, V5, VERSIONS};
use crate::raw::read::Packet;

/// An authority, the certificates that it has signed, and where the broker finds them.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certificates = Self { authority, folder: tempfile::tempdir().unwrap() };
        std::fs::write(certificates.path("ca.pem"), certificates.authority.pem()).unwrap();
        certificates.sign_server();
        certificates
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new certificate for the broker.
    fn sign_server(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(self.path("server.pem"), params.signed_by(&key, &self.authority).unwrap().pem())
            .unwrap();
        std::fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
    }

    fn configure(&self, config: &mut Config, client_certificate: ClientCertificate) {
        let listen = &mut config.listen;
        listen.tls = Some(([127, 0, 0, 1], 0).into());
        listen.wss = Some(([127, 0, 0, 1], 0).into());
        listen.certificate_file = Some(self.path("server.pem"));
        listen.key_file = Some(self.path("server.key"));
        listen.client_ca_file = Some(self.path("ca.pem"));
        listen.client_certificate = client_certificate;
    }

    /// What a client with these common names in its certificate, or without one, shows.
    fn client(&self, names: Option<&[&str]>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let Some(names) = names else { return builder.with_no_client_auth() };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

async fn tls(app: &App, kind: Kind, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(app.address(kind)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Connects by TLS; the code in CONNACK, or `None` if the handshake fails.
async fn connect(app: &App, config: ClientConfig, connect: &Connect) -> Option<(Raw, u8)> {
    let stream = tls(app, Kind::Tls, config).await.ok()?;
    let mut raw = Raw::over(stream, connect.version);
    // In TLS 1.3 the client learns only after its handshake that its certificate was refused.
    if !raw.try_send(&connect.bytes()).await {
        return None;
    }
    match raw.next_or_end().await? {
        Packet::Connack(connack) => Some((raw, connack.code)),
        other => panic!("{other:?} instead of CONNACK"),
    }
}

#[tokio::test]
async fn clients_talk_through_tls() {
    let certificates = Certificates::new();
    let app = App::start(|config| certificates.configure(config, ClientCertificate::Off)).await;
    let mut plain = app.client(V5, "plain").await;
    plain.subscribe("t", 1).await;
    for version in VERSIONS {
        let (mut client, code) =
            connect(&app, certificates.client(None), &Connect::new(version, "secret")).await.expect("TLS");
        assert_eq!(code, 0);
        client.subscribe("back", 1).await;
        for size in [1, 16_384, 200_000] {
            client.publish(&Publish::new("t", vec![b'x'; size]).qos(1, 1)).await;
            assert_eq!(plain.receive().await.payload.len(), size);
            plain.publish(&Publish::new("back", vec![b'y'; size]).qos(1, 1)).await;
            assert_eq!(client.receive().await.payload.len(), size);
        }
        client.goodbye().await;
    }
}

#[tokio::test]
async fn what_is_not_tls_is_cut_and_holds_back_nobody() {
    let certificates = Certificates::new();
    let app = App::start(|config| {
        certificates.configure(config, ClientCertificate::Off);
        config.limits.connect_timeout = Duration::from_millis(700);
    })
    .await;
    let mut silent = Raw::open(app.address(Kind::Tls), V5).await;
    let mut half = Raw::open(app.address(Kind::Tls), V5).await;
    half.send(&[0x16, 0x03, 0x01, 0x01]).await;
    let mut plain = TcpStream::connect(app.address(Kind::Tls)).await.unwrap();
    plain.write_all(&Connect::new(V5, "plain").bytes()).await.unwrap();
    let (_client, code) =
        connect(&app, certificates.client(None), &Connect::new(V5, "client")).await.expect("others go on");
    assert_eq!(code, 0);
    assert_eq!(silent.rest().await, []);
    assert_eq!(half.rest().await, []);
    let mut answer = Vec::new();
    let _reset = tokio::io::AsyncReadExt::read_to_end(&mut plain, &mut answer).await;
    assert!(!answer.starts_with(&[0x20]), "no CONNACK in the clear: {answer:02x?}");
    assert_eq!((app.refused("handshake_failed"), app.refused("connect_timeout")), (1, 2));
    assert_eq!(app.server.broker.registry.len(), 1);
}

#[tokio::test]
async fn client_certificates_are_asked_for_as_configured() {
    let (certificates, foreign) = (Certificates::new(), Certificates::new());
    for (setting, without) in [(ClientCertificate::Optional, true), (ClientCertificate::Required, false)] {
        let app = App::start(|config| certificates.configure(config, setting)).await;
        let hello = Connect::new(V5, "client");
        let admitted = async |config| connect(&app, config, &hello).await.is_some_and(|(_, code)| code == 0);
        assert_eq!(admitted(certificates.client(None)).await, without, "{setting:?}, none");
        assert!(admitted(certificates.client(Some(&["client"]))).await, "{setting:?}, valid");
        assert!(admitted(certificates.client(Some(&["other"]))).await, "{setting:?}, another name is fine");
        let mut config = foreign.client(Some(&["client"]));
        config.dangerous().set_certificate_verifier(trusting(&certificates));
        assert!(!admitted(config).await, "{setting:?}, of another authority");
        // A certificate that does not say who its owner is.
        assert!(!admitted(certificates.client(Some(&[]))).await, "{setting:?}, without a name");
    }
}

/// Checks servers by this authority.
fn trusting(certificates: &Certificates) -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates.authority.der().clone()).unwrap();
    rustls::client::WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap()
}

#[tokio::test]
async fn the_common_name_must_be_the_client_id_if_so_configured() {
    let certificates = Certificates::new();
    let app = App::start(|config| {
        certificates.configure(config, ClientCertificate::Optional);
        config.listen.common_name_is_client_id = true;
    })
    .await;
    let names: &[(Option<&[&str]>, &str, u8)] = &[
        (Some(&["lock"]), "lock", 0),
        (Some(&["lock"]), "other", 0x85),
        (Some(&["lock"]), "lock ", 0x85),
        (Some(&["lock"]), "", 0x85),
        (None, "lock", 0),
    ];
    for (names, id, expected) in names {
        let (_, code) =
            connect(&app, certificates.client(*names), &Connect::new(V5, id)).await.expect("a handshake");
        assert_eq!(code, *expected, "{names:?} as {id:?}");
    }
    let old = connect(&app, certificates.client(Some(&["lock"])), &Connect::new(4, "other")).await;
    assert_eq!(old.expect("a handshake").1, 2);
}

#[tokio::test]
async fn websockets_run_over_tls() {
    let certificates = Certificates::new();
    let app = App::start(|config| certificates.configure(config, ClientCertificate::Off)).await;
    let stream = tls(&app, Kind::Wss, certificates.client(None)).await.expect("TLS");
    let (mut ws, _) =
        tokio_tungstenite::client_async("wss://localhost/mqtt", stream).await.expect("a WebSocket");
    let hello = tokio_tungstenite::tungstenite::Message::Binary(Connect::new(V5, "client").bytes().into());
    futures_util::SinkExt::send(&mut ws, hello).await.unwrap();
    let answer = futures_util::StreamExt::next(&mut ws).await.unwrap().unwrap().into_data();
    assert_eq!(answer[..4], [0x20, answer[1], 0, 0]);
}

#[tokio::test]
async fn certificates_are_read_anew_and_bad_ones_refused() {
    let certificates = Certificates::new();
    let app = App::start(|config| certificates.configure(config, ClientCertificate::Off)).await;
    let shown = async || {
        let stream = tls(&app, Kind::Tls, certificates.client(None)).await.expect("TLS");
        stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone()
    };
    let (mut connected, _) =
        connect(&app, certificates.client(None), &Connect::new(V5, "client")).await.expect("TLS");
    let first = shown().await;
    std::fs::write(certificates.path("server.pem"), "nonsense").unwrap();
    app.server.reload().expect_err("nonsense");
    assert_eq!(shown().await, first);
    certificates.sign_server();
    app.server.reload().expect("a new certificate");
    assert_ne!(shown().await, first);
    connected.quiet().await;
}
