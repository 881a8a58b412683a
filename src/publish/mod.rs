//! Mount: stage, publish, unpublish, unstage, statistics, formatting and expansion.
