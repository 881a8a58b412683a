//! Events that say that the host has changed: mounts, directories, devices.
