//! The configuration tree from outside: whole trees in a temporary root.

mod every_key;
mod files;
mod flow_tables;
mod fuzz;
mod keys;
mod load;
mod manual;
mod rights;
mod samples;
mod services;
mod world;
