//! The little HTTP that a kubelet and a test need: a plain GET.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The status code and the body of the answer, of which no more than 64 KiB are read.
pub(crate) async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    // 1.0, so that the body comes as it is and not in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: kube-probe/lab\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
    Ok((code, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}
