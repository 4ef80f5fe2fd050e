use proptest::prelude::*;

use super::*;

fn cut_text(text: &str) -> String {
    remove(text, Some("/srv/people/carol")).into_owned()
}

#[test]
fn private_addresses_and_local_names_go_with_their_ports_and_public_ones_stay() {
    for (text, left) in [
        ("dial tcp 192.168.7.20:8000: connect: refused", "dial tcp ***: connect: refused"),
        ("no route to 172.31.255.1, 172.32.0.1 or 169.254.3.4.", "no route to ***, 172.32.0.1 or ***."),
        ("lookup nas.lan on 100.127.0.9:53: no such host", "lookup *** on ***: no such host"),
        ("peer=10.0.0.7 port=1", "peer=*** port=1"),
        (
            "http://gpu-2:8000/v1/x and https://api.example.com/v1",
            "http://***/v1/x and https://api.example.com/v1",
        ),
        ("at [fd00::7]:9000, fe80::1%eth0 and [::1]:80", "at ***, *** and ***"),
        ("[2001:db8::1]:9000 and 8.8.8.8:53 stay", "[2001:db8::1]:9000 and 8.8.8.8:53 stay"),
        ("Host('Printer.Local', 631)", "Host('***', 631)"),
        ("ws://10.1.2.3:4/socket", "ws://***/socket"),
        ("localhost:5432 is down, localhost is not", "*** is down, localhost is not"),
        ("at ::ffff:10.0.0.1", "at ***"),
        ("connect ECONNREFUSED ::1:11434", "connect ECONNREFUSED ***"),
        ("[::1]:80-[::1]:81", "***-***"),
        ("std::vec at 12:30:45 of 1.2.3 is local", "std::vec at 12:30:45 of 1.2.3 is local"),
        ("settings.local.json and com.foo.internal.Bar", "settings.local.json and com.foo.internal.Bar"),
        ("0.5.0.1 10.0 10.0.0.300", "0.5.0.1 10.0 10.0.0.300"),
        ("010.0.0.5, 10.00.0.5:80, 192.168.001.002 and 0300.0250.0.1", "***, ***, *** and ***"),
        ("http://127.1/x, http://10.5:80 and 127.0.1:8000", "http://***/x, http://*** and ***"),
        (
            "127.1 GiB of 10.5, at 10.5:30, 8.8:8000, 08.8.8.8",
            "127.1 GiB of 10.5, at 10.5:30, 8.8:8000, 08.8.8.8",
        ),
        ("1.10.0.0.7 and 10.0.0.7.5 are versions", "1.10.0.0.7 and 10.0.0.7.5 are versions"),
        ("ip-10.0.0.7-gpu, 10.0.0.7_8000, 10.0.0.7%eth0", "ip-***-gpu, ***_8000, ***%eth0"),
        ("10.0.0.7.nip.io and nas.lan:80:x", "***.nip.io and ***:x"),
        ("[2001:db8::1]:9000-[fd00::1]:80", "[2001:db8::1]:9000-***"),
        ("10.0.0.1:80-[fd00::1]:80-nas.lan:9-[::1]", "***-***-***-***"),
        ("peer:fd00::1, [fd00::1, node:::1:80", "peer:***, [***, node:***"),
        ("2001:fd00::1 is public, Foo::1 is none", "2001:fd00::1 is public, Foo::1 is none"),
        ("http://bob:secret@gpu7:3128/v1", "http://***@***/v1"),
        ("https://bob@api.example.com:8/v1?to=a@b", "https://***@api.example.com:8/v1?to=a@b"),
        ("http://a@b@10.0.0.7/, bob@example.com", "http://***@***/, bob@example.com"),
        (
            "HTTPConnectionPool(host='rack', port=8000): Cannot connect to host rack:8000 ssl:default",
            "HTTPConnectionPool(host='***', port=8000): Cannot connect to host *** ssl:default",
        ),
        ("dial tcp: lookup rack: no such host", "dial tcp: lookup ***: no such host"),
        ("lookup rack on 10.0.0.1:53: no such host", "lookup *** on ***: no such host"),
        ("lookup table: not found, lookup table on disk", "lookup table: not found, lookup table on disk"),
        (
            "getaddrinfo ENOTFOUND rack, Could not resolve host: rack",
            "getaddrinfo ENOTFOUND ***, Could not resolve host: ***",
        ),
        ("host='api.example.com', port=443", "host='api.example.com', port=443"),
        ("/models//Qwen2/x and file:///etc/x", "/models//Qwen2/x and file:///etc/x"),
    ] {
        assert_eq!(cut_text(text), left, "{text}");
    }
}

