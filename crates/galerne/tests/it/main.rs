//! The whole program under test: in memory with paused time, and as a process.

mod demo;
mod relay_basics;
mod world;
