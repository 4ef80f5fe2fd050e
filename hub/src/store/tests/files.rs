//! The files of the store: permissions, locks, damaged and foreign files.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn a_directory_is_locked_until_its_store_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let text = refusal(dir.path()).to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    drop(first);
    assert!(open(dir.path()).is_ok());
}

/// A43: only the owner can read the store's files.
#[test]
fn only_the_owner_can_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/b");
    let store = open(&home).unwrap();
    assert_eq!(std::fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&home).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    drop(store);
    std::fs::set_permissions(home.join("hub.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&home).unwrap());
    assert_eq!(std::fs::metadata(home.join("hub.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// F63: on a full disk, writes fail as unavailable and reads succeed; when space is free again, writes succeed.
#[tokio::test]
async fn on_a_full_disk_only_writes_fail_and_only_until_space_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put_llm(llm("1", "a"))]).await.unwrap();
    store.pragma("max_page_count", 1).await.unwrap();
    let huge = DurableTask { request: Some("x".repeat(1 << 20)), ..task("big", TaskStatus::Pending) };
    let error = store.write(vec![put_task(huge.clone())]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let at_start = error.at_start(Path::new("/srv/hub")).to_string();
    assert!(at_start.contains("/srv/hub") && at_start.contains("free some space"), "{at_start}");
    assert_eq!(store.load().await.unwrap().llms.len(), 1);
    assert!(store.load().await.unwrap().tasks.is_empty());
    store.pragma("max_page_count", 1_000_000).await.unwrap();
    store.write(vec![put_task(huge)]).await.unwrap();
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
}

/// F65: a file with a newer schema is refused and not changed.
#[tokio::test]
async fn a_newer_schema_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.pragma("user_version", 99).await.unwrap();
    drop(store);
    let before = std::fs::read(dir.path().join("hub.db")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("hub.db"), "{error}");
    assert_eq!(std::fs::read(dir.path().join("hub.db")).unwrap(), before);
}

/// F65: a damaged file or a database of another program is refused and not changed.
#[tokio::test]
async fn a_damaged_or_foreign_file_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..100 {
        let llm = Llm { description: Some("d".repeat(2000)), ..llm(&n.to_string(), &format!("n{n}")) };
        store.write(vec![put_llm(llm)]).await.unwrap();
    }
    drop(store);
    let file = dir.path().join("hub.db");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in &mut bytes[8192..20_000] {
        *byte = 0x5a;
    }
    for damaged in [bytes, b"this is no database, however long it may go on ".repeat(100)] {
        std::fs::write(&file, &damaged).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), damaged);
    }
    std::fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(refusal(dir.path()), StoreError::Damaged(_)));
}

/// A pipe is refused without opening it, which would wait for a writer.
#[test]
fn a_pipe_in_place_of_a_file_is_refused() {
    for name in ["hub.lock", "hub.db", "hub.db-wal", "hub.db-shm", "hub.db-journal"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let told = refusal(dir.path()).to_string();
        assert_eq!(told, format!("cannot use {}: it is not a regular file", path.display()));
    }
}

/// A44: a symbolic link in place of the database or its lock is refused, and its target is not changed.
#[test]
fn a_link_in_place_of_a_file_is_refused() {
    for name in ["hub.db", "hub.lock"] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&target, home.join(name)).unwrap();
        assert!(open(&home).is_err(), "{name}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious", "{name}");
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
    }
}

/// F64: the writer thread waits for a file that another program has locked; the caller is not blocked.
#[tokio::test]
async fn waiting_for_a_locked_file_does_not_block_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let other = Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut write = store.write(vec![put_llm(llm("1", "a"))]);
    assert!(futures_util::poll!(&mut write).is_pending());
    other.execute_batch("COMMIT").unwrap();
    write.await.unwrap();
    assert_eq!(store.load().await.unwrap().llms.len(), 1);
}
