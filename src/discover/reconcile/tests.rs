pub(crate) mod world;

mod rules;
mod sizes;
mod storm;
