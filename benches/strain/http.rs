//! A blocking HTTP/1.1 client on one kept connection: it costs next to nothing, and sees each byte when it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

pub struct Http {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Http {
    pub fn new(port: u16, token: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), token: token.to_owned() }
    }

    /// Sends a request; its answer is read by [`answer`](Self::answer) or [`lines`](Self::lines).
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             {headers}content-length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        // One that is refused early may be closed before all of it is written.
        let _ = stream.write_all(body);
    }

    /// Reads a whole answer: its status and body.
    pub fn answer(&mut self) -> (u16, String) {
        let (status, length) = self.head();
        let mut body = Vec::new();
        match length {
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body).unwrap();
            }
            None => while self.chunk(&mut body) {},
        }
        (status, String::from_utf8(body).unwrap())
    }

    /// A request and its answer.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.send(method, path, "", body.as_bytes());
        self.answer()
    }

    /// Reads the head of a stream, then each line of it until `saw` says that it is enough, or the stream ends.
    pub fn lines(&mut self, mut saw: impl FnMut(&str) -> bool) {
        let (status, _) = self.head();
        assert_eq!(status, 200);
        let mut rest = Vec::new();
        while self.chunk(&mut rest) {
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !saw(std::str::from_utf8(&line).unwrap().trim_end()) {
                    return;
                }
            }
        }
    }

    fn head(&mut self) -> (u16, Option<usize>) {
        let (mut status, mut length) = (0, None);
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the hub hung up");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = Some(rest.parse().unwrap());
            } else if line.is_empty() {
                return (status, length);
            }
        }
    }

    /// Adds one chunk; `false` at the last one.
    fn chunk(&mut self, to: &mut Vec<u8>) -> bool {
        let mut line = String::new();
        if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let before = to.len();
        to.resize(before + size, 0);
        self.stream.read_exact(&mut to[before..]).unwrap();
        self.stream.read_line(&mut line).unwrap();
        size > 0
    }
}
