//! Give to one: the index of free volumes, best fit, claim and release.
