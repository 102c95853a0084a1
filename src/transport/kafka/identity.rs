//! The stable name of a process: the same after a restart, and nobody else's. By it a member comes back to its partitions
//! (KIP-345) and settles the transactions of its former life (KIP-98).

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::file_lock::FileLock;
use crate::transport::{Result, TransportError};

/// Processes that may share a data folder.
const SLOTS: usize = 1024;

/// A name, held as long as this lives.
pub struct Identity {
    pub name: String,
    _slot: FileLock,
}

/// Host, data folder, and the first number that no other process on that folder has: `host-1f0c-0`.
pub fn identify(data: &Path) -> Result<Identity> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let host = host.map_or_else(|_| "localhost".to_owned(), |h| h.trim().to_owned());
    let refused = |e: std::io::Error, what: &Path| {
        TransportError::Fatal(format!("cannot use {}: {e}; name a folder with --data", what.display()))
    };
    std::fs::create_dir_all(data).map_err(|e| refused(e, data))?;
    // Two folders on one host are two installations.
    let folder = data.canonicalize().map_err(|e| refused(e, data))?;
    let folder = crc32fast::hash(folder.as_os_str().as_encoded_bytes()) & 0xffff;
    for slot in 0..SLOTS {
        let path = data.join(format!("member-{slot}.lock"));
        let file = File::create(&path).map_err(|e| refused(e, &path))?;
        match FileLock::take(file) {
            Ok(locked) => return Ok(Identity { name: format!("{host}-{folder:04x}-{slot}"), _slot: locked }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(refused(e, &path)),
        }
    }
    Err(TransportError::Fatal(format!("{SLOTS} processes use {} already", data.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_on_one_folder_have_different_names_and_a_name_comes_back() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = identify(data.path()).unwrap();
        assert_ne!(first.name, identify(data.path()).unwrap().name);
        assert_ne!(first.name, identify(other.path()).unwrap().name);
        let name = first.name.clone();
        drop(first);
        assert_eq!(identify(data.path()).unwrap().name, name);
    }
}
