//! Wipe: the queue of volumes to clean and the ways to do it.
