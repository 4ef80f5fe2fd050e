//! The example of three hubs in containers, as far as it can be checked without an engine.

use std::path::Path;

use serde_yaml_ng::Value;
use testkit::process::Home;

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster").join(file))
        .unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_sequence().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[actix_rt::test]
async fn the_example_in_containers_names_options_that_there_are() {
    let mut compose: Value = serde_yaml_ng::from_str(&read("compose.yaml")).unwrap();
    compose.apply_merge().unwrap();
    let services = compose["services"].as_mapping().unwrap();
    let help = Home::new().run(&["hub", "--help"]).await.stdout;
    let mut ids = Vec::new();
    for (name, service) in services.iter().filter(|(name, _)| name.as_str().unwrap().starts_with("hub-")) {
        let command = texts(&service["command"]);
        assert_eq!(command[0], "hub");
        for option in command.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!("{option} <")), "{option} is no option");
        }
        let value = |option| command[command.iter().position(|word| *word == option).unwrap() + 1];
        assert_eq!(name.as_str().unwrap(), format!("hub-{}", value("--hub-id")));
        ids.push(value("--hub-id"));
        // The file is where it is mounted.
        let volumes = texts(&service["volumes"]);
        assert!(volumes[0].contains(&format!(":{}:", value("--database-url-file"))), "{volumes:?}");
        for variable in service["environment"].as_mapping().unwrap().keys() {
            assert!(help.contains(variable.as_str().unwrap()), "{variable:?}");
        }
        assert_eq!(service["environment"]["VIRTUAL_LLM_NATS_URL"], "nats://nats:4222");
        for other in service["depends_on"].as_mapping().unwrap().keys() {
            assert!(services.contains_key(other), "{other:?}");
        }
    }
    assert_eq!(ids, ["a", "b", "c"]);
    let front = read("nginx.conf");
    for id in ids {
        assert!(front.contains(&format!("server hub-{id}:8787")), "{id}");
    }
}
