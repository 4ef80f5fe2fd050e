use std::sync::mpsc;

use super::*;

const ALL: usize = 100_000;

/// A reader that takes a line only when it is told to.
struct Stuck {
    at_work: mpsc::Sender<()>,
    go: mpsc::Receiver<()>,
    seen: mpsc::Sender<Vec<u8>>,
}

impl Write for Stuck {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nothing is written until the test drops its end; one that has ended does not look.
        let _ = self.at_work.send(());
        let _ = self.go.recv();
        let _ = self.seen.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// F87, P7: whoever logs never waits for the reader; what finds no room is lost and counted, and what was kept comes.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_says_what_it_lost() {
    let ((go, stuck), (seen, lines)) = (mpsc::channel::<()>(), mpsc::channel());
    let (at_work, is_at_work) = mpsc::channel();
    let sink = Sink::start(Stuck { at_work, go: stuck, seen }).unwrap();
    sink.push(b"line 0\n");
    // A thread that took its first line later would make room in the middle, and say there what was lost.
    is_at_work.recv().unwrap();
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

/// P7: a line that is far too long is cut.
#[test]
fn a_line_that_is_too_long_is_cut() {
    let long = "ä".repeat(MAX_LINE);
    assert!(cut(long.as_bytes()).len() < MAX_LINE + 16);
    assert_eq!(cut(b"short\n"), b"short\n");
}

/// F62: a disk that is full costs lines of the log and nothing else.
#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let sink = Sink::start(full).unwrap();
    for n in 0..100 {
        sink.push(format!("line {n}\n").as_bytes());
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while !sink.0.state.lock().lines.is_empty() {
        assert!(Instant::now() < deadline, "the thread stopped");
        sink.flush();
    }
}
