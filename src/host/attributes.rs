//! Owner, mode, extended attributes and inode flags of an open file.
