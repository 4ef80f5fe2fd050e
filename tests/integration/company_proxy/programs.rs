//! Squid and tinyproxy.

use super::*;

/// Squid, the usual proxy of offices, on this port. It knows the hub's name from a file.
pub(super) fn squid(folder: &Path, port: u16, more: &str) -> Killed {
    std::fs::write(folder.join("hosts"), format!("127.0.0.1 {NAME}\n")).unwrap();
    let at = folder.display();
    let config = format!(
        "http_port 127.0.0.1:{port}\nhosts_file {at}/hosts\npid_filename none\ncoredump_dir none\naccess_log none\n\
         cache_log /dev/null\ncache_store_log none\nnetdb_filename none\ncache_mem 8 MB\nmax_filedescriptors 1024\n\
         visible_hostname office\nshutdown_lifetime 0 seconds\npinger_enable off\n{more}\nhttp_access allow all\n"
    );
    let file = folder.join("squid.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = std::process::Command::new("/usr/sbin/squid");
    command.arg("-N").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Killed::spawn(&mut command)
}

/// Squid drops root and reads its files as another user.
pub(super) fn readable_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[actix_rt::test]
async fn squid_opens_tunnels_for_a_registrar_and_its_commands() {
    if !Path::new("/usr/sbin/squid").exists() {
        return skipped("a hub behind Squid, which is not here");
    }
    let certificate = Certificate::own_authority(NAME, (2020, 2090));
    let (office, folder, port) = (Office::new(Some(&certificate)).await, readable_folder(), free_port());
    let _squid = squid(folder.path(), port, "");
    eventually("Squid listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let https = office.url("https");
    office.knows(Some(("mcpdUrl", &https)));
    let ca = office.home.path().join("hub.pem");
    let (url, ca) = (format!("http://127.0.0.1:{port}"), ca.to_str().unwrap().to_owned());
    let environment = [("HTTPS_PROXY", url.as_str())];
    let registrar = office.publish(&environment, &["--ca-file", &ca]);
    registrar.logs("control channel open").await;
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi", "--ca-file", &ca]).await;
    assert_eq!(pieces(&asked.stdout), "t0 t1 t2", "{asked:?}");
    let check = office.run(&environment, &["check", "--ca-file", &ca]).await;
    assert!(check.stdout.contains("accepts the token") && check.stdout.contains("1 MB up in"), "{check:?}");
}

/// tinyproxy on this port, with a password. It asks a proxy at `upstream` that knows the hub's name.
fn tinyproxy(folder: &Path, port: u16, upstream: u16) -> Option<Killed> {
    let config = format!(
        "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Error\n\
         BasicAuth user password\nUpstream http 127.0.0.1:{upstream}\n"
    );
    let file = folder.join("tinyproxy.conf");
    std::fs::write(&file, config).unwrap();
    let program =
        ["/usr/bin/tinyproxy", "/usr/sbin/tinyproxy"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        skipped("a hub behind tinyproxy, which is not here");
        return None;
    };
    let mut command = std::process::Command::new(program);
    command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Some(Killed::spawn(&mut command))
}

#[actix_rt::test]
async fn tinyproxy_carries_a_link_by_connect() {
    let (folder, port, upstream) = (readable_folder(), free_port(), ConnectProxy::start());
    let Some(_tinyproxy) = tinyproxy(folder.path(), port, upstream.port()) else { return };
    eventually("tinyproxy listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let office = Office::new(None).await;
    let url = format!("http://user:password@127.0.0.1:{port}");
    let environment = [("http_proxy", url.as_str())];
    let registrar = office.publish(&environment, &[]);
    registrar.logs("control channel open").await;
    let status = office.run(&[], &["status"]).await;
    assert!(status.stdout.contains("link: one WebSocket"), "{status:?}");
    office.backend.script(|script| script.pace = Duration::from_millis(50));
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!((asked.code(), pieces(&asked.stdout).as_str()), (0, "t0 t1 t2"), "{asked:?}");
    let check = office.run(&environment, &["check"]).await;
    assert!(
        check.stdout.contains("with user and password") && check.stdout.contains("1 MB up in"),
        "{check:?}"
    );
    let without = format!("http://127.0.0.1:{port}");
    let refused = office.run(&[("http_proxy", &without)], &["check"]).await;
    assert!(refused.code() == 1 && refused.stdout.contains("(407)"), "{refused:?}");
}
