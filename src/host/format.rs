//! Make a file system, by mkfs.ext4 or mkfs.xfs.
