use std::sync::mpsc;

use super::*;

const ALL: usize = 100_000;

/// An output that blocks until the test releases it.
struct Blocked {
    writing: mpsc::Sender<()>,
    go: mpsc::Receiver<()>,
    seen: mpsc::Sender<Vec<u8>>,
}

impl Write for Blocked {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Blocks until the test drops its end.
        let _ = self.writing.send(());
        let _ = self.go.recv();
        let _ = self.seen.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// F87, P7: logging never waits for the reader; lines above the limit are dropped and counted, the others are written.
#[test]
fn a_log_without_a_reader_does_not_block_and_counts_dropped_lines() {
    let ((go, blocked), (seen, lines)) = (mpsc::channel::<()>(), mpsc::channel());
    let (writing, is_writing) = mpsc::channel();
    let sink = Sink::start(Blocked { writing, go: blocked, seen }, super::super::notice).unwrap();
    sink.push(b"line 0\n");
    // The first line must leave the queue before the queue is filled.
    is_writing.recv().unwrap();
    let begun = Instant::now();
    for n in 1..ALL {
        sink.push(format!("line {n}\n").as_bytes());
    }
    sink.flush();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(go);
    sink.flush();
    sink.push(b"after\n");
    drop(sink);
    let mut kept = 0;
    for line in &lines {
        let line = String::from_utf8(line).unwrap();
        if line != format!("line {kept}\n") {
            let lost = ALL - kept;
            assert_eq!(line, format!("({lost} lines of the log were lost: nobody read it)\n"));
            break;
        }
        kept += 1;
    }
    assert!((MAX_LINES..MAX_LINES + 3).contains(&kept), "{kept}");
    assert_eq!(lines.iter().next().unwrap(), b"after\n");
}

/// P7: a long line is cut.
#[test]
fn a_long_line_is_cut() {
    let long = "ä".repeat(MAX_LINE);
    assert!(cut(long.as_bytes()).len() < MAX_LINE + 16);
    assert_eq!(cut(b"short\n"), b"short\n");
}

/// F62: a full disk loses lines of the log and does not stop the thread.
#[test]
fn a_full_disk_loses_lines_only() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let sink = Sink::start(full, super::super::notice).unwrap();
    for n in 0..100 {
        sink.push(format!("line {n}\n").as_bytes());
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while !sink.0.state.lock().lines.is_empty() {
        assert!(Instant::now() < deadline, "the thread stopped");
        sink.flush();
    }
}

/// Lines that are held are written when they are released, behind those of before.
#[test]
fn held_lines_are_written_after_their_release() {
    let (sender, lines) = mpsc::channel();
    let (writing, _writing) = mpsc::channel();
    let (go, blocked) = mpsc::channel::<()>();
    drop(go);
    let sink = Sink::start(Blocked { writing, go: blocked, seen: sender }, super::super::notice).unwrap();
    sink.push(b"before\n");
    sink.hold();
    assert_eq!(lines.try_recv().unwrap(), b"before\n");
    sink.push(b"held\n");
    assert!(lines.recv_timeout(Duration::from_millis(50)).is_err(), "a line that is held was written");
    sink.release();
    sink.push(b"after\n");
    sink.flush();
    assert_eq!(lines.try_iter().collect::<Vec<_>>(), [b"held\n".to_vec(), b"after\n".to_vec()]);
}
