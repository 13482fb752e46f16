//! Man pages and shell completions, made of the command line's own declaration, so that they can't miss a command or an option.
//! Packages ship them; `packaging/build.sh` calls this.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;

const NAME: &str = "telemetryx-agent";

/// Writes a page for the program and one for each of its commands, and what bash, zsh and fish complete with.
pub fn write(command: Command, to: &Path) -> std::io::Result<()> {
    let (man, completions) = (to.join("man"), to.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    let mut shown = without_hidden(&command);
    clap_mangen::generate_to(command, &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = clap_complete::generate_to(shell, &mut shown, NAME, &completions)?;
        if shell == Shell::Bash {
            let text = std::fs::read_to_string(&script)?;
            std::fs::write(&script, with_one_name(&text))?;
        }
    }
    Ok(())
}

/// NOTE: in bash's script clap_complete 4.6 writes the hyphen of a program's name in two ways, so that no command's options are ever found.
fn with_one_name(script: &str) -> String {
    script.replace("telemetryx__subcmd__agent", "telemetryx__agent")
}

/// The completion scripts would offer hidden commands too.
fn without_hidden(command: &Command) -> Command {
    Command::new(NAME)
        .version(command.get_version().unwrap_or_default().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_neither_completed_nor_described() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new(NAME)
            .subcommand(Command::new("status").about("How it is"))
            .subcommand(Command::new("secret").hide(true));
        write(command, folder.path()).unwrap();

        assert!(folder.path().join("man/telemetryx-agent-status.1").exists());
        assert!(!folder.path().join("man/telemetryx-agent-secret.1").exists());
        for shell in ["_telemetryx-agent", "telemetryx-agent.bash", "telemetryx-agent.fish"] {
            let script = std::fs::read_to_string(folder.path().join("completions").join(shell)).unwrap();
            assert!(script.contains("status") && !script.contains("secret"), "{shell}");
        }
    }
}
