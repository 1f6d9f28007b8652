//! What outlives the process and the machine: the queue under `kill -9`, power cuts, and disks that
//! fail (QUEUE-5 to QUEUE-8, T-30 to T-36). docs/durability.md tells the whole.
//!
//! A test starts this binary again, as a child that runs one of the ignored tests named `child_…`:
//! only a process of its own can be killed, or have a layer under its calls.
//!
//! `GALERNE_LONG=1` tries much more; scripts/long does.

mod child;
mod faults;
mod group;
mod help;
mod kill;
mod power;
mod replay;
