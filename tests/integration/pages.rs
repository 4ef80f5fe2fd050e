//! Generated files: manual pages, completion scripts, the JSON schema.

use std::process::Stdio;

use testkit::process::Home;
use testkit::skipped;
use tokio::process::Command;

/// Runs a program of the system. Reports a skipped test and returns `None` if the program is not installed.
async fn tool(program: &str, args: &[&str]) -> Option<std::process::Output> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().await;
    if output.is_err() {
        skipped(&format!("{program}, which is not installed"));
    }
    output.ok()
}

#[actix_rt::test]
async fn every_command_has_a_manual_page_with_its_options_and_examples() {
    let home = Home::new();
    let folder = home.path().join("man1");
    let outcome = home.run(&["man", folder.to_str().unwrap()]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    let help = home.run(&["--help"]).await.stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let names = commands.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help");
    for name in names.map(|name| format!("virtual-llm-{name}")).chain(["virtual-llm".to_owned()]) {
        let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(page.contains("\n.SH EXAMPLE"), "{name} has no example");
        assert!(page.contains(&format!(".TH {name} 1 ")), "{page}");
    }
    let page = folder.join("virtual-llm-create-llm.1");
    let Some(shown) = tool("man", &["-l", page.to_str().unwrap()]).await else { return };
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    if !shown.contains("SYNOPSIS") {
        // Container images often have a stub `man` that shows no pages.
        return skipped("manual pages: the installed man shows none");
    }
    assert!(
        shown.contains("--type openai --model gpt-5 \\\n"),
        "an example keeps its line breaks and backslashes: {shown}"
    );
}

#[actix_rt::test]
async fn the_schema_command_prints_the_checked_in_schema() {
    let home = Home::new();
    let printed = home.run(&["schema"]).await;
    assert_eq!(printed.code(), 0);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json");
    assert_eq!(printed.stdout, std::fs::read_to_string(file).unwrap());
}
