//! Whether a mount table that was read is still so: the open file tells (proc_pid_mounts(5)).

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The file that a table was read from, which tells of changes since it was opened. It is no part of what a table says.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin(Option<Arc<(File, AtomicBool)>>);

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Origin {
    /// Whether nothing has changed since it was opened.
    pub(super) fn is_current(&self) -> bool {
        let Some((file, changed)) = self.0.as_deref() else { return false };
        let mut asked = [PollFd::new(file, PollFlags::PRI)];
        // The kernel tells of a change once.
        let news = poll(&mut asked, Some(&Timespec::default())) != Ok(0);
        !(changed.fetch_or(news, Ordering::SeqCst) || news)
    }
}

impl From<File> for Origin {
    /// `file` was opened before the table was read.
    fn from(file: File) -> Self {
        Self(Some(Arc::new((file, AtomicBool::new(false)))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MountTable;
    use crate::host::mount::fixture::{scratch, tmpfs, unmount};
    use crate::host::namespace::isolated;

    #[test]
    fn a_table_is_current_until_something_is_mounted_or_unmounted_and_never_again() {
        isolated(|| {
            let (_guard, base) = scratch();
            let path = base.join("v1");
            let before = MountTable::read().unwrap();
            let at_first = [before.is_current(), before.is_current()];

            tmpfs(&path);
            let between = MountTable::read().unwrap();
            unmount(&path);

            assert_eq!(at_first, [true, true]);
            assert_eq!([&before, &before, &between].map(MountTable::is_current), [false; 3]);
            assert!(MountTable::read().unwrap().is_current());
        });
    }
}
