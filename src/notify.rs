//! Notifies the service manager of the state (`sd_notify(3)`) by datagrams to `NOTIFY_SOCKET`, if it is set.

use std::{env, io, os::unix::net::UnixDatagram, time::Duration};

/// Reports that the start is complete.
pub(crate) fn ready() {
    notify("READY=1");
}

/// Reports the beginning of the stop.
pub(crate) fn stopping() {
    notify("STOPPING=1");
}

/// Reports twice in each watchdog interval that this thread and `other`, which must return, are running. Never ends. Does
/// nothing without a watchdog.
pub(crate) async fn keep_alive(other: impl AsyncFn()) {
    let Some(interval) = watchdog_interval(&|name| env::var(name).ok(), std::process::id()) else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(interval / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        other().await;
        notify("WATCHDOG=1");
    }
}

/// Watchdog interval for the process `pid`, if it is watched.
fn watchdog_interval(variable: &dyn Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|wanted| wanted != pid.to_string()) {
        return None;
    }
    let micros = variable("WATCHDOG_USEC")?.parse().ok().filter(|&micros| micros > 0)?;
    Some(Duration::from_micros(micros))
}

/// Sends a state. Errors are ignored.
fn notify(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET").and_then(|name| name.into_string().ok())
        && let Err(error) = send(&socket, state)
    {
        log::debug!("the service manager did not take {state}: {error}");
    }
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // A full queue of the manager must not delay tokens.
    sender.set_nonblocking(true)?;
    match socket.strip_prefix('@') {
        Some(name) => send_abstract(&sender, name, state),
        None => sender.send_to(state.as_bytes(), socket).map(drop),
    }
}

/// Sends to a socket in the abstract name space of Linux, whose names begin with `@`.
#[cfg(target_os = "linux")]
fn send_abstract(sender: &UnixDatagram, name: &str, state: &str) -> io::Result<()> {
    use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
    sender.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_sender: &UnixDatagram, _name: &str, _state: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_as_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1").unwrap();
        let mut text = [0; 32];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
    }

    #[test]
    fn only_the_watched_process_notifies_the_watchdog() {
        let with = |pid: Option<&'static str>, micros: Option<&'static str>| {
            let variable =
                move |name: &str| if name == "WATCHDOG_PID" { pid } else { micros }.map(str::to_owned);
            watchdog_interval(&variable, 7)
        };
        assert_eq!(with(Some("7"), Some("2000000")), Some(Duration::from_secs(2)));
        assert_eq!(with(None, Some("2000000")), Some(Duration::from_secs(2)));
        for (pid, micros) in
            [(Some("8"), Some("2000000")), (None, None), (None, Some("0")), (None, Some("x"))]
        {
            assert_eq!(with(pid, micros), None, "{pid:?} {micros:?}");
        }
    }
}
