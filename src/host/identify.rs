//! Facts about an open file, its file system and its device.
