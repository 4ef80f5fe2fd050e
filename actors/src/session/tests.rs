use std::os::unix::fs::{PermissionsExt, symlink};

use futures_util::future::ready;
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use tokio::time::{Instant, pause};
use wire::WireName;

use super::*;
use crate::options::{Action, AgentConfig, BackendConfig, MockConfig, ProviderConfig, WakeRecipe};
use crate::test_hub::scripted::{Heard, Said, Scripted, pass, probe, session, status, unreachable};
use crate::test_log;

const SECOND: Duration = Duration::from_secs(1);

fn provider(name: &str) -> ProviderConfig {
    let name = WireName::parse(name).unwrap();
    ProviderConfig::new(name, "model", BackendConfig::Mock(MockConfig::default()))
}

fn published(names: &[&str]) -> Published {
    let providers = names.iter().map(|name| Arc::new(provider(name))).collect();
    Published { providers, agents: Vec::new() }
}

struct Setup {
    hub: Rc<Scripted>,
    actor: Addr<SessionActor>,
    ready: Heard<SessionReady>,
    failed: Heard<NotRegistered>,
}

/// Starts the actor, without jitter: every delay is the base of 5 s.
fn start(hub: Scripted, published: Published, file: Option<PathBuf>) -> Setup {
    let hub = Rc::new(hub);
    let (to_ready, ready) = probe();
    let (to_failed, failed) = probe();
    let id = file.as_deref().and_then(file::load);
    let config = Config {
        hub: Rc::clone(&hub) as Rc<dyn HubApi>,
        file,
        probe: Rc::new(|_| ready_with(true)),
        pace: Rc::new(RefCell::new(ReconnectDelay::new(5 * SECOND, 60 * SECOND, Box::new(|| 0.0)))),
    };
    let links = SessionLinks { ready: vec![to_ready], failed: to_failed };
    let actor = SessionActor::new(config, links, published, id).start();
    Setup { hub, actor, ready, failed }
}

fn ready_with(value: bool) -> futures_util::future::LocalBoxFuture<'static, bool> {
    Box::pin(ready(value))
}

#[actix::test]
async fn it_registers_at_start_and_says_so() {
    pause();
    let setup = start(Scripted::default(), published(&["a"]), None);
    pass(SECOND).await;
    assert_eq!(*setup.ready.borrow(), [SessionReady { session: session("sess-1"), reopen: true }]);
    assert_eq!(setup.hub.registered().len(), 1);
}

/// P4, F26: never faster than the base, as slow as the hub asks.
#[actix::test]
async fn a_failure_is_tried_again_at_the_pace_of_the_connection_and_a_hint_raises_the_delay() {
    pause();
    let hub = Scripted::default();
    let hint = HubError::Status {
        call: "provider-register",
        status: 503,
        message: String::new(),
        retry_after: Some(20 * SECOND),
    };
    hub.registers.borrow_mut().extend([Err(unreachable()), Err(hint), Err(unreachable())]);
    let start_at = Instant::now();
    let setup = start(hub, published(&["a"]), None);
    pass(60 * SECOND).await;
    let moments = setup.hub.moments(|said| matches!(said, Said::Register(_)));
    let seconds: Vec<_> = moments.iter().map(|at| (*at - start_at).as_secs()).collect();
    assert_eq!(seconds, [0, 5, 25, 30]);
    assert!(setup.failed.borrow().iter().all(|failure| !failure.fatal));
}

/// F17, F18, F19, F20: a hub that says no at the start is not asked again.
#[actix::test]
async fn a_refusal_at_start_is_fatal_and_not_tried_again() {
    pause();
    for refusal in [301, 400, 401, 403, 404, 409, 410, 413, 422, 499] {
        let hub = Scripted::default();
        hub.registers.borrow_mut().push_back(Err(status(refusal)));
        let setup = start(hub, published(&["a"]), None);
        pass(600 * SECOND).await;
        assert!(setup.failed.borrow()[0].fatal, "{refusal}");
        assert_eq!(setup.hub.registered().len(), 1, "{refusal}");
    }
}

