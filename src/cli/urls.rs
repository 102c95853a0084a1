//! Files of URLs: one a line, blanks and `#` comments left out.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::record::UrlTask;
use crate::web::url::normalise;

/// The lines that are meant, in order. What is no URL stays: it becomes a record like the others and fails with a name.
pub fn read(file: &Path) -> Result<Vec<String>> {
    let mut bytes = vec![];
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read URLs from stdin")?;
    } else {
        bytes = std::fs::read(file).with_context(|| format!("cannot read URLs from {}", file.display()))?;
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    Ok(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect())
}

/// A line as a task, spelled as it will be fetched, so that its key is the host's; what is no URL stays as it is and
/// fails with a name.
pub fn task(line: &str, force: bool) -> UrlTask {
    UrlTask { force, ..UrlTask::new(normalise(line).map_or_else(|_| line.to_owned(), String::from)) }
}

/// Names a list of URLs: the same list, the same digest.
pub fn digest(urls: &[String]) -> String {
    let mut hash = Sha256::new();
    for url in urls {
        hash.update(url.as_bytes());
        hash.update(b"\n");
    }
    hex::encode(&hash.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_are_no_urls_and_garbage_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xef\xbb\xbfhttp://a/\r\n\n# no\n  http://b/ \nnot a url\n\xff\xfe\n").unwrap();
        assert_eq!(read(file.path()).unwrap(), ["http://a/", "http://b/", "not a url", "\u{fffd}\u{fffd}"]);
    }
}
