//! A lock on a file (flock(2)), held as long as the value lives and no longer.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};

/// An open file that this process alone has locked. The kernel frees it when the process dies, however it does.
///
/// It is unlocked when this is dropped, and not only closed: a child process that another thread starts has a copy of the
/// descriptor until it becomes another program, and would hold the lock for that long.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Waits for the lock.
    pub fn wait(file: File) -> io::Result<FileLock> {
        file.lock()?;
        Ok(FileLock(file))
    }

    /// Takes the lock; `WouldBlock` if somebody holds it.
    pub fn take(file: File) -> Result<FileLock, TryLockError> {
        file.try_lock()?;
        Ok(FileLock(file))
    }
}

impl Deref for FileLock {
    type Target = File;
    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for FileLock {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing does it too, later.
        let _not_locked = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_free_again_at_once_though_a_copy_of_the_descriptor_is_still_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = FileLock::take(File::create(&path).unwrap()).unwrap();
        let copy = held.try_clone().unwrap();
        assert!(matches!(FileLock::take(File::open(&path).unwrap()), Err(TryLockError::WouldBlock)));
        drop(held);
        FileLock::take(File::open(&path).unwrap()).unwrap();
        drop(copy);
    }
}
