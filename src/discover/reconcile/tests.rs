pub(crate) mod world;

mod gone;
mod lost;
mod rules;
mod sizes;
mod storm;