#[test]
fn a_path_in_anybodys_home_is_its_file_name() {
    for (text, left) in [
        ("No such file: '/home/bob/models/q 4.gguf'", "No such file: '***/q 4.gguf'"),
        ("File \"/Users/bob/vllm/engine.py\", line 7", "File \"***/engine.py\", line 7"),
        ("at /srv/people/carol/.cache/x/y.bin:12", "at ***/y.bin:12"),
        (
            "/srv/people/carol is full, /srv/people/caroline is not",
            "*** is full, /srv/people/caroline is not",
        ),
        ("open C:\\Users\\bob\\m.gguf failed", "open ***/m.gguf failed"),
        (
            "/home/ is a folder, https://x.example/home/bob a page",
            "/home/ is a folder, https://x.example/home/bob a page",
        ),
        ("/usr/lib/x.so", "/usr/lib/x.so"),
        ("open /root/.cache/hub/x.bin, '/root/y', %2Froot%2Fz", "open ***/x.bin, '***/y', ***/z"),
        (
            "/root is closed, /roots/x, a/root/x, https://x.example/root/x",
            "/root is closed, /roots/x, a/root/x, https://x.example/root/x",
        ),
        ("open ~alice/models/x.gguf, (~bob.b/y) ~carol/", "open ***/x.gguf, (***/y) ***"),
        (
            "~/x.gguf, ~5 /x, https://x.example/~alice/x, a~b/c",
            "~/x.gguf, ~5 /x, https://x.example/~alice/x, a~b/c",
        ),
        ("cannot open file:///home/bob/models/x.gguf", "cannot open file://***/x.gguf"),
        ("//home/bob/models/x.gguf is no URL", "/***/x.gguf is no URL"),
        ("/home/a /home/b/c /homes /home/d", "*** ***/c /homes ***"),
        ("open /home//bob///models//x.gguf", "open ***/x.gguf"),
        ("open D:\\Users\\bob\\x.gguf, d:/users/bob, C:\\\\Users\\\\bob\\\\y", "open ***/x.gguf, ***, ***/y"),
        ("at /mnt/c/Users/bob/x and /c/users/bob", "at ***/x and ***"),
        ("/export/home/bob/x, /var/home/bob, /a/b/c/home/bob/x", "***/x, ***, ***/x"),
        ("?path=%2Fhome%2Fbob%2Fx.gguf&u=%252Fhome%252fbob", "?path=***/x.gguf&u=***"),
        ("file%3D%2Fhome%2Fbob and C%3A%5CUsers%5Cbob%5Cx", "file%3D*** and ***/x"),
        ("file:///C:/Users/bob/x and \\\\nas\\Users\\bob\\x", "file://***/x and \\***/x"),
        (
            "b'Traceback\\n/home/bob/x.py' {\\\"f\\\":\\\"\\/home\\/bob\\/y\\\"}",
            "b'Traceback\\n***/x.py' {\\\"f\\\":\\\"\\***/y\\\"}",
        ),
        (
            "/v1/users/bob, https://x.example/v1/home/bob, a/home/bob",
            "/v1/users/bob, https://x.example/v1/home/bob, a/home/bob",
        ),
        ("50%25 of /home% and %2Fhome", "50%25 of /home% and %2Fhome"),
    ] {
        assert_eq!(cut_text(text), left, "{text}");
    }
}

proptest! {
    #[test]
    fn no_private_address_is_left_in_any_text(
        a in any::<u8>(), b in any::<u8>(), c in any::<u8>(), kind in 0..4_u8,
        before in "[ =('\"/@,]", after in "([ .,)'\"/:]|:[0-9]{2,5} )", words in "[a-zé/ ]{0,20}"
    ) {
        let address = match kind {
            0 => format!("10.{a}.{b}.{c}"),
            1 => format!("192.168.{b}.{c}"),
            2 => format!("172.{}.{b}.{c}", 16 + a % 16),
            _ => format!("host-{a}.lan"),
        };
        // What follows a name without a blank is a part of it.
        prop_assume!(kind < 3 || after != ".");
        let text = format!("{words}{before}{address}{after}{words}");
        prop_assert!(!cut_text(&text).contains(&address), "{}", cut_text(&text));
    }

    #[test]
    fn any_text_can_be_cut(text in "[a-z0-9.:/\\[\\]% é-]{0,60}") {
        let _ = cut_text(&text);
    }

    /// What a caller sends again and again in one text, at any length and with anything between.
    #[test]
    fn none_of_many_is_left(
        address in prop_oneof![
            Just("[fd00::7]"), Just("fd00::7"), Just("[fe80::7%eth0]"), Just("10.0.0.7"), Just("nas.lan"), Just("::ffff:10.0.0.7"),
        ],
        between in prop_oneof![Just(":80-"), Just("-"), Just(" "), Just(":8000 "), Just("_"), Just("-[2001:db8::1]-"), Just("[-")],
        count in prop_oneof![20 => 0..9_usize, 1 => Just(40_000)]
    ) {
        let name = address.trim_matches(['[', ']']);
        // Marks join names to one.
        prop_assume!(address != "nas.lan" || !between.starts_with(['-', '_', '[']));
        let text = format!("{address}{between}").repeat(count);
        let left = cut_text(&text);
        prop_assert!(!left.contains(name), "{}", &left[..left.len().min(200)]);
        prop_assert_eq!(left.matches("***").count(), count);
    }
}

/// What is looked at again for each of many takes minutes at this size, and what recurs has no stack for it.
#[test]
fn a_text_as_long_as_an_error_may_be_is_cut_at_once_whatever_it_is_made_of() {
    const LONG: usize = 256 << 10;

    for piece in [
        "/home/a ",
        "/home/",
        "/home",
        "/Users/a/",
        "C",
        "C:\\Users\\",
        "/srv/people/carol ",
        "/srv/people/carol",
        "/",
        "[fd00::]",
        "[",
        "]",
        "[[]",
        "[fd00::",
        ":",
        "::",
        "a:",
        "fd00::1",
        "fd00::1 ",
        "1",
        "1.",
        "10.0.0.1",
        "10.0.0.1:",
        ".",
        "-",
        "%",
        "://",
        "://a",
        "%2F",
        "%25",
        "%",
        "\\",
        "\\n",
        "/-",
        "/-/-/-/home/",
        "/c:/c:",
        "%2Fa%5Ca",
        "C:\\",
        "0.",
        "10.5:800",
        "http://a@",
        "://@",
        "@",
        "a.lan",
        "localhost:1",
        "~a/",
        "~",
        "host='a",
        "lookup a on 1",
        "/root/",
        "é",
        "[10.0.0.1]",
        "x",
    ] {
        let begun = tokio::time::Instant::now();
        let _ = cut_text(&piece.repeat(LONG / piece.len()));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{piece:?}");
    }
}
