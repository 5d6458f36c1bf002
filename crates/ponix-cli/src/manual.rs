//! What shells and `man` know of the commands.

use std::io::{Write as _, stdout};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{End, print};

/// Prints the completions of a shell.
pub(crate) fn completions<C: CommandFactory>(shell: Shell) -> End {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    // Nobody need read to the end.
    let _ = stdout().write_all(&text);
    End::Done
}

/// Prints the manual page, or writes one for each command into a folder.
pub(crate) fn pages<C: CommandFactory>(dir: Option<&Path>) -> End {
    let Some(dir) = dir else {
        let mut text = Vec::new();
        let rendered = Man::new(C::command()).render(&mut text);
        if rendered.is_ok() {
            let _ = stdout().write_all(&text);
        }
        return End::Done;
    };
    let written =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(C::command(), dir));
    match written {
        Ok(()) => End::Done,
        Err(err) => {
            print::error(&format!("{} cannot be written: {err}", dir.display()));
            End::Refused
        }
    }
}
