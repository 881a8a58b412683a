pub(crate) mod world;

mod lost;
mod rules;
mod sizes;
mod storm;
