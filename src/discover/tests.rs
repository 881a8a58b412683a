mod devices;
mod directories;
mod world;
