//! Models by name: folders, embedded ones, and repositories in the cache that other programs filled; nothing is fetched.

mod cache;
pub mod embedded;
mod environment;
mod name;
mod nearly;
mod repository;

pub use cache::own as own_cache;
pub use name::{Folder, Name};
pub use nearly::{again, download, lacks};

/// What a file that is no model file looks like, from its first bytes: what broken downloads leave.
pub fn recognise(head: &[u8]) -> Option<&'static str> {
    // Binary files may begin with bytes that are white space and a bracket, but not with these words.
    const PAGES: [&[u8]; 7] = [b"<!", b"<?", b"<html", b"<HTML", b"<head", b"<HEAD", b"<Error"];
    let text = head.trim_ascii_start();
    if head.is_empty() {
        Some("the file is empty; download it again")
    } else if head.starts_with(b"version https://git-lfs") {
        Some("this is a git-lfs pointer, not the file itself; run git lfs pull")
    } else if PAGES.iter().any(|page| text.starts_with(page)) {
        Some("this is an HTML or XML page, not a model file; download the file itself")
    } else {
        None
    }
}