/// F18, F19, F20: a hub that says no later is asked once a minute.
#[actix::test]
async fn later_a_refusal_is_tried_again_every_60_seconds_and_never_ends_it() {
    pause();
    for refusal in [301, 400, 401, 403, 409, 422] {
        test_log::listen();
        let setup = start(Scripted::default(), published(&["a"]), None);
        pass(SECOND).await;
        setup.hub.registers.borrow_mut().extend((0..5).map(|_| Err(status(refusal))));
        let asked = Instant::now();
        setup.actor.do_send(Register);
        pass(400 * SECOND).await;
        let moments = setup.hub.moments(|said| matches!(said, Said::Register(_)));
        let seconds: Vec<_> = moments.iter().skip(1).map(|at| (*at - asked).as_secs()).collect();
        assert_eq!(seconds, [0, 60, 120, 180, 240, 300], "{refusal}");
        assert!(setup.failed.borrow().iter().all(|failure| failure.refused && !failure.fatal));
        assert_eq!(setup.ready.borrow().len(), 2, "and the sixth is taken");
        let told = test_log::lines_with("not registered");
        let reason = format!("HTTP {refusal}: no; next try in 60.0 s");
        assert!(told.len() == 1 && told[0].ends_with(&reason), "logged once, by its name: {told:?}");
    }
}

/// F21: at once, under the id that it had.
#[actix::test]
async fn a_session_that_the_hub_forgot_is_registered_again_at_once_with_the_same_id() {
    pause();
    let setup = start(Scripted::default(), published(&["a"]), None);
    pass(SECOND).await;
    setup.actor.do_send(SessionLost { session: session("sess-1") });
    setup.actor.do_send(SessionLost { session: session("sess-of-before") });
    pass(SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
    assert_eq!(setup.hub.registered()[1]["providerSessionId"], "sess-1");
    assert_eq!(setup.ready.borrow()[1], SessionReady { session: session("sess-1"), reopen: true });
}

#[actix::test]
async fn a_new_set_is_registered_without_reopening_the_channel_and_an_empty_one_is_not() {
    pause();
    let setup = start(Scripted::default(), published(&["a"]), None);
    pass(SECOND).await;
    setup.actor.do_send(Publish(published(&["a", "b"])));
    pass(SECOND).await;
    assert_eq!(setup.hub.registered()[1]["providers"].as_array().map(Vec::len), Some(2));
    assert!(!setup.ready.borrow()[1].reopen);
    setup.actor.do_send(Publish(Published::default()));
    setup.actor.do_send(Register);
    pass(100 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
}

/// F60: after a suspend a pending registration does not wait for its delay.
#[actix::test]
async fn a_machine_that_woke_up_does_not_wait_for_the_delay() {
    pause();
    let hub = Scripted::default();
    hub.registers.borrow_mut().push_back(Err(unreachable()));
    let setup = start(hub, published(&["a"]), None);
    pass(SECOND).await;
    setup.actor.do_send(RetryNow);
    pass(SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
    pass(100 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2, "the older timer means nothing");
}

#[actix::test]
async fn a_model_that_is_a_path_leaves_by_its_file_name() {
    let config = ProviderConfig { model: "/home/alice/models/qwen.gguf".into(), ..provider("a") };
    let probe: Probe = Rc::new(|_| ready_with(true));
    let entries = entries::providers(&[Arc::new(config)], &probe).await;
    assert_eq!(entries[0].model, "qwen.gguf");
}

/// A hub bears a silence for as long as the publisher does; what is the default goes without saying.
#[actix::test]
async fn a_timeout_of_its_own_is_told_in_whole_seconds() {
    let probe: Probe = Rc::new(|_| ready_with(true));
    let told = async |timeout| {
        let config = ProviderConfig { timeout, ..provider("a") };
        entries::providers(&[Arc::new(config)], &probe).await[0].timeout_seconds
    };
    assert_eq!(told(ProviderConfig::TIMEOUT).await, None);
    assert_eq!(told(90 * SECOND).await, Some(90));
    assert_eq!(told(Duration::from_millis(1500)).await, Some(2));
}

#[actix::test]
async fn the_id_of_the_answer_replaces_ours_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/provider-session");
    let hub = Scripted::default();
    hub.registers.borrow_mut().push_back(Ok(session("sess-of-the-hub")));
    let setup = start(hub, published(&["a"]), Some(path.clone()));
    crate::test_hub::wait_until("ready", || !setup.ready.borrow().is_empty()).await;
    // It is on disk before anybody uses it.
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "sess-of-the-hub\n");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);

    let setup = start(Scripted::default(), published(&["a"]), Some(path));
    crate::test_hub::wait_until("ready", || !setup.ready.borrow().is_empty()).await;
    assert_eq!(setup.hub.registered()[0]["providerSessionId"], "sess-of-the-hub");
}

