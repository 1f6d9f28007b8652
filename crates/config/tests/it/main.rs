//! The configuration tree from outside: whole trees in a temporary root.

mod every_key;
mod files;
mod fuzz;
mod load;
mod manual;
mod rights;
mod samples;
mod world;
