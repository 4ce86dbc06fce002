//! Shows a page in the user's browser.

use super::super::global::Global;
use std::path::Path;
use std::process::{Command, Stdio};

/// Opens `page` by the desktop's own means, without waiting for the browser to close.
pub fn page(page: &Path, global: &Global) {
    let opener = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    // The browser may write to its terminal for as long as it runs.
    let mut command = Command::new(opener);
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        let page = page.display();
        global.warn(format_args!(
            "{page} cannot be opened, since {opener} does not start ({error}); open it yourself"
        ));
    }
}
