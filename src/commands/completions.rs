//! `completions`: completion scripts for shells.
//!
//! The scripts of clap complete commands and options. For names at the hub they call the hidden option `--names`, whose
//! errors are discarded.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::Value;

use super::get::collection;
use crate::{
    cli::{Cli, GetKind, Global, NamesOf},
    config::Paths,
    control,
    exit::Outcome,
    output,
};

/// Wraps the function of clap's script, and completes names.
const BASH: &str = r#"
_virtual_llm_with_names() {
    _virtual__llm "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" kind
    [[ "$cur" == -* ]] && return
    case "${COMP_WORDS[*]:0:COMP_CWORD}" in
        *" create llm" | *" create agent") return ;;
        *" chat-llm" | *" launch claude" | *" launch codex" | *" launch opencode" | *" launch qwen" | *" launch aider") kind=chat ;;
        *" get llm" | *" get llms" | *" describe llm" | *" delete llm" | *" delete llm "*) kind=llm ;;
        *" get agent" | *" get agents" | *" describe agent" | *" delete agent" | *" delete agent "*) kind=agent ;;
        *" get task" | *" get tasks" | *" describe task" | *" delete task" | *" delete task "*) kind=task ;;
        *" get session" | *" get sessions") kind=session ;;
        *" get alias" | *" get aliases" | *" alias delete") kind=alias ;;
        *" alias set "*) kind=chat ;;
        *" alias set") return ;;
        *" get name" | *" get names" | *" delete name" | *" delete name "* | *" name give") kind=name ;;
        *" get pool" | *" get pools" | *" describe pool" | *" pool admit" | *" pool remove") kind=pool ;;
        *" pool admit "* | *" pool remove "*) kind=llm ;;
        *" get user" | *" get users" | *" describe user" | *" user set") kind=user ;;
        *" get token" | *" get tokens" | *" describe token" | *" token set" | *" token rotate" | *" token revoke") kind=token ;;
        *" provider") kind=provider ;;
        *) return ;;
    esac
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" -qq completions --names "$kind" 2>/dev/null)" -- "$cur"))
}
complete -F _virtual_llm_with_names -o bashdefault -o default virtual-llm
"#;

/// Completes names where clap's script would complete files. `get`, `describe` and `delete` have the kind before the name.
/// The blank before a call in a specification prevents `_arguments` from inserting its own words.
const ZSH: &str = r#"
_virtual_llm_names() {
    local kind=$1
    if [[ -z $kind ]]; then
        local word
        for word in ${words[1,CURRENT-1]}; do
            case $word in
                llm|llms|agent|agents|task|tasks|session|sessions|pool|pools|name|names|alias|user|users|token|tokens|inference-task|inference-tasks) kind=${${word%s}#inference-} ;;
            esac
        done
    fi
    compadd -- ${(f)"$(virtual-llm -qq completions --names ${kind:-llm} 2>/dev/null)"}
}
"#;

/// Completes values of arguments, which clap's script does not.
const FISH: &str = r#"
function __virtual_llm_after
    # Whether the command line before the completed word ends with these words.
    set -l words (commandline -opc | string match -v -- '-*')
    string match -qr -- "(^| )$argv\$" "$words"
end
complete -c virtual-llm -n "__virtual_llm_after chat-llm" -f -a "(virtual-llm -qq completions --names chat 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after launch" -f -a "claude codex opencode qwen aider"
complete -c virtual-llm -n "__virtual_llm_after 'launch \S+'" -f -a "(virtual-llm -qq completions --names chat 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after provider" -f -a "(virtual-llm -qq completions --names provider 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'provider \S+'" -f -a "up down status"
complete -c virtual-llm -n "__virtual_llm_after get" -f -a "llm agent session task pool name alias user token hub"
complete -c virtual-llm -n "__virtual_llm_after describe" -f -a "llm agent pool task user token"
complete -c virtual-llm -n "__virtual_llm_after delete" -f -a "llm agent task name"
complete -c virtual-llm -n "__virtual_llm_after completions" -f -a "bash elvish fish powershell zsh"
complete -c virtual-llm -n "__virtual_llm_after 'service install'" -f -a "publish hub"
complete -c virtual-llm -n "__virtual_llm_after 'name give'" -f -a "(virtual-llm -qq completions --names name 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'user set'" -f -a "(virtual-llm -qq completions --names user 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'token (set|rotate|revoke)'" -f -a "(virtual-llm -qq completions --names token 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'alias delete'" -f -a "(virtual-llm -qq completions --names alias 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'alias set \S+'" -f -a "(virtual-llm -qq completions --names chat 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'pool (admit|remove)'" -f -a "(virtual-llm -qq completions --names pool 2>/dev/null)"
complete -c virtual-llm -n "__virtual_llm_after 'pool (admit|remove) \S+'" -f -a "(virtual-llm -qq completions --names llm 2>/dev/null)"
for kind in llm agent task session pool name alias user token
    complete -c virtual-llm -n "__virtual_llm_after '(get|describe|delete) '$kind's?'" -f -a "(virtual-llm -qq completions --names $kind 2>/dev/null)"
    complete -c virtual-llm -n "__virtual_llm_after 'delete '$kind's?( \S+)+'" -f -a "(virtual-llm -qq completions --names $kind 2>/dev/null)"
