//! What is on a block device: magic numbers of file systems, partition tables and volume formats.