#[actix::test]
async fn only_who_can_be_woken_is_hibernating_and_an_error_while_asking_counts_as_not_available() {
    let wake = || Some(WakeRecipe { action: wake_on_lan(), max_wait: SECOND });
    let awake = Arc::new(ProviderConfig { wake: wake(), ..provider("awake") });
    let asleep = Arc::new(ProviderConfig { wake: wake(), ..provider("asleep") });
    let broken = Arc::new(ProviderConfig { wake: wake(), ..provider("broken") });
    let silent = Arc::new(ProviderConfig { wake: wake(), ..provider("silent") });
    let plain = Arc::new(provider("plain"));
    let asked = Rc::new(Cell::new(0));
    let counter = Rc::clone(&asked);
    let probe: Probe = Rc::new(move |config| {
        counter.set(counter.get() + 1);
        match config.name.as_str() {
            "awake" => ready_with(true),
            "asleep" => ready_with(false),
            "silent" => Box::pin(futures_util::future::pending()),
            _ => Box::pin(async { panic!("while asking") }),
        }
    });
    pause();
    let entries = entries::providers(&[awake, asleep, broken, silent, plain], &probe).await;
    let statuses: Vec<_> = entries.iter().map(|entry| entry.initial_status.as_str()).collect();
    assert_eq!(statuses, ["active", "hibernating", "hibernating", "hibernating", "active"]);
    assert_eq!(asked.get(), 4, "one without a recipe is not asked");
}

fn wake_on_lan() -> Action {
    Action::WakeOnLan { mac: [0; 6], broadcast: "127.0.0.1".to_owned(), port: 9 }
}

#[test]
fn an_agents_llm_goes_out_by_its_wire_name_and_an_unknown_one_as_it_stands() {
    let mut alice = provider("local-alice");
    alice.name = "local".to_owned();
    let agent = |name: &str, llm: &str| AgentConfig {
        wire_name: WireName::parse(name).unwrap(),
        llm: llm.to_owned(),
        description: None,
        system_prompt: None,
        project: None,
        default_params: None,
        extras: None,
        visibility: wire::row::Visibility::default(),
    };
    let agents = [agent("one", "local"), agent("two", "elsewhere")];
    let providers = [Arc::new(alice)];
    let names = |withdrawn: bool| -> Vec<String> {
        entries::agents(&agents, &providers, |_| withdrawn).into_iter().map(|entry| entry.llm_name).collect()
    };
    assert_eq!(names(false), ["local-alice", "elsewhere"]);
    assert_eq!(names(true), ["elsewhere"], "an agent goes with its LLM");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// F53, F55, A44: whatever else stands in the session file's place counts as no session, and is neither waited for nor sent.
#[test]
fn anything_but_one_line_of_visible_ascii_in_a_small_regular_file_counts_as_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    assert_eq!(file::load(&path), None);
    let longest = "x".repeat(256);
    for (text, id) in
        [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (longest.as_str(), longest.as_str())]
    {
        std::fs::write(&path, text).unwrap();
        assert_eq!(file::load(&path), Some(session(id)), "{text:?}");
    }
    let (too_long, huge) = ("x".repeat(257), format!("abc\n{}", "\n".repeat(5000)));
    let broken =
        ["", "\n", "a b", "abc\n\n", "a\nb", " abc", "id\r\nX-Evil: 1", "a\0", "ä", &too_long, &huge];
    test_log::listen();
    for text in broken {
        std::fs::write(&path, text).unwrap();
        assert_eq!(file::load(&path), None, "{text:?}");
    }
    assert_eq!(test_log::lines_with("session").len(), broken.len());
    assert!(test_log::lines_with("X-Evil").is_empty(), "what it holds is in no log");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(file::load(&path), None);

    let link = folder.path().join("link");
    std::fs::write(&path, "abc").unwrap();
    symlink(&path, &link).unwrap();
    assert_eq!(file::load(&link), None, "a link is no regular file");
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    assert_eq!(file::load(&large), None, "a GiB is not read");
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(file::load(&fifo), None, "a FIFO is not waited for");
    assert_eq!(file::load(folder.path()), None, "a folder is no file");
}

