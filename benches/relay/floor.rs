//! What six crossings between processes cost with next to no work: a caller, two forwarders in the places of hub and
//! registrar, and an echo in the place of the backend, each a process that reads and writes TCP.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::process::Killed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The word by which this program starts itself as a forwarder to `FLOOR_TO`, or as the echo.
pub const ARGUMENT: &str = "be-the-floor";
const TO: &str = "FLOOR_TO";
/// Bytes of a small call with its head, and of its answer.
const SIZE: usize = 400;

pub struct Floor {
    _processes: [Killed; 3],
    caller: TcpStream,
}

impl Floor {
    pub async fn start() -> Self {
        let (echo, port) = start(None);
        let (registrar, port) = start(Some(port));
        let (hub, port) = start(Some(port));
        Self { _processes: [echo, registrar, hub], caller: connect(port).await }
    }

    /// The time of one call.
    pub async fn echo(&mut self) -> Duration {
        let start = Instant::now();
        self.caller.write_all(&[b'x'; SIZE]).await.unwrap();
        self.caller.read_exact(&mut [0; SIZE]).await.unwrap();
        start.elapsed()
    }
}

fn start(to: Option<u16>) -> (Killed, u16) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.envs(to.map(|port| (TO, port.to_string()))).arg(ARGUMENT).stdout(Stdio::piped());
    let mut process = Killed::spawn(&mut command);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (process, line.trim().parse().unwrap())
}

async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Serves one connection to its end; prints its port.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let (mut caller, _) = listener.accept().await.unwrap();
        caller.set_nodelay(true).unwrap();
        let to = std::env::var(TO).ok().map(|port| port.parse().unwrap());
        let mut to = match to {
            Some(port) => Some(connect(port).await),
            None => None,
        };
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = caller.read(&mut buffer).await {
            let mut read = read;
            if let Some(to) = &mut to {
                to.write_all(&buffer[..read]).await.unwrap();
                read = to.read(&mut buffer).await.unwrap();
            }
            caller.write_all(&buffer[..read]).await.unwrap();
        }
    });
}
