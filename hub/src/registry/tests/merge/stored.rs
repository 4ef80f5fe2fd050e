//! What the hubs store, in memory, with the keys of what was changed.

use super::*;

/// What the hubs store, and the keys of what was changed.
#[derive(Default)]
pub struct Stored {
    pub llms: BTreeMap<String, Llm>,
    pub agents: BTreeMap<String, Agent>,
    pub sessions: BTreeMap<String, SessionRecord>,
    pub names: BTreeMap<String, NameRecord>,
    pub aliases: BTreeMap<(AliasScope, String), Alias>,
    pub changed: Vec<Key>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    Session(String),
    Llm(String),
    Agent(String),
    Alias(AliasScope, String),
    Name(String),
}

impl Stored {
    pub fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = match change {
                Change::PutLlm(llm) => {
                    let name = llm.name.clone();
                    self.llms.insert(name.clone(), *llm);
                    Key::Llm(name)
                }
                Change::DeleteLlm(id) => {
                    let name = self.llms.values().find(|llm| llm.id == id).unwrap().name.clone();
                    self.llms.remove(&name);
                    Key::Llm(name)
                }
                Change::PutAgent(agent) => {
                    let name = agent.name.clone();
                    self.agents.insert(name.clone(), *agent);
                    Key::Agent(name)
                }
                Change::DeleteAgent(id) => {
                    let name = self.agents.values().find(|agent| agent.id == id).unwrap().name.clone();
                    self.agents.remove(&name);
                    Key::Agent(name)
                }
                Change::PutSession(record) => {
                    let id = record.id.clone();
                    self.sessions.insert(id.clone(), record);
                    Key::Session(id)
                }
                Change::DeleteSession(id) => {
                    self.sessions.remove(&id);
                    Key::Session(id)
                }
                Change::PutName(record) => {
                    let name = record.name.clone();
                    self.names.insert(name.clone(), record);
                    Key::Name(name)
                }
                Change::DeleteName(name) => {
                    self.names.remove(&name);
                    Key::Name(name)
                }
                Change::PutAlias(alias) => {
                    let key = (alias.scope.clone(), alias.name.clone());
                    self.aliases.insert(key.clone(), alias);
                    Key::Alias(key.0, key.1)
                }
                Change::DeleteAlias { scope, name } => {
                    self.aliases.remove(&(scope.clone(), name.clone()));
                    Key::Alias(scope, name)
                }
                other => panic!("{other:?}"),
            };
            self.changed.push(key);
        }
    }

    /// The records of the keys behind `from`, in the order of the feed.
    pub fn behind(&self, from: usize) -> Vec<Merge> {
        let mut records = Vec::new();
        for pass in 0..5 {
            for key in &self.changed[from..] {
                records.extend(match (pass, key) {
                    (0, Key::Session(id)) => Some(Merge::Session(id.clone(), self.sessions.get(id).cloned())),
                    (1, Key::Llm(name)) => {
                        Some(Merge::Llm(name.clone(), self.llms.get(name).cloned().map(Box::new)))
                    }
                    (2, Key::Agent(name)) => {
                        Some(Merge::Agent(name.clone(), self.agents.get(name).cloned().map(Box::new)))
                    }
                    (3, Key::Alias(scope, name)) => {
                        let alias = self.aliases.get(&(scope.clone(), name.clone())).cloned();
                        Some(Merge::Alias(scope.clone(), name.clone(), alias))
                    }
                    (4, Key::Name(name)) => Some(Merge::Name(name.clone(), self.names.get(name).cloned())),
                    _ => None,
                });
            }
        }
        records
    }

    pub fn all(&self) -> Vec<Merge> {
        let sessions = self.sessions.values().map(|of| Merge::Session(of.id.clone(), Some(of.clone())));
        let llms = self.llms.values().map(|of| Merge::Llm(of.name.clone(), Some(Box::new(of.clone()))));
        let agents = self.agents.values().map(|of| Merge::Agent(of.name.clone(), Some(Box::new(of.clone()))));
        let aliases = self.aliases.values();
        let aliases = aliases.map(|of| Merge::Alias(of.scope.clone(), of.name.clone(), Some(of.clone())));
        let names = self.names.values().map(|of| Merge::Name(of.name.clone(), Some(of.clone())));
        sessions.chain(llms).chain(agents).chain(aliases).chain(names).collect()
    }
}