/// F54: a session file that others can read is the owner's alone from the first look at it.
#[test]
fn a_session_file_that_others_can_read_is_made_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    for wide in [0o644, 0o666, 0o640, 0o604, 0o777] {
        std::fs::write(&path, "abc\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wide)).unwrap();
        test_log::listen();
        assert_eq!((file::load(&path), mode(&path)), (Some(session("abc")), 0o600), "{wide:o}");
        let told = test_log::lines_with(&format!("{} had mode {wide:o}", path.display()));
        assert!(told.len() == 1 && told[0].starts_with("WARN"), "{told:?}");
    }
}

/// F54, F56: a session file is replaced in one step, 0600, whatever stood there.
#[test]
fn a_session_file_is_replaced_in_one_step_whatever_stood_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    std::fs::write(&path, "half").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    file::save(&path, &session("whole")).unwrap();
    // Reading it would set its mode right.
    assert_eq!((mode(&path), file::load(&path)), (0o600, Some(session("whole"))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

/// A lock that others could have made, and hold, keeps nobody from publishing.
#[test]
fn a_lock_of_others_is_none() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    let lock = folder.path().join("provider-session.lock");
    std::fs::write(&lock, "").unwrap();
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o666)).unwrap();
    let held = nix::fcntl::Flock::lock(
        std::fs::File::open(&lock).unwrap(),
        nix::fcntl::FlockArg::LockExclusiveNonblock,
    );
    assert!(matches!(file::SessionLock::take(&path), Ok(None)));
    drop(held);
}

/// A pipe in the place of the lock is none either, and is told of in words.
#[test]
fn a_pipe_in_the_place_of_the_lock_is_told_of_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("provider-session.lock");
    nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
    test_log::listen();
    assert!(matches!(file::SessionLock::take(&folder.path().join("provider-session")), Ok(None)));
    let told = test_log::lines_with(&format!("cannot lock {}: it is not a regular file;", lock.display()));
    assert_eq!(told.len(), 1);
}

/// F57: a second registrar on one session file is refused by the lock.
#[test]
fn a_second_registrar_is_refused_with_the_name_of_the_lock_until_the_first_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/provider-session");
    let lock = folder.path().join("deep/provider-session.lock");
    let first = file::SessionLock::take(&path).unwrap();
    assert!(first.is_some());
    assert_eq!(file::SessionLock::take(&path).unwrap_err(), file::Locked { file: lock.clone() });
    drop(first);
    assert!(file::SessionLock::take(&path).unwrap().is_some());
    assert_eq!(mode(&lock), 0o600);
}

/// F52: a folder that cannot be written costs a warning.
#[test]
fn a_home_that_cannot_be_written_is_a_warning_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let path = blocked.join("provider-session");
    assert!(file::SessionLock::take(&path).unwrap().is_none());
    assert!(file::save(&path, &session("abc")).is_err());
}
