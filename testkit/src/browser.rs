//! A headless Chromium, controlled through chromedriver with the JSON of `WebDriver` over plain HTTP.

use std::cell::RefCell;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;
use crate::skipped;
use crate::wait::{eventually, wait_for};

/// The key of an element's id in `WebDriver`'s JSON (section 12.1 of its specification).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Chromium's options: headless, no sandbox because CI runs as root, and no connections except to the page under test.
const ARGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A running browser with one page. Dropping it kills the processes of Chromium and chromedriver.
pub struct Browser {
    driver: Process,
    chromium: RefCell<Option<Pid>>,
    client: awc::Client,
    session: String,
    profile: TempDir,
}

/// A tab of a browser.
pub struct Tab(Value);

/// Starts a chromedriver, and reads its port from its output. chromedriver picks a free IPv6 port and exits if the same IPv4
/// port is in use; then it is started again.
async fn start_driver(profile: &TempDir) -> (Process, u16) {
    const STARTED: &str = "started successfully on port ";

    loop {
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let driver = Process::new(command.spawn().unwrap());
        let stdout = wait_for("chromedriver starts", || async {
            let stdout = driver.stdout();
            let is_whole = stdout.split_once(STARTED).is_some_and(|(_, port)| port.contains('.'));
            (is_whole || stdout.contains("port not available")).then_some(stdout)
        });
        if let Some((_, port)) = stdout.await.split_once(STARTED) {
            let port = port.split('.').next().unwrap().parse().unwrap();
            return (driver, port);
        }
    }
}

impl Browser {
    /// Starts a browser with an empty profile, `width` pixels wide. Reports a skipped test and returns `None` if Chromium is not
    /// installed.
    pub async fn start(width: u32) -> Option<Self> {
        let missing = ["chromedriver", "chromium"].into_iter().find(|program| !in_path(program));
        if let Some(program) = missing {
            skipped(&format!("the console in a browser, there is no {program}"));
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = start_driver(&profile).await;
        let client = awc::Client::builder().timeout(Duration::from_mins(1)).finish();
        let mut browser = Self {
            driver,
            chromium: RefCell::default(),
            client,
            session: format!("http://127.0.0.1:{port}/session"),
            profile,
        };
        browser.open(width).await;
        Some(browser)
    }

    async fn open(&mut self, width: u32) {
        let mut args: Vec<String> = ARGS.iter().map(|&arg| arg.to_owned()).collect();
        args.push(format!("--user-data-dir={}", self.profile.path().join("profile").display()));
        args.push(format!("--window-size={width},900"));
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" } });
        let opened = self.ask("", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        let pid = opened["capabilities"]["goog:processID"].as_i64().map(|pid| i32::try_from(pid).unwrap());
        *self.chromium.borrow_mut() = pid.map(Pid::from_raw);
        self.session = format!("{}/{}", self.session, opened["sessionId"].as_str().unwrap());
        // Chromium's windows cannot be as narrow as a phone, so the size is emulated.
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        self.ask("/goog/cdp/execute", &command).await;
    }

    /// Runs a `WebDriver` command. Panics if it fails.
    async fn ask(&self, path: &str, body: &Value) -> Value {
        self.try_to(path, body).await.unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
    }

    /// Reads a value of the `WebDriver` session.
    async fn read(&self, path: &str) -> Value {
        let mut answer = self.client.get(format!("{}{path}", self.session)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["value"].take()
    }

    /// Runs a `WebDriver` command. `Err` has the driver's error.
    async fn try_to(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let sent = self.client.post(format!("{}{path}", self.session)).send_json(body).await;
        let mut answer = sent.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = answer.status();
        let mut body: Value = answer.json().limit(16 << 20).await.unwrap();
        let value = body["value"].take();
        if status.is_success() { Ok(value) } else { Err(value) }
    }

    /// Opens a URL.
    pub async fn go(&self, url: &str) {
        self.ask("/url", &json!({ "url": url })).await;
    }

    /// Has every request of the page to an address that fits one of these patterns fail as by a broken network.
    pub async fn block(&self, patterns: &[&str]) {
        for (cmd, params) in
            [("Network.enable", json!({})), ("Network.setBlockedURLs", json!({ "urls": patterns }))]
        {
            self.ask("/goog/cdp/execute", &json!({ "cmd": cmd, "params": params })).await;
        }
    }

    /// The tab that commands go to.
    pub async fn tab(&self) -> Tab {
        Tab(self.read("/window").await)
    }

    /// Opens another tab, to which commands go from now on.
    pub async fn open_tab(&self) -> Tab {
        let opened = self.ask("/window/new", &json!({ "type": "tab" })).await;
        let tab = Tab(opened["handle"].clone());
        self.go_to(&tab).await;
        tab
    }

    /// Has commands go to another tab.
    pub async fn go_to(&self, tab: &Tab) {
        self.ask("/window", &json!({ "handle": tab.0 })).await;
    }

    /// Evaluates a JavaScript expression in the page.
    pub async fn js(&self, expression: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": format!("return {expression}"), "args": [] })).await
    }

    /// Text of the element that matches `css`; empty without such an element.
    pub async fn text(&self, css: &str) -> String {
        let text = self.js(&format!("document.querySelector({})?.innerText ?? ''", json!(css))).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&self, expression: &str) {
        let truth = format!("Boolean({expression})");
        eventually(expression, async || self.js(&truth).await == true).await;
    }

    /// Waits until an element that matches `css` contains `text`.
    pub async fn shows(&self, css: &str, text: &str) {
        let (css, text) = (json!(css), json!(text));
        self.until(&format!("document.querySelector({css})?.innerText.includes({text})")).await;
    }

    async fn element(&self, css: &str) -> String {
        self.until(&format!("document.querySelector({})", json!(css))).await;
        let found = self.ask("/element", &json!({ "using": "css selector", "value": css })).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks an element. Unlike a click by JavaScript, it fails on hidden and covered elements.
    pub async fn click(&self, css: &str) {
        self.act(css, "click", &json!({})).await;
    }

    /// Types text into a field, key by key.
    pub async fn type_into(&self, css: &str, text: &str) {
        self.act(css, "value", &json!({ "text": text })).await;
    }

    /// Runs a command on an element, and retries while the element is missing, hidden or replaced.
    async fn act(&self, css: &str, command: &str, body: &Value) {
        const NOT_YET: [&str; 3] =
            ["element not interactable", "element click intercepted", "stale element reference"];
        wait_for(&format!("{command} on {css}"), || async {
            let element = self.element(css).await;
            match self.try_to(&format!("/element/{element}/{command}"), body).await {
                Ok(_) => Some(()),
                Err(refusal) if NOT_YET.iter().any(|reason| refusal["error"] == *reason) => None,
                Err(refusal) => panic!("{css}: {refusal}"),
            }
        })
        .await;
    }

    /// The browser's console errors since the last call: refused loads, violations of the content policy, uncaught errors.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.ask("/se/log", &json!({ "type": "browser" })).await;
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium is killed first, because it would survive the end of chromedriver.
        for pid in self.chromium.take().into_iter().chain([Pid::from_raw(self.driver.pid())]) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
