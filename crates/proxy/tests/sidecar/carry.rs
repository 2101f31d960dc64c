//! Calls that are carried to the upstream.

mod bodies;
mod chaos;
mod downloads;
mod fidelity;
mod hang_ups;
mod leases;
mod lost;
mod memory;
mod operations;
mod outcomes;
mod owners;
mod reads;
mod restart;
mod slots;
mod transparency;
mod wire;
