//! `meshwright completion`: shell completion scripts.

use std::io;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::output::print;

/// Flags of `meshwright completion`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Bash: for the current shell, and for all new shells
  source <(meshwright completion bash)
  meshwright completion bash > ~/.local/share/bash-completion/completions/meshwright

  # Zsh: for the current shell, and for all new shells, where FOLDER is a folder in $fpath
  source <(meshwright completion zsh)
  meshwright completion zsh > FOLDER/_meshwright

  # Fish: for the current shell, and for all new shells
  meshwright completion fish | source
  meshwright completion fish > ~/.config/fish/completions/meshwright.fish")]
pub struct CompletionArgs {
    /// Shell to generate the script for
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// The script can't be printed.
#[derive(Debug, thiserror::Error)]
#[error("can't write the output")]
pub struct CompletionError(#[source] io::Error);

/// Prints the script for `command`, which is the whole command line.
pub fn run(args: &CompletionArgs, command: Command) -> Result<ExitCode, CompletionError> {
    print(io::stdout().lock(), &script(args.shell, command)).map_err(CompletionError)?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell, mut command: Command) -> String {
    let (name, mut text) = (command.get_name().to_owned(), Vec::new());
    generate(shell, &mut command, name, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::super::Cli;
    use super::*;

    #[test]
    fn scripts_contain_all_commands_and_flags() {
        for shell in Shell::value_variants() {
            let text = script(*shell, Cli::command());
            for command in Cli::command().get_subcommands() {
                assert!(text.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(text.contains("operator-namespace") && text.contains("meshwright"), "{shell}");
        }
    }
}