end
complete -c virtual-llm -n "__virtual_llm_after '(chat-llm|describe \S+) \S+'" -f
"#;

pub(crate) fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "virtual-llm", &mut script);
    let script = String::from_utf8_lossy(&script);
    output::piece(match shell {
        Shell::Bash => {
            // clap_complete 4.6 replaces the dash of the program's name by `__` in one place and by `__subcmd__` in
            // another: without this line only the first word is completed.
            format!("{}{BASH}", script.replace("virtual__subcmd__llm", "virtual__llm"))
        }
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => {
            let mut named = script.into_owned();
            for (argument, call) in [
                ("The LLM, pool or agent", "_virtual_llm_names chat"),
                ("The provider'\\''s local or published name", "_virtual_llm_names provider"),
                ("The pool", "_virtual_llm_names pool"),
                ("The LLM'\\''s name at the hub", "_virtual_llm_names llm"),
                ("Only the one with this name", "_virtual_llm_names"),
                ("Its name", "_virtual_llm_names"),
                ("The user", "_virtual_llm_names user"),
                (
                    "The token'\\''s id, from `token list`, or its user if that has one token",
                    "_virtual_llm_names token",
                ),
                (
                    "The token'\\''s id, from `token list`, or its user if that has one token \\[default\\: yours\\]",
                    "_virtual_llm_names token",
                ),
                ("Names, or ids of tasks", "_virtual_llm_names"),
                ("Its name; for a task its id, or the id of its request", "_virtual_llm_names"),
            ] {
                let files = format!(" -- {argument}:_default'");
                named = named.replace(&files, &format!(" -- {argument}: {call}'"));
            }
            // The last lines of the script call its functions: they must be defined before.
            let last = "if [ \"$funcstack[1]\"";
            named.replace(last, &format!("{}\n{last}", ZSH.trim()))
        }
        _ => script.into_owned(),
    })
}

/// Prints names, one a line.
pub(crate) async fn names(global: &Global, of: NamesOf) -> Outcome {
    if of == NamesOf::Provider {
        let status = control::ask(&Paths::find(global)?, &control::Request::Status).await?;
        return print(field(&status["providers"], "name"));
    }
    let hub = super::hub_client(global)?;
    let (kind, key) = match of {
        NamesOf::Chat => {
            let llms = hub.llms().await?;
            let agents = hub.get(collection(GetKind::Agent)).await.unwrap_or_default();
            return print(field(&llms, "name").chain(field(&llms, "poolName")).chain(field(&agents, "name")));
        }
        NamesOf::Pool => (GetKind::Pool, "name"),
        NamesOf::Name => (GetKind::Name, "name"),
        NamesOf::Alias => (GetKind::Alias, "name"),
        NamesOf::User => (GetKind::User, "name"),
        NamesOf::Token => (GetKind::Token, "id"),
        NamesOf::Llm => return print(field(&hub.llms().await?, "name")),
        NamesOf::Agent => (GetKind::Agent, "name"),
        NamesOf::Task => (GetKind::Task, "id"),
        NamesOf::Session | NamesOf::Provider => (GetKind::Session, "providerSessionId"),
    };
    print(field(&hub.get(collection(kind)).await.unwrap_or_default(), key))
}

fn field<'a>(rows: &'a Value, key: &'a str) -> impl Iterator<Item = &'a str> {
    rows.as_array().into_iter().flatten().filter_map(move |row| row[key].as_str())
}

fn print<'a>(names: impl Iterator<Item = &'a str>) -> Outcome {
    // A name that the shell would split, or take for an option, is left out.
    let is_word = |name: &&str| {
        name.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)) && !name.starts_with('-')
    };
    let mut names: Vec<_> = names.filter(is_word).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().try_for_each(output::line)
}
