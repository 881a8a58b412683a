mod devices;
mod directories;
mod hangs;
mod world;
