//! `completions`: what a shell needs to know, with the names of the hub's LLMs, which it asks for when they are wanted.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, exit::Outcome, output};

/// Over clap's function: after `chat-llm`, and after `get`, `describe` or `delete` and `llm`, names come first.
const BASH: &str = r#"
_virtual_llm_with_names() {
    _virtual__llm "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}"
    case "${COMP_WORDS[*]:0:COMP_CWORD}" in
        *" create llm") ;;
        *" chat-llm" | *" llm" | *" llms")
            [[ "$cur" == -* ]] || COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" -qq get llm -o name 2>/dev/null | sed 's,^llm/,,')" -- "$cur"))
            ;;
    esac
}
complete -F _virtual_llm_with_names -o bashdefault -o default virtual-llm
"#;

/// Where clap's script would offer files.
const ZSH: &str = r#"
_virtual_llm_names() {
    compadd -- ${${(f)"$(virtual-llm -qq get llm -o name 2>/dev/null)"}#llm/}
}
"#;

/// Beside clap's lines.
const FISH: &str = r#"
complete -c virtual-llm -n "__fish_seen_subcommand_from chat-llm llm llms" -f -a "(virtual-llm -qq get llm -o name 2>/dev/null | string replace llm/ '')"
"#;

/// Prints the script for `shell`.
pub(crate) fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "virtual-llm", &mut script);
    let script = String::from_utf8_lossy(&script);
    output::piece(match shell {
        Shell::Bash => {
            // clap_complete 4.6 writes the dash of the program's name as `__` where it finds a command, and as
            // `__subcmd__` where it answers for it: without this, nothing below the first word is completed.
            format!("{}{BASH}", script.replace("virtual__subcmd__llm", "virtual__llm"))
        }
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => {
            let named = script
                .replace("The LLM, pool or agent:_default'", "The LLM, pool or agent:_virtual_llm_names'");
            // The script's last lines run it: what they call stands before them.
            let last = "if [ \"$funcstack[1]\"";
            named.replace(last, &format!("{}\n{last}", ZSH.trim()))
        }
        _ => script.into_owned(),
    })
}
