//! `health`: asks the running program's own `/readyz`. What a container's health check calls, so that
//! images need no curl.
//!
//! It blocks and speaks the least HTTP that is needed; nothing else of the program is started.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

/// For the connection, and for each part of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// More of an answer is not looked at.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks the program that listens at `address` of this machine for `path`; an answer but 200 is an
/// error that says why.
pub fn ask(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let address = reachable(address);
    let answer = get(address, path).with_context(|| format!("http://{address}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status == "200", "http://{address}{path} answers {status}: {}", body.trim());
    Ok(())
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Who listens at every address is asked at the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server at every address that gives one answer.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_200_is_well() {
        for (answer, complaint) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", None),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"kafka\":\"away\"}\n",
                Some("503: {\"kafka\":\"away\"}"),
            ),
            ("220 mail\r\n", Some("mail")),
            ("", Some("answers : ")),
        ] {
            let complained = ask(server(answer), "/readyz").err().map(|error| error.to_string());
            match (complaint, &complained) {
                (None, None) => {}
                (Some(expected), Some(found)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{answer}: {complained:?}"),
            }
        }
    }

    #[test]
    fn nobody_there_is_an_error_with_the_place() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = format!("{:#}", ask(address, "/readyz").unwrap_err());
        assert!(error.starts_with(&format!("http://{address}/readyz: ")), "{error}");
    }
}
