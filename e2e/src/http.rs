//! Minimal HTTP client for probes and tests: plain GET.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Returns the status code and at most 64 KiB of the response body.
pub(crate) async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0 avoids chunked responses.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: kube-probe/lab\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut response).await?;
    let response = String::from_utf8_lossy(&response);
    let code = response.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
    Ok((code, response.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}
