//! Reach what lies beneath an open directory, and never anything else.
