//! HTTP/1.1 messages, read to the letter (RFC 9112): what is not well-formed is an error.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A request, or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

fn bad(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_string())
}

/// A line that ends with CR LF; none at the end of the stream.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let text = bytes.strip_suffix(b"\r\n").ok_or_else(|| match bytes.ends_with(b"\n") {
        true => bad(format!("a bare LF after {:?}", String::from_utf8_lossy(&bytes))),
        false => ErrorKind::UnexpectedEof.into(),
    })?;
    if text.iter().any(|byte| matches!(byte, b'\r' | 0)) {
        return Err(bad(format!("a CR or NUL in {:?}", String::from_utf8_lossy(text))));
    }
    Ok(Some(String::from_utf8(text.to_vec()).map_err(bad)?))
}

async fn some_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    line(from).await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

impl Message {
    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{}", self.start))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The next request, or none where the stream ends before one.
    pub(crate) async fn request(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
        let Some(start) = line(from).await? else { return Ok(None) };
        let words: Vec<&str> = start.split(' ').collect();
        if words.len() != 3 || words[2] != "HTTP/1.1" || !words[0].bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(bad(format!("a request line {start:?}")));
        }
        let mut message = Message { start, headers: head(from).await?, body: Vec::new() };
        if message.header("host").is_none() {
            return Err(bad("no host"));
        }
        message.body(from, false).await?;
        Ok(Some(message))
    }

    /// The next answer, or none where the stream ends before one.
    pub(crate) async fn answer(from: &mut (impl AsyncBufRead + Unpin), to_head: bool) -> io::Result<Option<Message>> {
        let Some(start) = line(from).await? else { return Ok(None) };
        if !start.starts_with("HTTP/1.1 ") && !start.starts_with("HTTP/1.0 ") {
            return Err(bad(format!("a status line {start:?}")));
        }
        let mut message = Message { start, headers: head(from).await?, body: Vec::new() };
        if !to_head && !matches!(message.status(), 100..=199 | 204 | 304) {
            message.body(from, true).await?;
        }
        Ok(Some(message))
    }

    async fn body(&mut self, from: &mut (impl AsyncBufRead + Unpin), answer: bool) -> io::Result<()> {
        let (length, coding) = (self.header("content-length"), self.header("transfer-encoding"));
        match (length, coding) {
            (Some(_), Some(_)) => return Err(bad("a length and a coding")),
            (Some(length), None) => {
                let length = length.parse().map_err(bad)?;
                self.body.resize(length, 0);
                from.read_exact(&mut self.body).await?;
            }
            (None, Some("chunked")) => loop {
                let size = usize::from_str_radix(&some_line(from).await?, 16).map_err(bad)?;
                if size == 0 {
                    head(from).await?;
                    break;
                }
                let begin = self.body.len();
                self.body.resize(begin + size, 0);
                from.read_exact(&mut self.body[begin..]).await?;
                if !some_line(from).await?.is_empty() {
                    return Err(bad("a chunk that goes on"));
                }
            },
            (None, Some(coding)) => return Err(bad(format!("the coding {coding:?}"))),
            (None, None) if answer => {
                from.read_to_end(&mut self.body).await?;
            }
            (None, None) => {}
        }
        Ok(())
    }
}

/// Fields up to the empty line.
async fn head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = some_line(from).await?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(format!("a field {line:?}")))?;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte))
        {
            return Err(bad(format!("a field name {name:?}")));
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// A client that sends whatever it wants.
pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: BufReader<S>,
}

impl Raw {
    pub(crate) async fn connect(at: std::net::SocketAddr) -> Raw {
        let stream = TcpStream::connect(at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream: BufReader::with_capacity(1024, stream) }
    }
}

impl<S: AsyncRead + tokio::io::AsyncWrite + Unpin> Raw<S> {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have closed already: that shows in the answer.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    pub(crate) async fn answer(&mut self) -> io::Result<Option<Message>> {
        Message::answer(&mut self.stream, false).await
    }

    /// A request and its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Message {
        self.send(request).await;
        self.answer().await.unwrap().expect("an answer")
    }

    /// All answers until the server closes.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        while let Ok(Some(answer)) = self.answer().await {
            answers.push(answer);
        }
        answers
    }
}

/// A request for `path` with an id and a body.
pub(crate) fn request(method: &str, path: &str, id: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("content-length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nhost: app.com\r\nx-id: {id}\r\n{length}\r\n{body}")
}
