//! Grow a mounted file system in place.
